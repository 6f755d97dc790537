# SPDX-License-Identifier: Apache-2.0
"""Rejected documents on disk: one line each, with where they are and why.

{"reason": "malformed_json", "path": "a/b.jsonl", "offset": 1234, "detail": "…"}
"""

import json
from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import Any, BinaryIO, Self

from preprocessing import storage
from preprocessing.documents import Reject

# How many of each reason a step keeps for the report and for error messages.
EXAMPLES = 3
DIRECTORY = "rejects"
DUPLICATE = "duplicate"
REPEATED = "repeated_id"


class RejectFile:
    """Writes rejects as they come, so that any number of them fits in memory.

    The file appears when the block succeeds, and only if there is something in it; its
    name follows from the step, so a second attempt replaces it.
    """

    def __init__(self, output: str, name: str) -> None:
        self._path = storage.join(output, DIRECTORY, f"{name}.jsonl")
        self._context: Any = None
        self._file: BinaryIO | None = None
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[dict[str, object]]] = {}

    def write(self, rejects: Iterable[Reject]) -> None:
        """Adds rejects."""
        for reject in rejects:
            line = {
                "reason": reject.reason,
                "path": reject.relative,
                "offset": reject.offset,
                "detail": reject.detail,
            }
            self.counts[reject.reason] += 1
            if self.counts[reject.reason] <= EXAMPLES:
                self.examples.setdefault(reject.reason, []).append(line)
            self._open().write(json.dumps(line, ensure_ascii=False).encode() + b"\n")

    def _open(self) -> BinaryIO:
        if self._file is None:
            self._context = storage.atomic_file(self._path)
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
