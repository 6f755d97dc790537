# SPDX-License-Identifier: Apache-2.0
"""Of rows that share a hash one stays: the smallest by a rank; in bounded memory.

    bucket -> parts by hash -> small: sorted whole
                            -> large, one hash repeated millions of times:
                               its winners first, then its rows in parts by rank

Parts, and so the order of what is yielded, follow from the rows alone.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines import plan
from pipelines.blobs import Arrays, drained, from_bytes, take
from pipelines.gather import Within, count_parts, gather
from pipelines.plan import Job
from pipelines.shuffle import receive
from preprocessing.fingerprints import mix

_ROW_BYTES = 44


@dataclass(frozen=True)
class Verdict:
    """Some rows judged: those kept, those lost, and for each lost one its winner."""

    kept: Arrays
    lost: Arrays
    owners: Arrays


def judge(
    job: Job, values: Sequence[bytes], group: str, rank: str
) -> Iterator[Verdict]:
    """Yields a bucket's verdicts, a part at a time.

    Args:
        job: the job.
        values: the bucket's fingerprints.
        group: the column of hashes, "keys" or "hashes", by which rows are equal.
        rank: "offsets" or "keys", unique in a group: the smallest stays.
    """
    parts = count_parts(values, plan.BUCKET_PART_BYTES)
    counts = _counts(job, values, group, parts)
    for part in np.flatnonzero(counts).tolist():
        pieces = max(1, round(counts[part] * _ROW_BYTES / plan.BUCKET_PART_BYTES))
        in_part = functools.partial(_in_part, job, group, parts, part)
        winners = None
        if pieces > 1:
            winners = _winners(job, values, in_part, group, rank)
        for piece in range(pieces):
            within = functools.partial(_in_piece, in_part, rank, pieces, piece)
            rows = gather(job.work, values, within)
            if rows is not None:
                yield _verdict(rows, winners, group, rank)


def _in_part(job: Job, group: str, parts: int, part: int, rows: Arrays) -> np.ndarray:
    return job.buckets(rows[group], parts) % parts == part


def _in_piece(
    in_part: Within, rank: str, pieces: int, piece: int, rows: Arrays
) -> np.ndarray:
    mine = plan.ranges(mix(_rank(rows, rank)[-1]), pieces) == piece
    return mine & in_part(rows)


def _counts(job: Job, values: Sequence[bytes], group: str, parts: int) -> np.ndarray:
    """Returns the rows in each part, int64 [parts]."""
    counts = np.zeros(parts, np.int64)
    for value in values:
        rows = from_bytes(receive(job.work, [value])[0])
        place = job.buckets(rows[group], parts) % parts
        counts += np.bincount(place, minlength=parts)
    return counts


def _winners(
    job: Job, values: Sequence[bytes], within: Within, group: str, rank: str
) -> Arrays:
    """Returns the row that stays of each group, reading the rows bit by bit."""
    held: list[Arrays] = []
    count = 0
    for value in values:
        rows = gather(job.work, [value], within)
        if rows is None:
            continue
        held.append(rows)
        count += len(rows[group])
        if count * _ROW_BYTES > plan.BUCKET_PART_BYTES:
            held, count = [_firsts(drained(held), group, rank)], 0
    return _firsts(drained(held), group, rank)


def _firsts(rows: Arrays, group: str, rank: str) -> Arrays:
    order, first = _sorted(rows, group, rank)
    return take(rows, order[first])


def _verdict(rows: Arrays, winners: Arrays | None, group: str, rank: str) -> Verdict:
    """Judges rows; `winners`, where given, are all groups', among the rows or not."""
    count = len(rows[group])
    if winners is not None:
        rows = drained([rows, dict(winners)])
    order, first = _sorted(rows, group, rank)
    owners = order[np.flatnonzero(first)[np.cumsum(first) - 1]]
    mine = order < count
    if winners is None:
        kept = order[first]
    else:
        # A winner among the rows is there twice: it is kept, and its twin is ignored.
        same = _equal(rows, order, owners, rank)
        kept, first = order[same & mine], same
    lost = ~first & mine
    return Verdict(take(rows, kept), take(rows, order[lost]), take(rows, owners[lost]))


def _equal(
    rows: Arrays, order: np.ndarray, owners: np.ndarray, rank: str
) -> np.ndarray:
    """Tells which sorted rows have their owner's rank, bool [n]."""
    return np.logical_and.reduce(
        [column[order] == column[owners] for column in _rank(rows, rank)]
    )


def _sorted(rows: Arrays, group: str, rank: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows' places by group and rank, and which start a group, bool [n]."""
    high, low = words(rows[group])
    order = np.lexsort((*_rank(rows, rank), low, high))
    return order, _starts(high[order], low[order])


def _rank(rows: Arrays, rank: str) -> tuple[np.ndarray, ...]:
    """Returns the rank's words, uint64 [n] each, the most significant last."""
    if rank == "offsets":
        return (rows["offsets"].astype(np.uint64),)
    return tuple(reversed(words(rows[rank])))


def words(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns hashes [n, 16] as (high, low) uint64 [n] that sort as the bytes do."""
    both = np.ascontiguousarray(hashes).view(">u8").astype(np.uint64)
    return both[:, 0], both[:, 1]


def _starts(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Tells where a run of equal sorted hashes starts, bool [n]."""
    first = np.ones(len(high), bool)
    first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    return first
