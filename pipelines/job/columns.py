# SPDX-License-Identifier: Apache-2.0
"""The columns that travel between stages: their names, types and bytes a row.

Each kind of row is one NumPy type, whose fields are the columns of `Arrays` in order
and whose `itemsize` is what a row takes. Rows of documents have their ids besides,
`lengths` of them each, one after another in a column of its own. Fingerprints, and a
mixture's documents, have the documents' own ids besides, for the rejects that name
them: bytes of UTF-8, as wide as the longest of a blob.
"""

from collections.abc import Iterable

import numpy as np

from pipelines.job.blobs import Arrays
from pipelines.job.plan import PrepareConfig
from preprocessing.foundation.fingerprints import KEY_BYTES

_Field = tuple[str, type] | tuple[str, type, int]
_KEY: _Field = ("keys", np.uint8, KEY_BYTES)
_HASH: _Field = ("hashes", np.uint8, KEY_BYTES)
_PLACE: list[_Field] = [("offsets", np.int64), ("files", np.int32)]
_EXAMPLE: list[_Field] = [("start", np.int64), ("prefix", np.int64)]

# A document on its way to its shard, and the columns of an objective's example of it.
DOCUMENT = np.dtype([_KEY, *_PLACE, ("text_bytes", np.int64), ("lengths", np.int64)])
EXAMPLE = np.dtype([*DOCUMENT.descr, *_EXAMPLE])
# What duplicates are found by, and where the sets of shingles lie: the file, its words
# that are the document's, their CRC32C.
FINGERPRINT = np.dtype([_KEY, _HASH, *_PLACE, ("sizes", np.int64)])
SHINGLES = np.dtype(
    [
        (f"shingle_{name}", np.int64)
        for name in ("task", "batch", "start", "count", "checksum")
    ]
)
# A document, or the end of a pair, as near duplicates know it; and its band.
END = np.dtype([_KEY, ("sizes", np.int64), *_PLACE])
BAND = np.dtype([_HASH, ("band", np.uint16)])
# A line, by its hash; and one that a task has to drop.
LINE = np.dtype(
    [_HASH, ("ranks", np.uint64), *_PLACE, ("lines", np.int32), ("tasks", np.int32)]
)
DROPPED_LINE = np.dtype(
    [("files", np.int32), ("offsets", np.int64), ("lines", np.int32)]
)
# A document to drop; the best validator of a bucket, and how many documents it has.
DROPPED = np.dtype([_KEY, ("offsets", np.int64)])
CANDIDATE = np.dtype([_KEY, ("documents", np.int64)])
# Where a segment of a packed row comes from.
SEGMENT = np.dtype(
    [
        ("row", np.int64),
        ("segment", np.int32),
        *((name, np.int64) for name in ("document", "start", "length")),
    ]
)


def document_columns(config: PrepareConfig) -> np.dtype:
    """Returns the columns of a job's rows of documents, their ids left out."""
    return DOCUMENT if config.objective.name == "causal" else EXAMPLE


def fingerprint_columns(config: PrepareConfig) -> np.dtype:
    """Returns the columns of a job's fingerprints."""
    columns = list(FINGERPRINT.descr)
    if "near" in config.deduplicate:
        columns.append(("bands", "|u1", (config.near.bands * KEY_BYTES,)))
        columns += SHINGLES.descr if config.near.jaccard else []
    return np.dtype(columns)


# Bytes of an id that rejects keep: some are whole addresses, and all rows are as wide.
MOST_ID = 256


def own_ids(ids: Iterable[str | None]) -> np.ndarray:
    """Returns documents' own ids as a column, bytes [n]; empty where one has none."""
    return np.array([cut_id(name or "").encode() for name in ids], np.bytes_)


def cut_id(name: str) -> str:
    """Returns an id as rejects keep it: 256 bytes at most."""
    if len(name) * 4 <= MOST_ID:
        return name  # as a rule
    return name.encode()[:MOST_ID].decode(errors="ignore")


def names(columns: np.dtype) -> tuple[str, ...]:
    """Returns the columns' names, in order."""
    return columns.names or ()


def empty(columns: np.dtype) -> Arrays:
    """Returns no rows."""
    return {name: np.zeros(0, columns[name]) for name in names(columns)}


def rows_of(columns: np.dtype, arrays: Arrays) -> Arrays:
    """Returns arrays as rows of these columns, in their order.

    Raises:
        ValueError: a column lacks, or has another type: what a stage sends would not
            be what the next one reads.
    """
    for name in names(columns):
        found = np.dtype((arrays[name].dtype, arrays[name].shape[1:]))
        if found != columns[name]:
            raise ValueError(f"wanted {name} as {columns[name]}, found {found}")
    return {name: arrays[name] for name in names(columns)}


def row_bytes(rows: Arrays) -> int:
    """Returns the bytes of one row; every column is one value or vector a row."""
    return sum(
        column.itemsize * int(np.prod(column.shape[1:], dtype=np.int64))
        for column in rows.values()
    )
