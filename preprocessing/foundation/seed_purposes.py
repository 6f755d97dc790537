# SPDX-License-Identifier: Apache-2.0
"""What seeds are drawn for: each purpose has its number, and each number one purpose.

Two purposes of one number would draw the same, so that, say, the documents that own
repeated lines were those whose pieces are rearranged. A number in use never changes:
the bytes of datasets follow from it. A new purpose takes the next. Numbers begin anew
under `--near_seed`, a seed of its own, and for each objective, which draws from words
of its own. (With both seeds equal, MinHash permutes by the words that order and split
documents: hashes of shingles by the one, keys by the other, which never meet.)

What `fingerprints.word_of` mixes without a purpose: the rows of a window are shuffled
by (seed, shard, split), then the part and the window. There the shard stands where a
purpose would; a number of its own would change every dataset.

Streams of training and generation are told apart by words, not by numbers: orders of
rows ("blocks", "rows" and "mixture" in `trainer.data.row_order`), weights (by their
path in the model), dropout (by layer and global row), a prompt's answer (by its id).
"""

from enum import IntEnum, unique


@unique
class Purpose(IntEnum):
    """What the seed of a dataset, of a tokenizer's sample or of a run is drawn for.

    Attributes:
        ORDER: the order of documents, and so their shards; a tokenizer's sample.
        SPLIT: which documents go to the validation split.
        EXAMPLES: what objectives draw, a word for each example.
        LINE_OWNERS: which of the documents with an equal line keeps it.
        MIXED_DATASETS: seeds of datasets trained on together, but the first's.
    """

    ORDER = 1
    SPLIT = 2
    EXAMPLES = 3
    LINE_OWNERS = 4
    MIXED_DATASETS = 5


@unique
class NearPurpose(IntEnum):
    """What `--near_seed` is drawn for, a seed beside the dataset's.

    Attributes:
        MULTIPLIERS: the factors of MinHash's permutations.
        SHIFTS: what they add.
    """

    MULTIPLIERS = 1
    SHIFTS = 2


@unique
class PrefixDraw(IntEnum):
    """What an example of the prefix objective is drawn for.

    Attributes:
        LENGTH: how many ids are read, not predicted.
    """

    LENGTH = 0


@unique
class SpanCorruptionDraw(IntEnum):
    """What an example of span corruption is drawn for.

    Attributes:
        BORDERS: where spans begin and end; the word goes on from there.
    """

    BORDERS = 0


@unique
class FillInMiddleDraw(IntEnum):
    """What an example of fill in the middle is drawn for.

    Attributes:
        MOVE: whether the middle is moved.
        FORM: whether the suffix comes first.
        ONE_CUT: where the middle begins or ends.
        OTHER_CUT: where it ends or begins.
    """

    MOVE = 0
    FORM = 1
    ONE_CUT = 2
    OTHER_CUT = 3


ExampleDraw = PrefixDraw | SpanCorruptionDraw | FillInMiddleDraw
