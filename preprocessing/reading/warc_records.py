# SPDX-License-Identifier: Apache-2.0
"""The records of a web archive, and what stands between them.

A record that is not as its header says costs itself alone: reading goes on at the next
member of the file that opens a record, or at the next `WARC/1.` behind a blank line.
Field names have no case, and lines may end without a carriage return (ISO 28500).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from preprocessing.reading.documents import Trouble
from preprocessing.reading.extents import Extent
from preprocessing.web.archive_bytes import ArchiveBytes

_OPENING = b"WARC/"
_NEXT = re.compile(rb"\n\r?\n(?=WARC/\d\.\d)")
_NEXT_BYTES = 16
_LINE_ENDS = re.compile(rb"[\r\n]+")
_HEADER_ENDS = re.compile(rb"\n\r?\n")
# Headers hold a few hundred bytes, and an address of a few thousand at most.
_MOST_HEADER_BYTES = 1 << 16
_FIELD = re.compile(r"^([^:\n]+):(.*)$", re.M)
_FOLDED = re.compile(r"\r?\n[ \t]+")
# How often a file is gone through again from a record whose huge length was not true:
# each time costs what that length spans.
_MOST_RETURNS = 16


@dataclass(frozen=True)
class ArchiveRecord:
    """One record.

    Attributes:
        offset: the byte at which it starts in the uncompressed file.
        fields: its named fields, the names in lower case.
        size: bytes of its content.
        content: the content; None where it is larger than was asked for.
    """

    offset: int
    fields: dict[str, str]
    size: int
    content: bytes | None


def read_records(
    file: BinaryIO, extent: Extent, most: int
) -> Iterator[ArchiveRecord | Trouble]:
    """Yields a file's records in order, and a trouble for each part that holds none.

    Args:
        file: the stored bytes.
        extent: the whole file.
        most: bytes of content that are kept.
    """
    records = _Records(ArchiveBytes(file, extent.compression, _OPENING), extent, most)
    while (found := records.next()) is not None:
        yield found


class _Records:
    def __init__(self, bytes_: ArchiveBytes, extent: Extent, most: int) -> None:
        self._bytes, self._extent, self._most = bytes_, extent, most
        self._returns = _MOST_RETURNS

    def next(self) -> ArchiveRecord | Trouble | None:
        """Returns the next record or trouble; None at the file's end."""
        data = self._bytes
        if not data.has(len(_OPENING)) or data.window[0] in b"\r\n":
            while data.has(1) and (lines := _LINE_ENDS.match(data.window)):
                data.drop(lines.end())
        data.keep_from()
        at = data.at
        if not data.has(1):
            return self._gap(at) if data.gap else None
        data.has(len(_OPENING))
        if not data.window.startswith(_OPENING):
            found = bytes(data.window[:40])
            return self._skipped(at, f"wanted WARC/1., found {found!r}", junk=True)
        header = self._header()
        if header is None:
            data.drop(1)
            return self._skipped(at, "a header that breaks off", junk=True)
        fields = _fields(header)
        length = fields.get("content-length", "")
        data.drop(len(header))
        if not (length.isascii() and length.isdigit() and len(length) < 19):
            detail = f"wanted a Content-Length in bytes, found '{length[:40]}'"
            return self._skipped(at, detail)
        if int(length) > self._most:
            return self._huge(at, fields, int(length))
        return self._whole(at, fields, int(length))

    def _header(self) -> bytes | None:
        """Returns the header in the window, with the blank line that ends it."""
        data, seen = self._bytes, 0
        while True:
            found = _HEADER_ENDS.search(data.window, max(0, seen - 3))
            border = data.border()
            end = _MOST_HEADER_BYTES if border is None else border
            if found and found.end() <= end:
                return bytes(data.window[: found.end()])
            seen = len(data.window)
            if seen >= end or not data.fill():
                return None

    def _whole(
        self, at: int, fields: dict[str, str], size: int
    ) -> ArchiveRecord | Trouble:
        """Returns a record whose content fits into the window."""
        data = self._bytes
        while len(data.window) < size and data.border() is None and data.fill():
            pass
        border = data.border()
        if border is not None and border < size:
            return self._untrue(at, size, f"the next record comes after {border}")
        if len(data.window) < size:
            return self._broken_off(at, size)
        end = self._end_of(size)
        if end is None:
            return self._untrue(at, size, "no record ends there")
        if len(data.window) == end and data.damaged_here():
            data.drop(end)  # what says so, as a checksum, stands behind the record
            return self._gap(at)
        with memoryview(data.window) as window:
            content = bytes(window[:size])
        data.drop(end)
        return ArchiveRecord(at, fields, size, content)

    def _huge(
        self, at: int, fields: dict[str, str], size: int
    ) -> ArchiveRecord | Trouble:
        """Passes over a record that is larger than is kept."""
        data = self._bytes
        start = data.at
        if self._extent.compression == "none" and start + size > self._extent.size:
            return self._broken_off(at, size)
        passed = data.pass_over(size)
        if passed == size and self._end_of(0) is not None:
            return ArchiveRecord(at, fields, size, None)
        if passed < size and data.window:
            detail = f"a Content-Length of {size}, but the next record comes sooner"
            return self._trouble(at, detail)
        if self._returns:
            self._returns -= 1
            data.seek(start)
        if passed < size:
            return self._broken_off(at, size)
        return self._untrue(at, size, "no record ends there")

    def _end_of(self, size: int) -> int | None:
        """Returns where line ends behind a content end; None where it is no end."""
        data = self._bytes
        data.has(size + _NEXT_BYTES)
        found = _LINE_ENDS.match(data.window, size)
        end = found.end() if found else size
        border = data.border()
        if len(data.window) == end or (border is not None and border <= end):
            return end
        follows = data.window.startswith(_OPENING, end)
        return end if follows or data.window.count(b"\n", size, end) > 1 else None

    def _untrue(self, at: int, size: int, why: str) -> Trouble:
        return self._skipped(at, f"a Content-Length of {size}, but {why}")

    def _skipped(self, at: int, detail: str, junk: bool = False) -> Trouble:
        """Goes to where a record may begin; says what was skipped for it."""
        data = self._bytes
        follows = not junk and data.window.startswith(_OPENING)  # a header's blank line
        found = follows or data.find(_NEXT, _NEXT_BYTES)
        # A single record at the end, whose bounds are known, hides no other.
        to_end = junk and not found and not data.gap
        return self._trouble(at, detail, to_end)

    def _trouble(self, at: int, detail: str, to_end: bool = False) -> Trouble:
        data = self._bytes
        detail = f"{detail}; {data.at - at} bytes skipped"
        return Trouble(at, "malformed_warc", detail, data.skipped_from(at), to_end)

    def _broken_off(self, at: int, size: int) -> Trouble:
        """Says that a record is longer than what follows it."""
        data = self._bytes
        start = data.at
        if data.find(_NEXT, _NEXT_BYTES):
            return self._trouble(at, f"a Content-Length of {size}, which is too much")
        if data.gap:
            return self._gap(at)
        detail = f"a record of {size} bytes ends after {data.at - start}"
        unread = data.skipped_from(at)
        return Trouble(at, "truncated_input", detail, unread, to_end=True)

    def _gap(self, at: int) -> Trouble:
        """Says what is missing behind the window, from the record at `at` on."""
        data, gap = self._bytes, self._bytes.gap
        assert gap
        unread = data.missing_from(at)
        data.pass_gap()
        return Trouble(at, gap.reason, gap.detail, unread, to_end=gap.last)


def _fields(header: bytes) -> dict[str, str]:
    """Returns a header's fields, of each name the first; names in lower case."""
    text = header.decode("utf-8", "replace")
    if "\n " in text or "\n\t" in text:
        text = _FOLDED.sub(" ", text)
    found = reversed(_FIELD.findall(text))
    return {name.strip().lower(): value.strip() for name, value in found}
