# SPDX-License-Identifier: Apache-2.0
"""Rejected documents on disk: one line each, with where they are and why.

{"reason": "gopher_quality@1", "path": "a/b.jsonl", "offset": 1234, "document": "9f…",
 "id": "its own", "check": "min_words", "value": 12, "threshold": 50, "detail": "…"}
"""

from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from pipelines.job.checksums import SummedFile, summed_file
from pipelines.job.columns import cut_id
from preprocessing.foundation import storage, strict_json
from preprocessing.reading.documents import Reject

# How many of each reason and check a step keeps for the report and error messages.
EXAMPLES = 3
DIRECTORY = "rejects"
DUPLICATE = "duplicate"
REPEATED = "repeated_id"
NEAR_DUPLICATE = "near_duplicate"
NOT_DRAWN = "not_drawn"  # none of its rows has a place in the mixture


class RejectCounts:
    """Counts rejects and keeps the first examples of each reason and check.

    Attributes:
        counts: documents by reason.
        sizes: bytes of their texts by reason.
        checks: documents by "reason check"; just the reason where there is no check.
        examples: the first lines of each of `checks`, with excerpts.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.sizes: Counter[str] = Counter()
        self.checks: Counter[str] = Counter()
        self.examples: dict[str, list[dict[str, object]]] = {}

    def write(self, rejects: Iterable[Reject]) -> None:
        """Adds rejects."""
        for reject in rejects:
            self._add(reject)

    def wants_example(self, reason: str, check: str) -> bool:
        """Whether an excerpt of the next such document would be kept."""
        return self.checks[_name(reason, check)] < EXAMPLES

    def record(self) -> dict[str, Any]:
        """Returns what a step's record keeps of it."""
        return {
            "rejected": dict(self.counts),
            "rejected_bytes": dict(self.sizes),
            "checks": dict(self.checks),
            "examples": self.examples,
        }

    def _add(self, reject: Reject) -> dict[str, object]:
        line: dict[str, object] = {
            "reason": reject.reason,
            "path": reject.relative,
            "offset": reject.offset,
        }
        if reject.document:
            line["document"] = reject.document
        if reject.id is not None:
            line["id"] = cut_id(reject.id)
        if reject.check:
            line["check"] = reject.check
            line["value"] = reject.value
            line["threshold"] = reject.threshold
        if reject.unread:
            line["unread_bytes"] = reject.unread
        line["detail"] = reject.detail
        name = _name(reject.reason, reject.check)
        self.counts[reject.reason] += 1
        self.sizes[reject.reason] += reject.size
        self.checks[name] += 1
        if self.checks[name] <= EXAMPLES:
            example = {**line, "excerpt": reject.excerpt} if reject.excerpt else line
            self.examples.setdefault(name, []).append(example)
        return line


class RejectFile(RejectCounts):
    """Writes rejects as they come, so that any number of them fits in memory.

    The file appears when the block succeeds, and only if there is something in it; its
    name follows from the step, so a second attempt replaces it.
    """

    def __init__(self, output: str, name: str) -> None:
        super().__init__()
        self._output, self._name = output, f"{DIRECTORY}/{name}.jsonl"
        self._context: Any = None
        self._file: SummedFile | None = None

    def write(self, rejects: Iterable[Reject]) -> None:
        """Adds rejects."""
        for reject in rejects:
            line = strict_json.dumps(self._add(reject), ensure_ascii=False)
            self._open().write(line.encode() + b"\n")

    def record(self) -> dict[str, Any]:
        """Returns what a step's record keeps: its counters, and the file if any."""
        files = [] if self._file is None else [self._file.sum(self._name)]
        return {**super().record(), "files": files}

    def _open(self) -> SummedFile:
        if self._file is None:
            self._context = summed_file(self._output, self._name)
            self._file = self._context.__enter__()
        return self._file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._context is not None:
            self._context.__exit__(kind, error, traceback)


def reject_files(dataset: str) -> list[str]:
    """Returns the names of a dataset's files of rejects, in order."""
    names = storage.list_names(storage.join(dataset, DIRECTORY))
    return [
        f"{DIRECTORY}/{name}"
        for name in names
        if name.endswith(".jsonl") and not name.startswith(".")
    ]


def _name(reason: str, check: str) -> str:
    return f"{reason} {check}" if check else reason
