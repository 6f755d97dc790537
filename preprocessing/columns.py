# SPDX-License-Identifier: Apache-2.0
"""Columns of documents as the readers find them, before the documents have keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from preprocessing.line_blocks import Trouble


@dataclass(frozen=True)
class Columns:
    """Consecutive documents of a file, and what was met instead of some.

    Attributes:
        texts: valid UTF-8, no nulls, [n].
        ids: [n], None where a document has none; None where none has.
        offsets: int64 [n].
        troubles: (offset, reason, detail) of each reject.
        urls: [n] with nulls, or None where no document has one.
        targets: valid UTF-8, no nulls, [n]; None where no target is asked for.
    """

    texts: pa.LargeStringArray
    ids: Sequence[str | None] | None
    offsets: np.ndarray
    troubles: list[Trouble]
    urls: pa.LargeStringArray | None = None
    targets: pa.LargeStringArray | None = None


def only_troubles(troubles: list[Trouble]) -> Columns:
    """Returns no documents, and the troubles."""
    none = pa.array([], pa.large_string())
    return Columns(none, None, np.zeros(0, np.int64), troubles)


class Gathered:
    """Documents that are found one by one, until they are given on as columns."""

    def __init__(self) -> None:
        self.size = 0
        self._rows: list[tuple[str, str | None, int, str | None, str | None]] = []
        self._troubles: list[Trouble] = []

    def add(
        self,
        text: str,
        name: str | None,
        offset: int,
        url: str | None = None,
        target: str | None = None,
    ) -> None:
        """Adds a document; its strings are valid Unicode."""
        self._rows.append((text, name, offset, url, target))
        self.size += len(text) + len(target or "")

    def reject(self, offset: int, reason: str, detail: str) -> None:
        """Adds a reject."""
        self._troubles.append((offset, reason, detail))

    def drain(self) -> Columns:
        """Returns what was added since the last call."""
        rows, troubles = self._rows, self._troubles
        self._rows, self._troubles, self.size = [], [], 0
        if not rows:
            return only_troubles(troubles)
        texts, ids, offsets, urls, targets = zip(*rows, strict=True)
        return Columns(
            pa.array(texts, pa.large_string()),
            ids if any(name is not None for name in ids) else None,
            np.array(offsets, np.int64),
            troubles,
            _strings(urls),
            _strings(targets),
        )


def _strings(values: Sequence[Any]) -> pa.LargeStringArray | None:
    present = any(value is not None for value in values)
    return pa.array(values, pa.large_string()) if present else None


def not_utf8(texts: pa.LargeStringArray) -> np.ndarray:
    """Returns the places of texts that are not UTF-8, int64 [at most n]."""
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        values = texts.cast(pa.large_binary()).to_pylist()
        return np.flatnonzero([not _decodes(value or b"") for value in values])
    return np.zeros(0, np.int64)


def without_bad(texts: pa.LargeStringArray) -> pa.LargeStringArray | None:
    """Returns the strings with null for those that are not UTF-8; None if all null.

    For columns that a document can do without.
    """
    places = not_utf8(texts)
    if len(places):
        bad = np.zeros(len(texts), bool)
        bad[places] = True
        null = pa.scalar(None, pa.large_string())
        texts = pa.compute.if_else(pa.array(bad), null, texts)
    return None if texts.null_count == len(texts) else texts


def _decodes(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
