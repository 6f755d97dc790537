# SPDX-License-Identifier: Apache-2.0
"""The documents of a dataset's split as texts again, for a release to read.

    rows of segments + provenance -> the ids of each document -> its text

A release reads text, and a dataset holds ids, long documents in several pieces. Which
pieces are of one document, and where in it they begin, the provenance says.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from preprocessing.contracts.dataset_files import read_provenance
from preprocessing.contracts.manifest import Manifest, Shard
from preprocessing.contracts.row_segments import row_segments
from preprocessing.contracts.shards import Shards
from preprocessing.foundation.commands import UsageError, WorkError
from preprocessing.tokenizer.tokenizer import Tokenizer

# Rows that are read at a time: 4 MB of ids at 1,024 a row.
_ROWS = 1024
# A piece of a document: where it begins in it, and its ids.
_Piece = tuple[int, np.ndarray]


class SplitText(NamedTuple):
    """A document.

    Attributes:
        text: what its ids say.
        tokens: how many of its ids are targets: all but the first.
        odd: whether its pieces are others than a release makes of the whole.
    """

    text: bytes
    tokens: int
    odd: bool


def check_readable(manifest: Manifest, dataset: str, tokenizer_sha256: str) -> None:
    """Raises `UsageError` for a dataset whose documents a release cannot read again.

    Args:
        manifest: the dataset's.
        dataset: where it is.
        tokenizer_sha256: of the release.
    """
    if manifest.tokenizer_sha256 != tokenizer_sha256:
        raise UsageError(
            f"wanted --data encoded with the release's tokenizer, found another in "
            f"{dataset}. Prepare it with the run's tokenizer.json"
        )
    if manifest.objective != "causal":
        raise UsageError(
            "wanted --data of the objective causal, whose documents are texts that a "
            f"release reads from left to right, found {manifest.objective}. Prepare "
            "another with the run's tokenizer.json"
        )


def split_texts(
    dataset: str, manifest: Manifest, split: str, tokenizer: Tokenizer, length: int
) -> list[SplitText]:
    """Returns the documents of a split, whole: some times its text is held.

    Args:
        dataset: where it is.
        manifest: its manifest.
        split: which split.
        tokenizer: the dataset's.
        length: ids by which a release's windows advance.

    Raises:
        WorkError: a record or the provenance is damaged, or they do not fit.
    """
    shards, first = Shards(dataset, manifest, split), 0
    found: dict[str, list[_Piece]] = defaultdict(list)
    for shard in manifest.splits[split].shards:
        places = _places(dataset, shard)
        for begin in range(first, first + shard.rows, _ROWS):
            rows = np.arange(begin, min(begin + _ROWS, first + shard.rows))
            read = shards.read(rows)
            for offset, row in enumerate(rows.tolist()):
                one = {name: values[offset] for name, values in read.items()}
                for number, segment in enumerate(row_segments(one)):
                    if (row, number) not in places:
                        raise _without_origin(shard.name, row - first)
                    key, start = places[row, number]
                    found[key].append((start, segment.ids))
        first += shard.rows
    return [
        _text(pieces, tokenizer, length)
        for key, same in found.items()
        for pieces in _copies(same, key)
    ]


def _places(dataset: str, shard: Shard) -> dict[tuple[int, int], tuple[str, int]]:
    """Returns (row of the split, segment) -> (document, where in it it begins)."""
    columns = ["row", "segment", "document", "start"]
    table = read_provenance(dataset, shard, columns).to_pydict()
    lines = zip(*(table[name] for name in columns), strict=True)
    return {(row, segment): (key, start) for row, segment, key, start in lines}


def _copies(pieces: list[_Piece], document: str) -> Iterator[list[_Piece]]:
    """Yields the pieces of each copy of a document, in order: it may be there twice."""
    by_start: dict[int, list[_Piece]] = defaultdict(list)
    for piece in pieces:
        by_start[piece[0]].append(piece)
    while by_start:
        copy, start, last = [], 0, False
        while not last:
            if start not in by_start:
                raise WorkError(
                    f"wanted the ids of the document {document} from {start:,} on, "
                    "found none: the provenance is another dataset's. Copy the dataset "
                    "again"
                )
            piece = by_start[start].pop()
            if not by_start[start]:
                del by_start[start]
            copy.append(piece)
            # The next piece begins with this one's last id.
            start += len(piece[1]) - 1
            last = start not in by_start or len(piece[1]) < 2
        yield copy


def _text(pieces: list[_Piece], tokenizer: Tokenizer, length: int) -> SplitText:
    ids = np.concatenate([pieces[0][1], *(each[1:] for _, each in pieces[1:])])
    table = tokenizer.token_bytes()
    odd = any(len(each) != length + 1 for _, each in pieces[:-1])
    odd = odd or len(pieces[-1][1]) > length + 1
    text = b"".join(table[id] for id in ids.tolist() if id < len(table))
    return SplitText(text, len(ids) - 1, odd)


def _without_origin(shard: str, row: int) -> WorkError:
    return WorkError(
        f"wanted the provenance of row {row} of {shard}, found none of one of its "
        "segments. Copy the dataset again, or prepare it again"
    )
