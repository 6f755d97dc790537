# SPDX-License-Identifier: Apache-2.0
"""What became of each input file: its bytes, those read, its documents, and why.

    read_extent's batches -> a task's counts by file -> record -> all files' -> table

Bytes are those of the file as stored, compressed ones too: only of these is it known
how many there are where a file cannot be read to its end, and they add up to what a
listing of the input says. bytes = bytes read + bytes not read, for each file.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from preprocessing.contracts.dataset_files import INPUTS
from preprocessing.contracts.manifest import InputTotals
from preprocessing.foundation.commands import WorkError
from preprocessing.reading.documents import Documents, Reject

MOST_NAMED = 10
_MOST_REASON = 300  # characters


@dataclass
class FileCounts:
    """What was met in one file, or in a task's part of it.

    Attributes:
        size: stored bytes.
        unread: those of them that no document and no other reject stands for.
        documents: documents read, those among them that no text could be got of too.
        ended: whether reading came to the end.
        reason: of the largest part that was not read; empty where all was.
        worst: how that part ranks among others.
    """

    size: int = 0
    unread: int = 0
    documents: int = 0
    ended: bool = True
    reason: str = ""
    worst: int = 0

    def add(self, documents: Documents) -> None:
        """Adds a batch of the file."""
        self.size += documents.bytes_read
        self.documents += len(documents.keys) + len(documents.rejects)
        for reject in documents.rejects:
            if reject.unread or reject.to_end:
                self._lose(reject)

    def join(self, other: "FileCounts") -> None:
        """Adds another part of the file."""
        self.size += other.size
        self.unread += other.unread
        self.documents += other.documents
        self._say(other.ended, other.worst, other.reason)

    def _lose(self, reject: Reject) -> None:
        self.unread += reject.unread
        reason = " ".join(f"{reject.reason}: {reject.detail}".split())[:_MOST_REASON]
        self._say(not reject.to_end, reject.unread, reason)

    def _say(self, ended: bool, worst: int, reason: str) -> None:
        """Keeps the reason of what ends the file, else of the largest part skipped."""
        if reason and (not ended, worst) > (not self.ended, self.worst):
            self.reason, self.worst = reason, worst
        self.ended &= ended


@dataclass
class InputCounts:
    """Counts of files by their number in the plan.

    Attributes:
        files: the files' counts.
    """

    files: dict[int, FileCounts] = field(default_factory=dict)

    def add(self, file: int, documents: Documents) -> None:
        """Adds a batch of a file."""
        self.files.setdefault(file, FileCounts()).add(documents)

    def record(self) -> list[list[Any]]:
        """Returns what a step's record keeps: a short list for each file."""
        return [
            [number, counts.size, counts.unread, counts.documents]
            + ([counts.ended, counts.reason, counts.worst] if counts.reason else [])
            for number, counts in sorted(self.files.items())
        ]

    def restore(self, record: Iterable[Sequence[Any]]) -> None:
        """Adds what `record` returned."""
        for number, *counts in record:
            self.files.setdefault(number, FileCounts()).join(FileCounts(*counts))


@dataclass(frozen=True)
class InputFiles:
    """All files of an input, and what was read of each.

    Attributes:
        paths: relative paths.
        sizes: stored bytes, int64 [files].
        unread: those not read, int64 [files].
        documents: int64 [files].
        losses: the counts of files that were not read whole, by their number.
    """

    paths: Sequence[str]
    sizes: np.ndarray
    unread: np.ndarray
    documents: np.ndarray
    losses: Mapping[int, FileCounts]

    @classmethod
    def of(
        cls, paths: Sequence[str], sizes: Sequence[int], counts: InputCounts
    ) -> "InputFiles":
        """Returns the files of a whole input.

        Args:
            paths: relative paths of all files.
            sizes: their bytes as they were listed.
            counts: what was met in them.

        Raises:
            WorkError: other bytes were read, and not read, than there are.
        """
        files = [counts.files.get(number, FileCounts()) for number in range(len(paths))]
        for path, size, found in zip(paths, sizes, files, strict=True):
            if found.size != size or found.unread > size:
                raise WorkError(
                    f"wanted bytes of {path} = read + not read, found {size} of which "
                    f"{found.size} were gone through and {found.unread} not read. This "
                    "is a defect in Quern: report it, and do not use the output"
                )
        return cls(
            paths,
            np.array(sizes, np.int64),
            np.array([found.unread for found in files], np.int64),
            np.array([found.documents for found in files], np.int64),
            {number: found for number, found in enumerate(files) if found.reason},
        )

    @property
    def totals(self) -> InputTotals:
        """The manifest's totals."""
        size, unread = int(self.sizes.sum()), int(self.unread.sum())
        cut = sum(not counts.ended for counts in self.losses.values())
        return InputTotals(len(self.paths), size, size - unread, unread, cut)

    def table(self) -> pa.Table:
        """Returns `inputs.parquet`, a row for each file."""
        reasons = pa.nulls(len(self.paths), pa.string()).to_pylist()
        for number, counts in self.losses.items():
            reasons[number] = counts.reason
        columns = {
            "path": self.paths,
            "bytes": self.sizes,
            "bytes_read": self.sizes - self.unread,
            "documents": self.documents,
            "reason": reasons,
        }
        return pa.table(columns, schema=INPUTS)

    def worst(self, most: int) -> list[tuple[str, FileCounts]]:
        """Returns files of which most was not read: path and counts."""
        ranked = sorted(
            self.losses, key=lambda number: (-self.unread[number], self.paths[number])
        )
        return [(self.paths[number], self.losses[number]) for number in ranked[:most]]

    def lines(self, most: int) -> list[str]:
        """Returns a line for each of the worst files, for people."""
        worst = self.worst(most)
        lines = [
            ("skipped inside: " if counts.ended else "not read to its end: ")
            + _named(path, counts)
            for path, counts in worst
        ]
        return lines + self._more(worst)

    def named(self, most: int) -> str:
        """Returns the worst files on one line."""
        worst = self.worst(most)
        return "; ".join([_named(*file) for file in worst] + self._more(worst))

    def _more(self, shown: Sequence[object]) -> list[str]:
        rest = len(self.losses) - len(shown)
        return [f"and {rest:,} files more"] if rest else []


def _named(path: str, counts: FileCounts) -> str:
    size = f"{counts.unread:,} of {counts.size:,} bytes"
    return f"{path} ({size}, {counts.reason})"


def check_unread(
    files: InputFiles, most: float | None, usual: float, where: str = ""
) -> None:
    """Stops a command that did not read what it was asked to.

    Args:
        files: the input.
        most: the share of its bytes that need not be read, as `--max_unread_fraction`
            has it; None where the flag is not given: then every file is wanted to its
            end, and of what was skipped inside files `usual` is allowed.
        usual: a share of the input's bytes.
        where: what lists all that was skipped, for people.

    Raises:
        WorkError: naming the files.
    """
    totals = files.totals
    share = totals.not_read / max(1, totals.size)
    cut = 0 if most else totals.not_to_end  # of some, no stored byte is missing
    if share <= (usual if most is None else most) and not cut:
        return
    wanted = "every input file read to its end"
    if not cut:
        allowed = usual if most is None else most
        wanted = f"at most {allowed:.1%} of the input's bytes not read"
    raise WorkError(
        f"wanted {wanted}, found {totals.not_read:,} of {totals.size:,} bytes not "
        f"read: {files.named(MOST_NAMED)}. Repair the files, leave them out, or "
        f"allow it with --max_unread_fraction{where}"
    )
