# SPDX-License-Identifier: Apache-2.0
"""Examples: pieces of documents as an objective wants them, and what they draw."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from preprocessing.foundation.fingerprints import mix, order_hash, seed_word, word_of
from preprocessing.foundation.seed_purposes import ExampleDraw, Purpose


@dataclass(frozen=True)
class Examples:
    """What documents became; examples of a document follow one another.

    Attributes:
        ids: ids of all examples one after another, unsigned [sum of lengths].
        lengths: ids of each example, int64 [n].
        document: index of its document, int64 [n].
        start: index of its first id among the document's ids, [BOS] and EOS counted,
            as if the document were not cut: int64 [n], 0 for the first example.
        prefix: leading ids that are only read, int64 [n].
        too_long: documents left out, as (index, ids found, ids that fit).
    """

    ids: np.ndarray
    lengths: np.ndarray
    document: np.ndarray
    start: np.ndarray
    prefix: np.ndarray
    too_long: tuple[tuple[int, int, int], ...] = ()

    @property
    def first(self) -> np.ndarray:
        """Which examples are their document's first, bool [n]."""
        return self.start == 0


def pieces(lengths: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts runs of ids into pieces of `room` ids, each id in exactly one.

    A last piece of one id, which could be no target, takes one from the piece before.

    Args:
        lengths: ids of each run, int64 [n]; an empty one makes one empty piece.
        room: ids of a full piece, 3 or more.

    Returns:
        (run, start, length) of each piece, int64 [pieces], in the runs' order.
    """
    lengths = np.asarray(lengths, np.int64)
    counts = np.maximum(-(-lengths // room), 1)
    run = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(run)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = number * room
    start -= (number > 0) & (start == lengths[run] - 1)
    last = number == counts[run] - 1
    end = np.where(last, lengths[run], np.append(start[1:], 0))
    return run, start, end - start


def joined(
    pool: np.ndarray, runs: Sequence[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """Joins runs of a pool of ids, example by example.

    Args:
        pool: ids.
        runs: (where each example's run begins, how long it is), int64 [n] twice, of
            which any may be 0; one pair for each place of an example.

    Returns:
        The ids of all examples, one after another.
    """
    starts = np.stack([start for start, _ in runs], axis=1).ravel()
    lengths = np.stack([length for _, length in runs], axis=1).ravel()
    shifts = starts - (np.cumsum(lengths) - lengths)
    index = np.repeat(shifts, lengths)
    index += np.arange(len(index))
    return pool.take(index)


def example_words(seed: int, keys: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Returns what each example draws from, uint64 [n].

    It depends on the seed, the document and the piece alone, so not on which worker
    makes the example, with which others, or how often.

    Args:
        seed: the dataset's.
        keys: the key of each example's document, uint8 [n, 16].
        start: where its piece begins in the document, int64 [n].
    """
    words = order_hash(int(seed_word(seed, Purpose.EXAMPLES)), keys)
    return mix(words ^ mix(start.astype(np.uint64)))


def draw(words: np.ndarray, what: ExampleDraw) -> np.ndarray:
    """Returns what each word gives for one of its objective's draws, uint64 [n]."""
    return mix(words ^ word_of(what))


def uniform(drawn: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Turns draws into integers from 0 to `below` - 1, int64 [n]; below < 2^32."""
    high = drawn >> np.uint64(32)
    return ((high * below.astype(np.uint64)) >> np.uint64(32)).astype(np.int64)


def share(drawn: np.ndarray) -> np.ndarray:
    """Turns draws into numbers of 53 bits from 0 to below 1, float64 [n]."""
    return (drawn >> np.uint64(11)) * 2.0**-53
