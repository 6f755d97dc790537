# SPDX-License-Identifier: Apache-2.0
"""Of lines that are equal one stays, in the manner of C4 (Raffel 2020, section 2.2).

    tasks -> curated documents -> a row for each line, by line bucket
          -> the line's owner stays, the others go back to their task -> tokenize

A line is owned by the document whose key comes first in an order of the seed's own, so
no source wins by its name; and there by its first occurrence. Documents that drop out
later (repeated ids, duplicates, rules judged anew) still own their lines, as in C4.
Lines are compared stripped and in lower case; shorter ones than `line_words` stay.
"""

from collections.abc import Callable, Iterator

import numpy as np

from pipelines.curation.document_walk import curated
from pipelines.curation.judging import judge
from pipelines.job.blobs import Arrays, drained
from pipelines.job.buckets import by_bucket, by_key
from pipelines.job.columns import DROPPED_LINE, LINE, rows_of
from pipelines.job.plan import Job, Task
from pipelines.job.rejects import RejectCounts
from pipelines.job.shuffle import are_whole, send
from pipelines.job.steps import intact_record, write_record
from pipelines.job.task_work import TaskWork
from preprocessing.foundation.fingerprints import key_hash
from preprocessing.foundation.seed_purposes import Purpose
from preprocessing.reading.documents import Documents

FOUND = "lines"  # records of tasks whose lines were hashed
JUDGED = "line_duplicates"  # records of buckets
Elements = list[tuple[int, bytes]]
# A line's row has as many bytes as a short line of text.
_CHUNK_BYTES = 32 << 20
_RANK = ("ranks", "files", "offsets", "lines")


def find_lines(
    job: Job, task: Task, walk: Callable[[TaskWork], Iterator[Documents]] = curated
) -> Elements:
    """Reads a task and sends a row for each of its lines to the line's bucket.

    A task whose record and rows lie in the work directory is not read again.

    Args:
        job: the job.
        task: the extents to read.
        walk: gives the task's documents.
    """
    done = intact_record(job, FOUND, task.index)
    if done is not None and job.transport == done["transport"] == "files":
        left = [(int(key), bytes.fromhex(value)) for key, value in done["blobs"]]
        if are_whole(job.work, (value for _, value in left)):
            return left
    # What is rejected here is rejected again, and written down, where it is tokenized.
    work = TaskWork(job, task, RejectCounts())
    elements, rows = Elements(), list[Arrays]()
    step = _CHUNK_BYTES // LINE.itemsize
    size = count = number = 0

    def flush() -> None:
        nonlocal size, number
        name = f"shuffle/lines-{task.index:05d}-{number:05d}"
        blobs = by_bucket(job, drained(rows), "hashes")
        elements.extend(send(job.transport, job.work, name, blobs))
        rows.clear()
        size, number = 0, number + 1

    for documents in walk(work):
        with work.clock.timed("lines"):
            found = _rows(job, task, documents)
        del documents  # a huge one is not held beside the rows of its lines
        lines = len(found["lines"])
        count += lines
        for first in range(0, lines, step):
            part = {name: each[first : first + step] for name, each in found.items()}
            rows.append(part)
            size += len(part["lines"]) * LINE.itemsize
            if size > _CHUNK_BYTES:
                flush()
    if size:
        flush()
    record = {
        "lines": count,
        "transport": job.transport,
        "seconds": work.clock.seconds,
        "cpu_seconds": work.clock.cpu_seconds,
        "blobs": [
            [key, value.hex()] for key, value in elements if job.transport == "files"
        ],
    }
    write_record(job, FOUND, task.index, record)
    return elements


def _rows(job: Job, task: Task, documents: Documents) -> Arrays:
    # Imported here: a compiler comes with it.
    from preprocessing.duplicates.line_hashes import line_hashes

    lines = line_hashes(documents.texts, job.config.line_words)
    ranks = key_hash(job.config.seed, Purpose.LINE_OWNERS, documents.keys)
    count = len(lines.document)
    rows = {
        "hashes": lines.hashes,
        "ranks": ranks[lines.document],
        "offsets": documents.offsets[lines.document],
        "files": np.full(count, documents.file, np.int32),
        "lines": lines.line.astype(np.int32, copy=False),
        "tasks": np.full(count, task.index, np.int32),
    }
    return rows_of(LINE, rows)


def drop_repeated_lines(job: Job, bucket: int, values: list[bytes]) -> Elements:
    """Keeps one of each line of a bucket; sends the others to their tasks."""
    elements, lines, dropped = Elements(), 0, 0
    for number, verdict in enumerate(judge(job, values, "hashes", _RANK)):
        others = verdict.dropped
        dropped += len(others["lines"])
        lines += len(verdict.kept["lines"]) + len(others["lines"])
        if len(others["lines"]):
            rows = rows_of(DROPPED_LINE, others)
            name = f"shuffle/dropped-lines-{bucket:05d}-{number:05d}"
            blobs = by_key(job, rows, others["tasks"].astype(np.int64))
            elements += send(job.transport, job.work, name, blobs)
    write_record(job, JUDGED, bucket, {"lines": lines, "dropped": dropped})
    return elements
