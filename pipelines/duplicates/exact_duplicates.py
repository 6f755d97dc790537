# SPDX-License-Identifier: Apache-2.0
"""Which documents lose: repeated ids, then exact duplicates; and who must validate.

    fingerprints by key  -> the first of a repeated id stays      -> dropped
    survivors by content -> the smallest key stays                -> dropped
    what survives both   -> its bands, where near duplicates are looked for too
                         -> the bucket's best candidate for validation

The dropped are (key, offset) pairs sent to the shard that holds the document. Where
exact duplicates are kept, the first step is the last.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pipelines.curation.judging import RowVerdict, judge, words
from pipelines.duplicates.bands import send_bands
from pipelines.duplicates.own_ids import keep_ids
from pipelines.job.blobs import Arrays, concatenated, from_bytes, to_bytes
from pipelines.job.buckets import by_bucket, by_key
from pipelines.job.columns import CANDIDATE, DROPPED, empty, rows_of
from pipelines.job.plan import Job
from pipelines.job.rejects import DUPLICATE, REPEATED, RejectFile
from pipelines.job.shuffle import send
from pipelines.job.steps import write_record
from preprocessing.foundation.fingerprints import order_hash, split_hash
from preprocessing.reading.documents import Reject

REJECTS_AT_ONCE = 1 << 16
Elements = list[tuple[int, bytes]]


@dataclass
class Deduplicated:
    """What a bucket's step returns, as elements for the steps after it.

    Attributes:
        survivors: rows of documents that stay, to the next step's buckets.
        candidates: where the step is the last that looks for equal documents, the
            best validator among them and their number, to bucket 0.
        dropped: documents that go, to their shards.
    """

    survivors: Elements = field(default_factory=list)
    candidates: Elements = field(default_factory=list)
    dropped: Elements = field(default_factory=list)


def drop_repeated_ids(job: Job, bucket: int, values: list[bytes]) -> Deduplicated:
    """Keeps the first document, by offset, of each key; a key is an id in a file."""
    judged = Deduplicated()
    with RejectFile(job.output, f"{REPEATED}-{bucket:05d}") as rejects:
        for number, verdict in enumerate(judge(job, values, "keys", ("offsets",))):
            _reject(job, REPEATED, verdict, rejects, _repeated)
            at = f"{bucket:05d}-{number:05d}"
            if "exact" in job.config.deduplicate:
                blobs = by_bucket(job, verdict.kept, "hashes")
                name = f"shuffle/survivors-{at}"
                judged.survivors += send(job.transport, job.work, name, blobs)
            else:
                _give_on(job, at, verdict.kept, judged)
            judged.dropped += send_dropped(
                job, f"shuffle/repeated-{at}", verdict.dropped
            )
    write_record(job, REPEATED, bucket, rejects.record())
    return judged


def drop_duplicates(job: Job, bucket: int, values: list[bytes]) -> Deduplicated:
    """Keeps the smallest key of each content; names the best validators."""
    judged = Deduplicated()
    with RejectFile(job.output, f"{DUPLICATE}-{bucket:05d}") as rejects:
        for number, verdict in enumerate(judge(job, values, "hashes", ("keys",))):
            _reject(job, DUPLICATE, verdict, rejects, _same_text)
            at = f"{bucket:05d}-{number:05d}"
            _give_on(job, at, verdict.kept, judged)
            judged.dropped += send_dropped(
                job, f"shuffle/duplicates-{at}", verdict.dropped
            )
    write_record(job, DUPLICATE, bucket, rejects.record())
    return judged


def _give_on(job: Job, at: str, kept: Arrays, judged: Deduplicated) -> None:
    """Adds what documents without an equal are asked for next."""
    if not len(kept["keys"]):
        return
    judged.candidates.append((0, _candidate(job, kept)))
    if "near" in job.config.deduplicate:
        rows = keep_ids(job, at, kept)
        judged.survivors += send_bands(job, f"shuffle/bands-{at}", rows)


def _repeated(file: str, offset: int) -> str:
    return f"its id is already at offset {offset}"


def _same_text(file: str, offset: int) -> str:
    return f"the same text as {file} at offset {offset}"


def force_validation(job: Job, keys: np.ndarray, documents: int) -> Elements:
    """Returns the document that must validate because hashing chose none, if any.

    Args:
        job: the job.
        keys: uint8 [n, 16], of documents that stay; the best of each bucket of them.
        documents: how many stay.

    Returns:
        At most one element: the document's key, to its shard. With a fraction above 0
        and two documents or more, validation is never empty.
    """
    hashes = split_hash(job.config.seed, keys)
    if documents < 2 or not job.config.validation_fraction:
        return []
    if validates(job, hashes).any():
        return []
    key = keys[_best(keys, hashes)]
    return [(int(shards_of(job, key)[0]), to_bytes({"keys": key}))]


def candidates_of(values: list[bytes]) -> tuple[np.ndarray, int]:
    """Returns all buckets' `Deduplicated.candidates`: keys [n, 16]; of how many."""
    if not values:
        return empty(CANDIDATE)["keys"], 0
    rows = concatenated([from_bytes(value) for value in values])
    return rows["keys"], int(rows["documents"].sum())


def validates(job: Job, hashes: np.ndarray) -> np.ndarray:
    """Tells which split hashes fall into the validation split, bool [n]."""
    limit = int(job.config.validation_fraction * 2**64)
    return hashes < np.uint64(min(limit, 2**64 - 1))


def shards_of(job: Job, keys: np.ndarray) -> np.ndarray:
    """Returns the shard that holds each key, int64 [n]."""
    return job.ranges(order_hash(job.config.seed, keys))


def send_dropped(job: Job, name: str, rows: Arrays) -> Elements:
    """Returns the elements that carry rows' keys and offsets to their shards."""
    if not len(rows["keys"]):
        return []
    blobs = by_key(job, rows_of(DROPPED, rows), shards_of(job, rows["keys"]))
    return send(job.transport, job.work, name, blobs)


def _candidate(job: Job, kept: Arrays) -> bytes:
    best = _best(kept["keys"], split_hash(job.config.seed, kept["keys"]))
    count = np.array([len(kept["keys"])], np.int64)
    rows = {"keys": kept["keys"][best], "documents": count}
    return to_bytes(rows_of(CANDIDATE, rows))


def _best(keys: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Returns the place of the smallest split hash, then key, int64 [1]."""
    return np.lexsort((*reversed(words(keys)), hashes))[:1]


def _reject(
    job: Job,
    reason: str,
    verdict: RowVerdict,
    rejects: RejectFile,
    detail: Callable[[str, int], str],
) -> None:
    """Writes the rows dropped to their file of rejects, some thousands at a time."""
    files, dropped, owners = job.plan().files, verdict.dropped, verdict.owners
    for start in range(0, len(dropped["offsets"]), REJECTS_AT_ONCE):
        rows = slice(start, start + REJECTS_AT_ONCE)
        rejects.write(
            Reject(
                reason=reason,
                relative=files[file],
                offset=offset,
                detail=detail(files[owner], at),
                document=key.tobytes().hex(),
                size=size,
                id=name.decode() or None,
            )
            for file, offset, key, size, name, owner, at in zip(
                dropped["files"][rows].tolist(),
                dropped["offsets"][rows].tolist(),
                dropped["keys"][rows],
                dropped["sizes"][rows].tolist(),
                dropped["own_ids"][rows].tolist(),
                owners["files"][rows].tolist(),
                owners["offsets"][rows].tolist(),
                strict=True,
            )
        )
