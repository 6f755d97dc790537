# SPDX-License-Identifier: Apache-2.0
"""Of lines that are equal one stays, in the manner of C4 (Raffel 2020, section 2.2).

    tasks -> curated documents -> a row for each line, by line bucket
          -> the line's owner stays, the others go back to their task -> tokenize

A line is owned by the document whose key comes first in an order of the seed's own, so
no source wins by its name; and there by its first occurrence. Documents that drop out
later (repeated ids, duplicates, rules judged anew) still own their lines, as in C4.
Lines are compared stripped and in lower case; shorter ones than `line_words` stay.
"""

import bisect
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipelines import plan
from pipelines.blobs import Arrays, drained, from_bytes
from pipelines.buckets import by_bucket, by_key, row_bytes
from pipelines.curate_task import CurationBooks, Documents, curated
from pipelines.gather import count_parts, gather
from pipelines.judging import judge
from pipelines.plan import Job, Task
from pipelines.rejects import RejectBooks
from pipelines.shuffle import receive, send
from pipelines.steps import Clock, read_record, write_record
from preprocessing.fingerprints import order_hash, seed_word

FOUND = "lines"  # records of tasks whose lines were hashed
JUDGED = "line_duplicates"  # records of buckets
Elements = list[tuple[int, bytes]]
# A line's row has 44 bytes, as many as a short line of text.
_CHUNK_BYTES = 32 << 20
_OWNER = 3  # a domain of the seed: owners follow neither the shards' order nor splits
_RANK = ("ranks", "files", "offsets", "lines")
_SAMPLE = 1024


def find_lines(job: Job, task: Task) -> Elements:
    """Reads a task and sends a row for each of its lines to the line's bucket.

    A task whose record and rows lie in the work directory is not read again.
    """
    done = read_record(job, FOUND, task.index)
    if done is not None and job.transport == done["transport"] == "files":
        return [(int(key), bytes.fromhex(value)) for key, value in done["blobs"]]
    clock, elements, rows = Clock(), Elements(), list[Arrays]()
    size = count = number = 0

    def flush() -> None:
        nonlocal size, number
        name = f"shuffle/lines-{task.index:05d}-{number:05d}"
        blobs = by_bucket(job, drained(rows), "hashes")
        elements.extend(send(job.transport, job.work, name, blobs))
        rows.clear()
        size, number = 0, number + 1

    # What is rejected here is rejected again, and written down, where it is tokenized.
    for documents, _ in curated(job, task, RejectBooks(), clock, CurationBooks()):
        with clock.part("lines"):
            found = _rows(job, task, documents)
        del documents  # a huge one is not held beside the rows of its lines
        lines = len(found["lines"])
        step = _CHUNK_BYTES // row_bytes(found)
        count += lines
        for first in range(0, lines, step):
            part = {name: each[first : first + step] for name, each in found.items()}
            rows.append(part)
            size += len(part["lines"]) * row_bytes(part)
            if size > _CHUNK_BYTES:
                flush()
    if size:
        flush()
    record = {
        "lines": count,
        "transport": job.transport,
        "seconds": clock.seconds,
        "cpu_seconds": clock.cpu_seconds,
        "blobs": [
            [key, value.hex()] for key, value in elements if job.transport == "files"
        ],
    }
    write_record(job, FOUND, task.index, record)
    return elements


def _rows(job: Job, task: Task, documents: Documents) -> Arrays:
    # Imported here: a compiler comes with it.
    from preprocessing.line_hashes import line_hashes

    lines = line_hashes(documents.texts, job.config.line_words)
    seed = int(seed_word(job.config.seed, _OWNER))
    count = len(lines.document)
    return {
        "hashes": lines.hashes,
        "ranks": order_hash(seed, documents.keys)[lines.document],
        "offsets": documents.offsets[lines.document],
        "files": np.full(count, documents.file, np.int32),
        "lines": lines.line.astype(np.int32, copy=False),
        "tasks": np.full(count, task.index, np.int32),
    }


def drop_repeated_lines(job: Job, bucket: int, values: list[bytes]) -> Elements:
    """Keeps one of each line of a bucket; sends the others to their tasks."""
    elements, lines, dropped = Elements(), 0, 0
    for number, verdict in enumerate(judge(job, values, "hashes", _RANK)):
        lost = verdict.lost
        dropped += len(lost["lines"])
        lines += len(verdict.kept["lines"]) + len(lost["lines"])
        if len(lost["lines"]):
            rows = {name: lost[name] for name in ("files", "offsets", "lines")}
            name = f"shuffle/line-losers-{bucket:05d}-{number:05d}"
            blobs = by_key(rows, lost["tasks"].astype(np.int64))
            elements += send(job.transport, job.work, name, blobs)
    write_record(job, JUDGED, bucket, {"lines": lines, "dropped": dropped})
    return elements


