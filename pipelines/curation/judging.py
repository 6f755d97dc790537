# SPDX-License-Identifier: Apache-2.0
"""Of rows that share a hash one stays: the first by a rank; in bounded memory.

    bucket -> parts by hash -> small: sorted whole
                            -> large, one hash repeated millions of times:
                               the first of each hash, then all rows in slices by rank

Parts, and so the order of what is yielded, follow from the rows alone.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.job.blobs import Arrays, drained, from_bytes, take
from pipelines.job.columns import row_bytes
from pipelines.job.plan import Job, ranges
from pipelines.job.shuffle import Within, count_parts, gather, receive
from preprocessing.foundation.fingerprints import mix

Rank = Sequence[str]


@dataclass(frozen=True)
class RowVerdict:
    """Some rows of a bucket: the kept, the dropped, and the owner of each dropped."""

    kept: Arrays
    dropped: Arrays
    owners: Arrays


def judge(
    job: Job, values: Sequence[bytes], group: str, rank: Rank
) -> Iterator[RowVerdict]:
    """Yields a bucket's verdicts, a part or a slice of one at a time.

    Args:
        job: the job.
        values: the bucket's rows, as gathered; all have the same columns.
        group: the column of hashes, uint8 [n, 16], by which rows are equal; the
            bucket is theirs.
        rank: columns, the most significant first, unique together in a group: the
            smallest row stays. Hashes compare as bytes do; other columns are integers
            of 0 or more, and the largest is first where the name follows a minus.
    """
    part_bytes = job.limits.bucket_part_bytes
    parts = count_parts(values, part_bytes)
    counts = _bytes_of_parts(job, values, group, parts)
    for part in np.flatnonzero(counts).tolist():
        slices = max(1, round(counts[part] / part_bytes))
        in_part = functools.partial(_in_part, job, group, parts, part)
        firsts = None
        if slices > 1:
            firsts = _first_of_each(job, values, in_part, group, rank)
        for number in range(slices):
            within = functools.partial(_in_slice, in_part, rank, slices, number)
            rows = gather(job.work, values, within)
            if rows is not None:
                yield _verdict(rows, firsts, group, rank)


def _in_part(job: Job, group: str, parts: int, part: int, rows: Arrays) -> np.ndarray:
    return job.buckets(rows[group], parts) % parts == part


def _in_slice(
    in_part: Within, rank: Rank, slices: int, number: int, rows: Arrays
) -> np.ndarray:
    # All of the rank is mixed: rows of a hot group may differ in its last word alone.
    place = np.zeros(len(rows[rank[-1]]), np.uint64)
    for word in _words_of(rows, rank):
        place = mix(place ^ word)
    return (ranges(place, slices) == number) & in_part(rows)


def _bytes_of_parts(
    job: Job, values: Sequence[bytes], group: str, parts: int
) -> np.ndarray:
    """Returns the bytes of the rows in each part, int64 [parts]."""
    total = np.zeros(parts, np.int64)
    for value in values:
        rows = from_bytes(receive(job.work, [value])[0])
        place = job.buckets(rows[group], parts) % parts
        total += np.bincount(place, minlength=parts) * row_bytes(rows)
    return total


def _first_of_each(
    job: Job, values: Sequence[bytes], within: Within, group: str, rank: Rank
) -> Arrays:
    """Returns the row that stays of each group, reading the rows bit by bit."""
    held: list[Arrays] = []
    size = 0
    for value in values:
        rows = gather(job.work, [value], within)
        if rows is None:
            continue
        held.append(rows)
        size += len(rows[group]) * row_bytes(rows)
        if size > job.limits.bucket_part_bytes:
            held, size = [_firsts(drained(held), group, rank)], 0
    return _firsts(drained(held), group, rank)


def _firsts(rows: Arrays, group: str, rank: Rank) -> Arrays:
    order, first = _sorted(rows, group, rank)
    return take(rows, order[first])


def _verdict(rows: Arrays, firsts: Arrays | None, group: str, rank: Rank) -> RowVerdict:
    """Judges rows; `firsts`, where given, are all groups', among the rows or not."""
    count = len(rows[group])
    if firsts is not None:
        rows = drained([rows, dict(firsts)])
    order, first = _sorted(rows, group, rank)
    owners = order[np.flatnonzero(first)[np.cumsum(first) - 1]]
    mine = order < count
    if firsts is None:
        kept = order[first]
    else:
        # A first among the rows is there twice: it is kept, and its twin is ignored.
        same = _equal(rows, order, owners, rank)
        kept, first = order[same & mine], same
    dropped = ~first & mine
    return RowVerdict(
        take(rows, kept), take(rows, order[dropped]), take(rows, owners[dropped])
    )


def _equal(
    rows: Arrays, order: np.ndarray, owners: np.ndarray, rank: Rank
) -> np.ndarray:
    """Tells which sorted rows have their owner's rank, bool [n]."""
    return np.logical_and.reduce(
        [word[order] == word[owners] for word in _words_of(rows, rank)]
    )


def _sorted(rows: Arrays, group: str, rank: Rank) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows' places by group and rank, and which start a group, bool [n]."""
    high, low = words(rows[group])
    order = np.lexsort((*_words_of(rows, rank), low, high))
    return order, _starts(high[order], low[order])


def _words_of(rows: Arrays, rank: Rank) -> list[np.ndarray]:
    """Returns the rank's words, uint64 [n] each, the most significant last."""
    found: list[np.ndarray] = []
    for name in rank:
        column = rows[name.removeprefix("-")]
        if column.ndim == 2:
            found += words(column)
        elif name.startswith("-"):
            found.append(~column.astype(np.uint64))
        else:
            found.append(column.astype(np.uint64))
    return found[::-1]


def words(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns hashes [n, 16] as (high, low) uint64 [n] that sort as the bytes do."""
    both = np.ascontiguousarray(hashes).view(">u8").astype(np.uint64)
    return both[:, 0], both[:, 1]


def _starts(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Tells where a run of equal sorted hashes starts, bool [n]."""
    first = np.ones(len(high), bool)
    first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    return first
