# SPDX-License-Identifier: Apache-2.0
"""The lines that a task has to drop, since other documents own them."""

import bisect
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipelines.job.blobs import Arrays, from_bytes
from pipelines.job.columns import DROPPED_LINE, empty
from pipelines.job.plan import Job
from pipelines.job.shuffle import count_parts, gather, receive
from preprocessing.reading.documents import Documents

_SAMPLE = 1024
_NONE = empty(DROPPED_LINE)


class DroppedLines:
    """The lines that a task has to drop, found for one batch of documents at a time.

    They are read in parts, ranges of files and offsets, and one part is held: tasks
    read their documents in that order.
    """

    def __init__(self, job: Job, values: Sequence[bytes], every: int = _SAMPLE) -> None:
        """Takes what was gathered for the task, from `drop_repeated_lines`.

        Args:
            job: the job.
            values: what was gathered.
            every: of so many lines one is looked at to find where parts begin.
        """
        self._work, self._values = job.work, values
        self._part_bytes, self._every = job.limits.bucket_part_bytes, every
        self._bounds = self._parts()
        self._number: int | None = None
        self._rows: Arrays = _NONE

    def drop(self, documents: Documents) -> tuple[pa.LargeStringArray, np.ndarray]:
        """Returns a batch's texts without the lines that other places own.

        Returns:
            The texts, large_string [n], and how many lines each lost, int64 [n].
        """
        # Imported here: a compiler comes with it.
        from preprocessing.duplicates.line_hashes import drop_lines

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
        parts = count_parts(self._values, self._part_bytes)
        if parts == 1:
            return []
        sample: list[tuple[int, int]] = []
        for value in self._values:
            rows = from_bytes(receive(self._work, [value])[0])
            files, offsets = (
                rows[name][:: self._every] for name in ("files", "offsets")
            )
            sample += zip(files.tolist(), offsets.tolist(), strict=True)
        sample.sort()
        return [sample[len(sample) * part // parts] for part in range(1, parts)]


def _from(rows: Arrays, file: int, offset: int) -> np.ndarray:
    """Tells which rows lie at a place or behind it, bool [n]."""
    same = (rows["files"] == file) & (rows["offsets"] >= offset)
    return same | (rows["files"] > file)