class LineLosers:
    """The lines that a task has to drop, found for one batch of documents at a time.

    They are read in parts, ranges of files and offsets, and one part is held: tasks
    read their documents in that order.
    """

    def __init__(self, job: Job, values: Sequence[bytes]) -> None:
        """Takes what was gathered for the task, from `drop_repeated_lines`."""
        self._work, self._values = job.work, values
        self._bounds = self._parts()
        self._number: int | None = None
        self._rows: Arrays = _NONE

    def drop(self, documents: Documents) -> tuple[pa.LargeStringArray, np.ndarray]:
        """Returns a batch's texts without the lines that other places own.

        Returns:
            The texts, large_string [n], and how many lines each lost, int64 [n].
        """
        # Imported here: a compiler comes with it.
        from preprocessing.line_hashes import drop_lines

        document, line = self.of(documents.file, documents.offsets)
        count = np.bincount(document, minlength=len(documents.offsets))
        if not len(document):
            return documents.texts, count
        return drop_lines(documents.texts, document, line), count

    def of(self, file: int, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the lines to drop of documents of a file, by their offsets [n].

        Returns:
            Each line's document, as its place in `offsets`, int64 [k], and its number
            there, int32 [k].
        """
        if not (len(self._values) and len(offsets)):
            return np.zeros(0, np.int64), np.zeros(0, np.int32)
        first = bisect.bisect_right(self._bounds, (file, int(offsets.min())))
        last = bisect.bisect_right(self._bounds, (file, int(offsets.max())))
        found = [self._within(part, file, offsets) for part in range(first, last + 1)]
        documents, lines = zip(*found, strict=True)
        return np.concatenate(documents), np.concatenate(lines)

    def _within(
        self, part: int, file: int, offsets: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        if part != self._number:
            self._rows = _NONE  # before the next part comes
            self._rows, self._number = self._load(part), part
        rows = self._rows
        start, end = np.searchsorted(rows["files"], [file, file + 1])
        places, lines = rows["offsets"][start:end], rows["lines"][start:end]
        left = np.searchsorted(places, offsets, "left")
        counts = np.searchsorted(places, offsets, "right") - left
        document = np.repeat(np.arange(len(offsets)), counts)
        within = np.arange(len(document)) - np.repeat(
            np.cumsum(counts) - counts, counts
        )
        return document, lines[np.repeat(left, counts) + within]

    def _load(self, part: int) -> Arrays:
        """Returns a part's rows, by file, offset and line."""

        def within(rows: Arrays) -> np.ndarray:
            chosen = np.ones(len(rows["lines"]), bool)
            if part:
                chosen &= _from(rows, *self._bounds[part - 1])
            if part < len(self._bounds):
                chosen &= ~_from(rows, *self._bounds[part])
            return chosen

        rows = gather(self._work, self._values, within)
        if rows is None:
            return _NONE
        order = np.lexsort((rows["lines"], rows["offsets"], rows["files"]))
        return {name: column[order] for name, column in rows.items()}

    def _parts(self) -> list[tuple[int, int]]:
        """Returns where each part but the first begins, as (file, offset)."""
        parts = count_parts(self._values, plan.BUCKET_PART_BYTES)
        if parts == 1:
            return []
        sample: list[tuple[int, int]] = []
        for value in self._values:
            rows = from_bytes(receive(self._work, [value])[0])
            files, offsets = rows["files"][::_SAMPLE], rows["offsets"][::_SAMPLE]
            sample += zip(files.tolist(), offsets.tolist(), strict=True)
        sample.sort()
        return [sample[len(sample) * part // parts] for part in range(1, parts)]


_NONE: Arrays = {
    "files": np.zeros(0, np.int32),
    "offsets": np.zeros(0, np.int64),
    "lines": np.zeros(0, np.int32),
}


def _from(rows: Arrays, file: int, offset: int) -> np.ndarray:
    """Tells which rows lie at a place or behind it, bool [n]."""
    same = (rows["files"] == file) & (rows["offsets"] >= offset)
    return same | (rows["files"] > file)
