# SPDX-License-Identifier: Apache-2.0
"""The first half of a preparation: from input bytes to ids, scattered to shards.

    a task's rows, by document_walk.py
        -> chunks of 64 MB of text at most
        -> documents by shard   (keys, places, lengths, ids)
        -> fingerprints by key  (keys, content hashes, places, bands)

Documents travel once, as ids. Which of them are duplicates is decided meanwhile from
the fingerprints and applied where the shards are packed.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipelines.curation.document_walk import Encoded, encoded
from pipelines.curation.dropped_lines import DroppedLines
from pipelines.job.blobs import Arrays, drained, take_runs, to_bytes
from pipelines.job.buckets import by_bucket
from pipelines.job.columns import document_columns
from pipelines.job.plan import Job, Task
from pipelines.job.rejects import RejectFile
from pipelines.job.shuffle import are_whole, runs, send
from pipelines.job.steps import finished, write_record
from pipelines.job.task_work import TaskWork
from preprocessing.foundation.fingerprints import order_hash

CHUNK_TEXT_BYTES = 64 << 20
# Of short documents the columns weigh more than the text: 52 and 44 bytes each.
CHUNK_DOCUMENTS = 1 << 18
KIND = "tasks"
UNDER_WAY = "under_way"  # records of tasks: input bytes done so far
Elements = list[tuple[int, bytes]]


@dataclass
class Scattered:
    """What a task gives to the next stages, as Beam elements."""

    documents: Elements = field(default_factory=list)
    fingerprints: Elements = field(default_factory=list)


def tokenize_task(
    job: Job, task: Task, dropped_lines: Sequence[bytes] = ()
) -> Scattered:
    """Reads a task's extents and scatters their documents.

    A task whose record lies in the work directory is not done again when its blobs
    lie there too; where Beam itself carries them, they must be made again.

    Args:
        job: the job.
        task: the extents to read.
        dropped_lines: the lines to drop, as gathered for this task.
    """
    done = finished(job, KIND, task.index)
    if (
        done is not None
        and "inputs" in done  # an earlier Quern counted no files
        and job.transport == done["transport"] == "files"
    ):
        scattered = Scattered(
            _from_hex(done["document_blobs"]), _from_hex(done["fingerprint_blobs"])
        )
        elements = (*scattered.documents, *scattered.fingerprints)
        if are_whole(job.work, (value for _, value in elements)):
            return scattered
    scattered = Scattered()
    dropped = None
    if "lines" in job.config.deduplicate:
        dropped = DroppedLines(job, dropped_lines)
    with RejectFile(job.output, f"task-{task.index:05d}") as rejects:
        work = TaskWork(job, task, rejects)
        numbers = itertools.count()  # `enumerate` holds a chunk until the next is made
        for chunk in _chunks(encoded(work, dropped)):
            done_bytes = chunk.bytes_read
            with work.clock.timed("scatter"):
                _scatter(job, task, next(numbers), chunk, scattered)
            del chunk
            write_record(job, UNDER_WAY, task.index, {"done": done_bytes})
    inline = job.transport == "groupbykey"
    record = {
        **work.record(),
        "transport": job.transport,
        "document_blobs": [] if inline else _to_hex(scattered.documents),
        "fingerprint_blobs": [] if inline else _to_hex(scattered.fingerprints),
    }
    write_record(job, KIND, task.index, record)
    return scattered


def _chunks(batches: Iterator[Encoded]) -> Iterator[Encoded]:
    """Yields some text as arrays, and the input bytes of all that was read so far.

    At most 64 MB and 262,144 documents, unless one batch has more.
    """
    chunks: list[Encoded] = []
    size = documents = bytes_read = 0
    for chunk in batches:
        text_bytes = int(chunk.fingerprints["sizes"].sum())
        count = len(chunk.fingerprints["sizes"])
        if chunks and (
            size + text_bytes > CHUNK_TEXT_BYTES or documents + count > CHUNK_DOCUMENTS
        ):
            yield _joined(chunks, bytes_read)
            chunks, size, documents = [], 0, 0
        bytes_read += chunk.bytes_read
        if count:
            chunks.append(chunk)
            size, documents = size + text_bytes, documents + count
    if chunks:
        yield _joined(chunks, bytes_read)


def _joined(chunks: list[Encoded], bytes_read: int) -> Encoded:
    return Encoded(
        drained([chunk.examples for chunk in chunks]),
        drained([chunk.fingerprints for chunk in chunks]),
        bytes_read,
    )


def _scatter(
    job: Job, task: Task, number: int, chunk: Encoded, scattered: Scattered
) -> None:
    """Sends a chunk's documents to their shards and its fingerprints to buckets."""
    name = f"shuffle/{{}}-{task.index:05d}-{number:05d}"
    if not job.judge_only:
        scattered.documents += send(
            job.transport,
            job.work,
            name.format("documents"),
            by_shard(job, chunk.examples),
        )
    scattered.fingerprints += send(
        job.transport,
        job.work,
        name.format("fingerprints"),
        by_bucket(job, chunk.fingerprints, "keys"),
    )


def by_shard(job: Job, chunk: Arrays) -> Elements:
    """Returns a blob of documents for each shard, in the shard's order."""
    hashes = order_hash(job.config.seed, chunk["keys"])
    order = np.argsort(hashes, kind="stable")
    columns = {name: column[order] for name, column in chunk.items() if name != "ids"}
    ids = take_runs(chunk["ids"], chunk["lengths"], order)
    ends = np.cumsum(columns["lengths"])
    starts = ends - columns["lengths"]
    blobs = []
    fixed = document_columns(job.config).itemsize
    sizes = columns["lengths"] * ids.itemsize + fixed
    for shard, rows in runs(job.ranges(hashes[order]), sizes, job.limits.blob_bytes):
        arrays = {name: column[rows] for name, column in columns.items()}
        arrays["ids"] = ids[starts[rows.start] : ends[rows.stop - 1]]
        blobs.append((shard, to_bytes(arrays)))
    return blobs


def _to_hex(elements: Elements) -> list[list[object]]:
    return [[key, value.hex()] for key, value in elements]


def _from_hex(elements: list[list[str]]) -> Elements:
    return [(int(key), bytes.fromhex(value)) for key, value in elements]
