# SPDX-License-Identifier: Apache-2.0
"""Documents between a file's bytes and ids: the one table that all stages share.

Readers fill it, cleaning and rules transform it, encoding takes it. A document's key
comes from its file's path relative to the glob's fixed prefix and its id, or, where it
has none, its offset. The offset is in bytes of the uncompressed file, and for tables
(Parquet, Arrow, CSV) and users' readers the number of the row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import pyarrow as pa

from preprocessing.foundation.fingerprints import (
    KEY_BYTES,
    keys_of_ids,
    keys_of_offsets,
)
from preprocessing.foundation.string_buffers import sizes_of
from preprocessing.reading.extents import Extent, ReaderConfig

# A detail is for people; some are made of what a file holds, which may be a page.
_MOST_DETAIL = 300
_NO_IDS = ("", "NaN", "nan")  # as JSON, and as Python and NumPy spell it


class Trouble(NamedTuple):
    """What a reader met instead of a document, or of more than one.

    Attributes:
        offset: as documents have it.
        reason: a reject's, such as damaged_input.
        detail: what was found, for people.
        unread: bytes of the stored file that were skipped for it; 0 where all were
            read, and just no document of a single record came of them.
        to_end: that nothing behind them was read: the file was not read to its end.
        id: the document's own id, where it has one that could be read.
    """

    offset: int
    reason: str
    detail: str
    unread: int = 0
    to_end: bool = False
    id: str | None = None


@dataclass(frozen=True)
class Reject:
    """A document that is not kept: why, and where it lies.

    Attributes:
        reason: malformed_json, missing_field, wrong_type, invalid_utf8, too_large,
            truncated_input, damaged_input and the like (readers); a rule's name, such
            as gopher_quality@1; empty, repeated_id, duplicate and the like.
        relative: the file's path relative to the glob's fixed prefix.
        offset: where the document lies in the file.
        detail: what was found, for people.
        document: its key in hex; empty where it could not be read.
        size: UTF-8 bytes of its text; 0 where it could not be read.
        check: the rule's threshold that was missed.
        value: what was measured.
        threshold: what was wanted.
        excerpt: how its text begins, where an example is kept for the report.
        unread: bytes of the stored file that were skipped for it, as in `Trouble`.
        to_end: that the file was not read to its end.
        id: the document's own id, where it has one.
    """

    reason: str
    relative: str
    offset: int
    detail: str
    document: str = ""
    size: int = 0
    check: str = ""
    value: float | str = ""
    threshold: float | str = ""
    excerpt: str = ""
    unread: int = 0
    to_end: bool = False
    id: str | None = None


@dataclass(frozen=True)
class Documents:
    """Some documents of one file, in file order, and what was met instead of some.

    Attributes:
        relative: the file's path relative to the glob's fixed prefix.
        texts: valid UTF-8, no nulls, [n].
        keys: uint8 [n, 16].
        offsets: int64 [n].
        ids: the documents' own ids, [n] with nulls; None where none has one.
        urls: the addresses documents are from, [n] with nulls; None where none has one.
        targets: the second texts of pairs, valid UTF-8, no nulls, [n]; None where the
            reader has no `target_field`.
        rejects: documents that could not be read.
        bytes_read: bytes of the stored file since the documents before; over an extent
            they add up to its size.
        file: the file's number in a job's plan.
    """

    relative: str
    texts: pa.LargeStringArray
    keys: np.ndarray
    offsets: np.ndarray
    ids: pa.LargeStringArray | None = None
    urls: pa.LargeStringArray | None = None
    targets: pa.LargeStringArray | None = None
    rejects: Sequence[Reject] = ()
    bytes_read: int = 0
    file: int = 0

    @property
    def sizes(self) -> np.ndarray:
        """UTF-8 bytes of each text, int64 [n]."""
        return sizes_of(self.texts)

    @property
    def target_sizes(self) -> np.ndarray:
        """UTF-8 bytes of each target, int64 [n]; 0 where there are no targets."""
        none = self.targets is None
        return np.zeros(len(self.keys), np.int64) if none else sizes_of(self.targets)

    def id_of(self, at: int) -> str | None:
        """Returns a document's own id, None where it has none."""
        return None if self.ids is None else self.ids[at].as_py()

    def where(self, keep: np.ndarray) -> "Documents":
        """Returns the documents chosen by a mask, bool [n]."""
        if keep.all():
            return self
        mask = pa.array(keep)
        return replace(
            self,
            texts=self.texts.filter(mask),
            keys=self.keys[keep],
            offsets=self.offsets[keep],
            ids=self.ids if self.ids is None else self.ids.filter(mask),
            urls=self.urls if self.urls is None else self.urls.filter(mask),
            targets=self.targets if self.targets is None else self.targets.filter(mask),
        )


