# SPDX-License-Identifier: Apache-2.0
"""The first half of a preparation: from input bytes to ids, scattered to shards.

    pieces -> batches -> clean -> hash -> encode -> chunks of 64 MB of text at most
           -> documents by shard   (keys, places, lengths, ids)
           -> fingerprints by key  (keys, content hashes, places)

Documents travel once, as ids. Which of them are duplicates is decided meanwhile from
the fingerprints, 44 bytes each, and applied where the shards are packed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipelines.blobs import Arrays, drained, take_runs, to_bytes
from pipelines.plan import Job, Task
from pipelines.rejects import RejectFile
from pipelines.shuffle import runs, send
from pipelines.steps import Clock, Record, read_record, write_record
from preprocessing.documents import DocumentBatch, Reject
from preprocessing.fingerprints import content_hash, order_hash
from preprocessing.normalize import clean, is_empty
from preprocessing.readers import read_piece

CHUNK_TEXT_BYTES = 64 << 20
# Of short documents the columns weigh more than the text: 54 bytes each, and copies.
CHUNK_DOCUMENTS = 1 << 18
KIND = "tasks"
PARTS = "parts"  # records of tasks under way: input bytes done so far
Elements = list[tuple[int, bytes]]


@dataclass
class Scattered:
    """What a task gives to the next stages, as Beam elements."""

    documents: Elements = field(default_factory=list)
    fingerprints: Elements = field(default_factory=list)


def tokenize_task(job: Job, task: Task) -> Scattered:
    """Reads a task's pieces and scatters their documents.

    A task whose record lies in the work directory is not done again when its blobs
    lie there too; where Beam itself carries them, they must be made again.
    """
    done = read_record(job, KIND, task.index)
    if done is not None and job.transport == done["transport"] == "files":
        return Scattered(
            _from_hex(done["document_blobs"]), _from_hex(done["fingerprint_blobs"])
        )
    clock, scattered = Clock(), Scattered()
    totals = {"read": 0, "documents": 0, "tokens": 0, "text_bytes": 0}
    with RejectFile(job.output, f"task-{task.index:05d}") as rejects:
        for number, (chunk, bytes_done) in enumerate(
            _chunks(job, task, rejects, clock)
        ):
            with clock.part("scatter"):
                _scatter(job, task, number, chunk, scattered)
            totals["documents"] += len(chunk["lengths"])
            totals["tokens"] += int(chunk["lengths"].sum())
            totals["text_bytes"] += int(chunk["text_bytes"].sum())
            write_record(job, PARTS, task.index, {"done": bytes_done})
    totals["read"] = totals["documents"] + rejects.counts.total()
    write_record(
        job, KIND, task.index, _record(job, task, scattered, totals, rejects, clock)
    )
    return scattered


def _record(
    job: Job,
    task: Task,
    scattered: Scattered,
    totals: dict[str, int],
    rejects: RejectFile,
    clock: Clock,
) -> Record:
    inline = job.transport == "groupbykey"
    return {
        **totals,
        "transport": job.transport,
        "input_bytes": task.size,
        "rejected": dict(rejects.counts),
        "examples": rejects.examples,
        "seconds": clock.seconds,
        "cpu_seconds": clock.cpu_seconds,
        "document_blobs": [] if inline else _to_hex(scattered.documents),
        "fingerprint_blobs": [] if inline else _to_hex(scattered.fingerprints),
    }


def _chunks(
    job: Job, task: Task, rejects: RejectFile, clock: Clock
) -> Iterator[tuple[Arrays, int]]:
    """Yields some text as arrays, and the input bytes read so far.

    At most 64 MB and 262,144 documents, unless one batch has more.
    """
    batches: list[Arrays] = []
    size = documents = bytes_read = 0
    for batch in _batches(job, task, clock):
        rejects.write(batch.rejects)
        arrays = _encoded(job, batch, rejects, clock)
        text_bytes = int(arrays["text_bytes"].sum())
        count = len(arrays["lengths"])
        if batches and (
            size + text_bytes > CHUNK_TEXT_BYTES or documents + count > CHUNK_DOCUMENTS
        ):
            yield drained(batches), bytes_read
            batches, size, documents = [], 0, 0
        bytes_read += batch.bytes_read
        if count:
            batches.append(arrays)
            size, documents = size + text_bytes, documents + count
    if batches:
        yield drained(batches), bytes_read


def _batches(job: Job, task: Task, clock: Clock) -> Iterator[DocumentBatch]:
    for piece in task.pieces:
        batches = read_piece(piece, job.config.reader)
        while True:
            with clock.part("read"):
                batch = next(batches, None)
            if batch is None:
                break
            yield batch


def _encoded(
    job: Job, batch: DocumentBatch, rejects: RejectFile, clock: Clock
) -> Arrays:
    """Cleans, hashes and encodes a batch; documents left empty are rejected."""
    with clock.part("clean"):
        texts = clean(batch.texts, job.config.cleaning)
        empty = is_empty(texts)
    keys, offsets = batch.keys, batch.offsets
    if empty.any():
        rejects.write(
            Reject("empty", batch.relative, offset, "nothing left after cleaning")
            for offset in offsets[empty].tolist()
        )
        texts = texts.filter(pa.array(~empty))
        keys, offsets = keys[~empty], offsets[~empty]
    with clock.part("hash"):
        hashes = content_hash(texts)
    with clock.part("encode"):
        ids, lengths = job.tokenizer().encode_documents(texts)
        ids = ids.astype(job.config.layout.token_dtype)
    number = job.plan().file_index[batch.relative]
    return {
        "keys": keys,
        "hashes": hashes,
        "offsets": offsets.astype(np.int64),
        "files": np.full(len(keys), number, np.int32),
        "text_bytes": np.diff(_offsets(texts)),
        "lengths": lengths.astype(np.int64),
        "ids": ids,
    }


def _offsets(texts: pa.LargeStringArray) -> np.ndarray:
    offsets = np.frombuffer(texts.buffers()[1], np.int64)
    return offsets[texts.offset : texts.offset + len(texts) + 1]


def _scatter(
    job: Job, task: Task, number: int, chunk: Arrays, scattered: Scattered
) -> None:
    """Sends a chunk's documents to their shards and its fingerprints to buckets."""
    name = f"shuffle/{{}}-{task.index:05d}-{number:05d}"
    scattered.documents += send(
        job.transport, job.work, name.format("documents"), _by_shard(job, chunk)
    )
    scattered.fingerprints += send(
        job.transport,
        job.work,
        name.format("fingerprints"),
        by_bucket(
            job, {n: chunk[n] for n in ("keys", "hashes", "offsets", "files")}, "keys"
        ),
    )


