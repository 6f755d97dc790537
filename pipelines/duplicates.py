# SPDX-License-Identifier: Apache-2.0
"""Which documents lose: repeated ids, then exact duplicates; and who must validate.

    fingerprints by key  -> the first of a repeated id stays      -> losers
    survivors by content -> the smallest key stays                -> losers
    each bucket's best candidate -> one document for validation, if hashing chose none

Losers are (key, offset) pairs sent to the shard that holds the document.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pipelines.blobs import Arrays, concatenated, from_bytes, to_bytes
from pipelines.judging import Verdict, judge, words
from pipelines.plan import Job
from pipelines.rejects import DUPLICATE, REPEATED, RejectFile
from pipelines.shuffle import runs, send
from pipelines.steps import write_record
from pipelines.tokenize_task import Elements, by_bucket
from preprocessing.documents import Reject
from preprocessing.fingerprints import order_hash, split_hash

_REJECTS_AT_ONCE = 1 << 16


@dataclass
class Judged:
    """What a bucket gives on: survivors (or candidates) and losers, as elements."""

    survivors: Elements = field(default_factory=list)
    losers: Elements = field(default_factory=list)


def drop_repeated_ids(job: Job, bucket: int, values: list[bytes]) -> Judged:
    """Keeps the first document, by offset, of each key; a key is an id in a file."""
    judged = Judged()
    with RejectFile(job.output, f"{REPEATED}-{bucket:05d}") as rejects:
        for number, verdict in enumerate(judge(job, values, "keys", "offsets")):
            _reject(job, REPEATED, verdict, rejects, _repeated)
            name = f"shuffle/survivors-{bucket:05d}-{number:05d}"
            survivors = by_bucket(job, verdict.kept, "hashes")
            judged.survivors += send(job.transport, job.work, name, survivors)
            name = f"shuffle/repeated-{bucket:05d}-{number:05d}"
            judged.losers += _losers(job, name, verdict.lost)
    _record(job, REPEATED, bucket, rejects)
    return judged


def drop_duplicates(job: Job, bucket: int, values: list[bytes]) -> Judged:
    """Keeps the smallest key of each content; names the best validators."""
    judged = Judged()
    with RejectFile(job.output, f"{DUPLICATE}-{bucket:05d}") as rejects:
        for number, verdict in enumerate(judge(job, values, "hashes", "keys")):
            _reject(job, DUPLICATE, verdict, rejects, _same_text)
            if len(verdict.kept["keys"]):
                judged.survivors.append((0, _candidate(job, verdict.kept)))
            name = f"shuffle/duplicates-{bucket:05d}-{number:05d}"
            judged.losers += _losers(job, name, verdict.lost)
    _record(job, DUPLICATE, bucket, rejects)
    return judged


def _repeated(file: str, offset: int) -> str:
    return f"its id is already at offset {offset}"


def _same_text(file: str, offset: int) -> str:
    return f"the same text as {file} at offset {offset}"


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
    best = np.lexsort((*reversed(words(rows["keys"])), hashes))[:1]
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
    best = np.lexsort((*reversed(words(kept["keys"])), hashes))[:1]
    count = np.array([len(hashes)], np.int64)
    return to_bytes({"keys": kept["keys"][best], "documents": count})


def _reject(
    job: Job,
    reason: str,
    verdict: Verdict,
    rejects: RejectFile,
    detail: Callable[[str, int], str],
) -> None:
    """Writes the losers to their file of rejects, some thousands at a time."""
    files, lost, owners = job.plan().files, verdict.lost, verdict.owners
    for start in range(0, len(lost["offsets"]), _REJECTS_AT_ONCE):
        rows = slice(start, start + _REJECTS_AT_ONCE)
        rejects.write(
            Reject(reason, files[file], offset, detail(files[owner], at))
            for file, offset, owner, at in zip(
                lost["files"][rows].tolist(),
                lost["offsets"][rows].tolist(),
                owners["files"][rows].tolist(),
                owners["offsets"][rows].tolist(),
                strict=True,
            )
        )


def _record(job: Job, reason: str, bucket: int, rejects: RejectFile) -> None:
    write_record(
        job,
        reason,
        bucket,
        {"rejected": dict(rejects.counts), "examples": rejects.examples},
    )
