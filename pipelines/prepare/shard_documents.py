# SPDX-License-Identifier: Apache-2.0
"""The documents of one shard, in the seed's order and in parts that fit in memory.

    blobs -> rows of one part -> duplicates out -> in order -> train | validation

A part is a range of the order. How many there are follows from the bytes gathered, so
from input and configuration alone; usual documents make one. Where an objective makes
several examples of a document, a row is an example, and they stay together.
"""

from dataclasses import dataclass, field

import numpy as np

from pipelines.duplicates.exact_duplicates import validates
from pipelines.job.blobs import Arrays, from_bytes, take
from pipelines.job.columns import document_columns, empty, own_ids
from pipelines.job.plan import Job
from pipelines.job.shuffle import count_parts, gather
from preprocessing.foundation.fingerprints import order_hash, split_hash

VALIDATION = "validation"


@dataclass
class ShardInput:
    """What is gathered for one shard, still as Beam values."""

    documents: list[bytes] = field(default_factory=list)
    dropped: list[bytes] = field(default_factory=list)
    forced: list[bytes] = field(default_factory=list)


class ShardDocuments:
    """Gives a shard's documents by part and split; holds one part at a time."""

    def __init__(self, job: Job, index: int, gathered: ShardInput) -> None:
        self._job, self._index, self._gathered = job, index, gathered
        values = gathered.documents + gathered.dropped
        self.parts = count_parts(values, job.config.sizes.shard_part_bytes)
        self._number: int | None = None
        self._rows: Arrays = {}
        self._order = np.zeros(0, np.int64)
        self._chosen = np.zeros(0, bool)
        self._dropped: dict[int, tuple[int, int]] = {}

    @property
    def dropped_documents(self) -> int:
        """Documents left out of the parts given so far."""
        return sum(documents for documents, _ in self._dropped.values())

    @property
    def dropped_tokens(self) -> int:
        """Their ids."""
        return sum(tokens for _, tokens in self._dropped.values())

    def part(self, number: int, split: str) -> Arrays:
        """Returns one part's documents of a split, in the seed's order."""
        if self._number != number:
            self._rows = {}  # before the next part comes
            self._load(number)
            self._number = number
        mine = self._chosen if split == VALIDATION else ~self._chosen
        # Rows lie as they were gathered: the order is applied with the choice.
        return take(self._rows, self._order[mine])

    def _load(self, number: int) -> None:
        job, work = self._job, self._job.work
        place = self._index * self.parts + number

        def within(rows: Arrays) -> np.ndarray:
            hashes = order_hash(job.config.seed, rows["keys"])
            return job.ranges(hashes, self.parts) == place

        rows = gather(work, self._gathered.documents, within) or _no_documents(job)
        dropped = gather(work, self._gathered.dropped, within)
        duplicates = _is_dropped(rows, dropped)
        documents = _firsts(rows) & duplicates
        self._dropped[number] = (
            int(documents.sum()),
            int(rows["lengths"][duplicates].sum()),
        )
        order = _order(job, rows)
        self._order = order[~duplicates[order]]
        self._chosen = _chosen(job, rows, self._gathered.forced)[self._order]
        self._rows = rows


def _order(job: Job, rows: Arrays) -> np.ndarray:
    """Returns the documents' places in the seed's order, int64 [n].

    Two keys may share a hash and two documents a key (a repeated id), so the order is
    made whole by the rest of what names a document.
    """
    hashes = order_hash(job.config.seed, rows["keys"])
    words = np.ascontiguousarray(rows["keys"]).view(">u8").astype(np.uint64)
    names = (rows["offsets"], words[:, 1], words[:, 0], hashes)
    # Of a document's examples the start is the last that tells them apart.
    return np.lexsort((rows["start"], *names) if "start" in rows else names)


def _firsts(rows: Arrays) -> np.ndarray:
    """Tells which rows are a document's first or only example, bool [n]."""
    if "start" in rows:
        return rows["start"] == 0
    return np.ones(len(rows["keys"]), bool)


def _chosen(job: Job, rows: Arrays, forced: list[bytes]) -> np.ndarray:
    """Tells which documents go to validation, bool [n]."""
    chosen = validates(job, split_hash(job.config.seed, rows["keys"]))
    for blob in forced:
        chosen |= (rows["keys"] == from_bytes(blob)["keys"]).all(axis=1)
    return chosen


def _is_dropped(rows: Arrays, dropped: Arrays | None) -> np.ndarray:
    """Tells which rows are among `dropped`, by key and offset, bool [n]."""
    if dropped is None:
        return np.zeros(len(rows["keys"]), bool)
    return np.isin(_names(rows), _names(dropped))


def _names(rows: Arrays) -> np.ndarray:
    """Returns (key, offset) of each row as one comparable value."""
    offsets = np.ascontiguousarray(rows["offsets"], ">i8").view(np.uint8)
    names = np.hstack([rows["keys"], offsets.reshape(-1, 8)])
    # Three big-endian words compare as a record; bytes would lose trailing zeros.
    words = np.ascontiguousarray(names).view(">u8").astype("<u8")
    return np.ascontiguousarray(words).view([("a", "<u8"), ("b", "<u8"), ("c", "<u8")])[
        :, 0
    ]


def _no_documents(job: Job) -> Arrays:
    none = empty(document_columns(job.config))
    if job.config.mixture is not None:
        none["own_ids"] = own_ids([])
    return none | {"ids": np.zeros(0, job.config.layout.token_dtype)}