def _by_shard(job: Job, chunk: Arrays) -> Elements:
    """Returns a blob of documents for each shard, in the shard's order."""
    hashes = order_hash(job.config.seed, chunk["keys"])
    order = np.argsort(hashes, kind="stable")
    columns = {
        name: chunk[name][order]
        for name in ("keys", "offsets", "files", "text_bytes", "lengths")
    }
    ids = take_runs(chunk["ids"], chunk["lengths"], order)
    ends = np.cumsum(columns["lengths"])
    starts = ends - columns["lengths"]
    blobs = []
    sizes = columns["lengths"] * ids.itemsize + 44
    for shard, rows in runs(job.ranges(hashes[order]), sizes):
        arrays = {name: column[rows] for name, column in columns.items()}
        arrays["ids"] = ids[starts[rows.start] : ends[rows.stop - 1]]
        blobs.append((shard, to_bytes(arrays)))
    return blobs


def by_bucket(job: Job, fingerprints: Arrays, column: str) -> Elements:
    """Returns blobs of fingerprints by the bucket of one of their hash columns."""
    buckets = job.buckets(fingerprints[column])
    order = np.argsort(buckets, kind="stable")
    columns = {name: array[order] for name, array in fingerprints.items()}
    sizes = np.full(len(order), 44, np.int64)
    return [
        (bucket, to_bytes({name: column[rows] for name, column in columns.items()}))
        for bucket, rows in runs(buckets[order], sizes)
    ]


def _to_hex(elements: Elements) -> list[list[object]]:
    return [[key, value.hex()] for key, value in elements]


def _from_hex(elements: list[list[str]]) -> Elements:
    return [(int(key), bytes.fromhex(value)) for key, value in elements]
