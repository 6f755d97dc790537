# SPDX-License-Identifier: Apache-2.0
"""Which documents lose: repeated ids, then exact duplicates; and who must validate.

    fingerprints by key  -> the first of a repeated id stays      -> losers
    survivors by content -> the smallest key stays                -> losers
    each bucket's best candidate -> one document for validation, if hashing chose none

Losers are (key, offset) pairs sent to the shard that holds the document.
"""

from dataclasses import dataclass, field

import numpy as np

from pipelines.blobs import Arrays, concatenated, from_bytes, to_bytes
from pipelines.plan import Job
from pipelines.rejects import DUPLICATE, REPEATED, RejectFile
from pipelines.shuffle import receive, runs, send
from pipelines.steps import write_record
from pipelines.tokenize_task import Elements, by_bucket
from preprocessing.documents import Reject
from preprocessing.fingerprints import order_hash, split_hash


@dataclass
class Judged:
    """What a bucket gives on: survivors (or candidates) and losers, as elements."""

    survivors: Elements = field(default_factory=list)
    losers: Elements = field(default_factory=list)


def drop_repeated_ids(job: Job, bucket: int, values: list[bytes]) -> Judged:
    """Keeps the first document, by offset, of each key; a key is an id in a file."""
    rows = _gathered(job, values)
    high, low = _words(rows["keys"])
    order = np.lexsort((rows["offsets"], low, high))
    first = _starts(high[order], low[order])
    kept, lost = order[first], order[~first]
    owners = order[np.flatnonzero(first)[np.cumsum(first) - 1][~first]]
    details = [
        f"its id is already at offset {at}" for at in rows["offsets"][owners].tolist()
    ]
    _reject(job, REPEATED, bucket, rows, lost, details)
    survivors = by_bucket(job, _take(rows, kept), "hashes")
    name = f"shuffle/survivors-{bucket:05d}"
    return Judged(
        send(job.transport, job.work, name, survivors),
        _losers(job, f"shuffle/repeated-{bucket:05d}", _take(rows, lost)),
    )


def drop_duplicates(job: Job, bucket: int, values: list[bytes]) -> Judged:
    """Keeps the smallest key of each content; names the bucket's best validator."""
    rows = _gathered(job, values)
    key_high, key_low = _words(rows["keys"])
    high, low = _words(rows["hashes"])
    order = np.lexsort((key_low, key_high, low, high))
    first = _starts(high[order], low[order])
    kept, lost = order[first], order[~first]
    owners = order[np.flatnonzero(first)[np.cumsum(first) - 1][~first]]
    files = job.plan().files
    details = [
        f"the same text as {files[file]} at offset {at}"
        for file, at in zip(
            rows["files"][owners].tolist(),
            rows["offsets"][owners].tolist(),
            strict=True,
        )
    ]
    _reject(job, DUPLICATE, bucket, rows, lost, details)
    name = f"shuffle/duplicates-{bucket:05d}"
    return Judged(
        [(0, _candidate(job, _take(rows, kept)))],
        _losers(job, name, _take(rows, lost)),
    )


def force_validation(job: Job, values: list[bytes]) -> Elements:
    """Returns the document that must validate because hashing chose none, if any.

    Args:
        job: the job.
        values: each bucket's candidate, from `drop_duplicates`.

    Returns:
        At most one element: the document's key, to its shard. With a fraction above 0
        and two documents or more, validation is never empty.
    """
    rows = concatenated([from_bytes(value) for value in values])
    hashes = split_hash(job.config.seed, rows["keys"])
    if rows["documents"].sum() < 2 or not job.config.validation_fraction:
        return []
    best = np.lexsort((*reversed(_words(rows["keys"])), hashes))[:1]
    if validates(job, hashes[best])[0]:
        return []
    key = rows["keys"][best]
    return [(int(shards_of(job, key)[0]), to_bytes({"keys": key}))]


def validates(job: Job, hashes: np.ndarray) -> np.ndarray:
    """Tells which split hashes fall into the validation split, bool [n]."""
    limit = int(job.config.validation_fraction * 2**64)
    return hashes < np.uint64(min(limit, 2**64 - 1))


def shards_of(job: Job, keys: np.ndarray) -> np.ndarray:
    """Returns the shard that holds each key, int64 [n]."""
    return job.ranges(order_hash(job.config.seed, keys))


def _gathered(job: Job, values: list[bytes]) -> Arrays:
    return concatenated([from_bytes(blob) for blob in receive(job.work, values)])


def _take(rows: Arrays, index: np.ndarray) -> Arrays:
    return {name: column[index] for name, column in rows.items()}


def _words(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns hashes [n, 16] as (high, low) uint64 [n] that sort as the bytes do."""
    words = np.ascontiguousarray(hashes).view(">u8").astype(np.uint64)
    return words[:, 0], words[:, 1]


def _starts(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Tells where a run of equal sorted hashes starts, bool [n]."""
    first = np.ones(len(high), bool)
    first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    return first


def _losers(job: Job, name: str, rows: Arrays) -> Elements:
    shards = shards_of(job, rows["keys"])
    order = np.argsort(shards, kind="stable")
    keys, offsets = rows["keys"][order], rows["offsets"][order]
    blobs = [
        (shard, to_bytes({"keys": keys[at], "offsets": offsets[at]}))
        for shard, at in runs(shards[order], np.full(len(order), 24, np.int64))
    ]
    return send(job.transport, job.work, name, blobs) if blobs else []


def _candidate(job: Job, kept: Arrays) -> bytes:
    hashes = split_hash(job.config.seed, kept["keys"])
    best = np.lexsort((*reversed(_words(kept["keys"])), hashes))[:1]
    count = np.array([len(hashes)], np.int64)
    return to_bytes({"keys": kept["keys"][best], "documents": count})


def _reject(
    job: Job,
    reason: str,
    bucket: int,
    rows: Arrays,
    lost: np.ndarray,
    details: list[str],
) -> None:
    """Writes the losers to their file of rejects and leaves the bucket's record."""
    files = job.plan().files
    with RejectFile(job.output, f"{reason}-{bucket:05d}") as rejects:
        rejects.write(
            Reject(reason, files[file], offset, detail)
            for file, offset, detail in zip(
                rows["files"][lost].tolist(),
                rows["offsets"][lost].tolist(),
                details,
                strict=True,
            )
        )
    write_record(
        job,
        reason,
        bucket,
        {"rejected": dict(rejects.counts), "examples": rejects.examples},
    )