def documents_of(
    extent: Extent,
    texts: pa.LargeStringArray,
    offsets: np.ndarray,
    ids: pa.LargeStringArray | None = None,
    urls: pa.LargeStringArray | None = None,
    targets: pa.LargeStringArray | None = None,
    troubles: Iterable[Trouble] = (),
) -> Documents:
    """Returns what a reader found in an extent.

    Args:
        extent: the extent.
        texts: as in `Documents`, and so the columns below.
        offsets: int64 [n].
        ids: [n]. One that is empty, white space or NaN, which is how tables spell that
            there is none, is none: documents would count as one that is repeated.
        urls: [n].
        targets: [n].
        troubles: what was met instead of some.
    """
    ids, names = _telling(ids)
    return Documents(
        relative=extent.relative,
        texts=texts,
        keys=keys_of(extent.relative, names, offsets),
        offsets=offsets,
        ids=ids,
        urls=urls,
        targets=targets,
        rejects=rejects_of(extent, troubles),
    )


def _telling(
    ids: pa.LargeStringArray | None,
) -> tuple[pa.LargeStringArray | None, list[str | None] | None]:
    """Returns ids with null for those that tell nothing, and the same as a list.

    Both are None where no id tells anything.
    """
    if ids is None or ids.null_count == len(ids):
        return None, None
    names = [name if tells_apart(name) else None for name in ids.to_pylist()]
    missing = names.count(None)
    if missing == len(names):
        return None, None
    return (ids if missing == ids.null_count else _strings(names)), names


def tells_apart(name: str | None) -> TypeGuard[str]:
    """Whether an id is one: not empty, white space or NaN."""
    return name is not None and name not in _NO_IDS and not name.isspace()


def no_documents(
    extent: Extent, reader: ReaderConfig, troubles: Iterable[Trouble] = ()
) -> Documents:
    """Returns no documents of an extent, and what was met instead."""
    none = pa.array([], pa.large_string())
    targets = none if reader.target_field else None
    offsets = np.zeros(0, np.int64)
    return documents_of(extent, none, offsets, targets=targets, troubles=troubles)


def rejects_of(extent: Extent, troubles: Iterable[Trouble]) -> list[Reject]:
    """Returns troubles of an extent as rejects."""
    return [
        Reject(
            trouble.reason,
            extent.relative,
            trouble.offset,
            _capped(trouble.detail),
            document=_key_of(extent.relative, trouble.id),
            unread=trouble.unread,
            to_end=trouble.to_end,
            id=trouble.id if tells_apart(trouble.id) else None,
        )
        for trouble in troubles
    ]


def _capped(detail: str) -> str:
    if len(detail) <= _MOST_DETAIL:
        return detail
    return f"{detail[:_MOST_DETAIL]}... ({len(detail):,} characters)"


def _key_of(relative: str, name: str | None) -> str:
    """Returns the key of a document that has an id, in hex; else nothing."""
    if not tells_apart(name):
        return ""
    return keys_of_ids(relative, [name])[0].tobytes().hex()


def keys_of(
    relative: str, ids: Sequence[str | None] | None, offsets: np.ndarray
) -> np.ndarray:
    """Returns documents' keys, uint8 [n, 16]: by id where there is one, else offset."""
    if ids is None:
        return keys_of_offsets(relative, offsets.tolist())
    keys = np.empty((len(offsets), KEY_BYTES), np.uint8)
    with_id = np.array([name is not None for name in ids], bool)
    keys[with_id] = keys_of_ids(relative, [name for name in ids if name is not None])
    keys[~with_id] = keys_of_offsets(relative, offsets[~with_id].tolist())
    return keys


class Gathered:
    """Documents of an extent that are found one by one, until they are given on."""

    def __init__(self, extent: Extent, reader: ReaderConfig) -> None:
        self.size = 0
        self._extent, self._reader = extent, reader
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

    def reject(
        self,
        offset: int,
        reason: str,
        detail: str,
        unread: int = 0,
        to_end: bool = False,
        name: str | None = None,
    ) -> None:
        """Adds a reject; what was skipped for it is told as in `Trouble`."""
        self._troubles.append(Trouble(offset, reason, detail, unread, to_end, name))

    def drain(self) -> Documents:
        """Returns what was added since the last call."""
        rows, troubles = self._rows, self._troubles
        self._rows, self._troubles, self.size = [], [], 0
        if not rows:
            return no_documents(self._extent, self._reader, troubles)
        texts, ids, offsets, urls, targets = zip(*rows, strict=True)
        return documents_of(
            self._extent,
            pa.array(texts, pa.large_string()),
            np.array(offsets, np.int64),
            _strings(ids),
            _strings(urls),
            _strings(targets),
            troubles,
        )


def _strings(values: Sequence[Any]) -> pa.LargeStringArray | None:
    present = any(value is not None for value in values)
    return pa.array(values, pa.large_string()) if present else None
