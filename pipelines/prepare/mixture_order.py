# SPDX-License-Identifier: Apache-2.0
"""Which packed row each row of a mixture is, known once every shard is packed.

    packed shards, rows by source      a0 a0 b0 | a1 b1 b1 | ...
    rows of a, in that order           a0 a0 a1 ...        its k-th draw takes row k,
    rows of b                          b0 b1 b1 ...        and the first again after
    order of the training split        a b a a b a ...     the last, once per epoch

The validation split takes every row once. Shards of the mixture are equal ranges of the
order, so each is written without the others.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipelines.job.blobs import Arrays, read_blob, write_blob
from pipelines.job.plan import Job
from pipelines.job.steps import Record, read_records
from pipelines.prepare import pack_shard
from preprocessing.foundation.commands import WorkError


class Rows(NamedTuple):
    """Neighbouring rows of one source in a packed shard.

    Attributes:
        shard: the packed shard.
        first: the first of them in its file.
        length: how many.
        repeated: whether an earlier draw took them already.
    """

    shard: int
    first: int
    length: int
    repeated: bool


@dataclass(frozen=True)
class MixtureOrder:
    """The order of one split.

    Attributes:
        counts: rows that each source gives, int64 [sources].
        edges: the first row of each shard of the mixture and the end, [shards + 1].
        drawn: rows of each source before each shard, int64 [shards, sources].
        runs: neighbouring packed rows of a source, by source and shard: arrays
            `source`, `shard`, `first` in the packed shard's file, `count`, and
            `begin`, its first row's index among the source's rows, int64 [runs].
    """

    counts: np.ndarray
    edges: np.ndarray
    drawn: np.ndarray
    runs: Arrays

    @functools.cached_property
    def available(self) -> np.ndarray:
        """The packed rows of each source, int64 [sources]."""
        return _available(self.runs, len(self.counts))

    def rows(self, source: int, first: int, count: int) -> Iterator[Rows]:
        """Yields where draws `first` to `first + count` of a source find their rows."""
        mine = slice(*np.searchsorted(self.runs["source"], (source, source + 1)))
        begins, available = self.runs["begin"][mine], int(self.available[source])
        while count:
            epoch, place = divmod(first, available)
            run = int(np.searchsorted(begins, place, side="right")) - 1 + mine.start
            within = place - int(self.runs["begin"][run])
            taken = min(count, int(self.runs["count"][run]) - within)
            row = int(self.runs["first"][run]) + within
            yield Rows(int(self.runs["shard"][run]), row, taken, epoch > 0)
            first, count = first + taken, count - taken

    def taken(self, shard: int, rows: int) -> np.ndarray:
        """Tells which of a packed shard's rows are drawn at all, bool [rows]."""
        taken = np.zeros(rows, bool)
        for run in np.flatnonzero(self.runs["shard"] == shard).tolist():
            source, begin, first, count = (
                int(self.runs[name][run])
                for name in ("source", "begin", "first", "count")
            )
            used = min(max(0, int(self.counts[source]) - begin), count)
            taken[first : first + used] = True
        return taken


def order_rows(job: Job) -> None:
    """Writes the order of every split, when all shards are packed.

    Raises:
        WorkError: a source has too few rows for what the mixture asks.
    """
    records = read_records(job, pack_shard.KIND)
    if len(records) != job.shards:
        raise WorkError(
            f"wanted the records of {job.shards} packed shards, found {len(records)}: "
            "the work directory was damaged. Remove the output and run again"
        )
    for split in pack_shard.splits_of(job):
        order = _order(job, split, records)
        write_blob(
            _path(job, split),
            {
                "counts": order.counts,
                "edges": order.edges,
                "drawn": order.drawn,
                **order.runs,
            },
        )


def read_order(job: Job, split: str) -> MixtureOrder:
    """Returns a split's order, which `order_rows` wrote."""
    arrays = read_blob(_path(job, split))
    known = {name: arrays.pop(name) for name in ("counts", "edges", "drawn")}
    return MixtureOrder(**known, runs=arrays)


def _path(job: Job, split: str) -> str:
    return job.path(f"mixture-{split}")


def _order(job: Job, split: str, records: list[Record]) -> MixtureOrder:
    # Imported here: numba costs half a second, and only a mixture needs it.
    from preprocessing.packing.interleave import drawn_before, training_rows

    mixture = job.config.mixture
    assert mixture is not None
    runs = _runs([record["splits"][split]["runs"] for record in records])
    available = _available(runs, len(mixture.sources))
    if split == pack_shard.SPLITS[0]:
        counts = np.array(training_rows(mixture, available.tolist()), np.int64)
    else:
        counts = available
    total = int(counts.sum())
    edges = [total * shard // job.shards for shard in range(job.shards + 1)]
    return MixtureOrder(
        counts=counts,
        edges=np.array(edges, np.int64),
        drawn=drawn_before(counts, edges[:-1]),
        runs=runs,
    )


def _runs(by_shard: list[list[list[int]]]) -> Arrays:
    """Returns `MixtureOrder.runs` from [source, rows] of each shard, in file order."""
    found = []
    for shard, runs in enumerate(by_shard):
        first = 0
        for source, count in runs:
            found.append((source, shard, first, count))
            first += count
    columns = np.array(sorted(found), np.int64).reshape(-1, 4).T
    source, shard, first, count = np.ascontiguousarray(columns)
    before = np.cumsum(count) - count
    starts = np.searchsorted(source, source)  # each source's first run
    begin = before - before[starts] if len(source) else before
    return {
        "source": source,
        "shard": shard,
        "first": first,
        "count": count,
        "begin": begin,
    }


def _available(runs: Arrays, sources: int) -> np.ndarray:
    # Integer sums: bincount's weights are float64, exact below 2^53.
    return np.bincount(runs["source"], runs["count"], sources).astype(np.int64)
