# SPDX-License-Identifier: Apache-2.0
r"""Documents out of CSV and TSV: quoted fields may hold delimiters and line ends.

    id,text\r\n          the header names the columns
    7,"He said ""no"",\nand left"\r\n

RFC 4180 as Python's and Arrow's readers take it: a quote opens a field only as its
first character, two quotes inside a quoted field are one, a line ends at \n, \r or
\r\n outside quotes, and blank lines are nothing. Records are found by one compiled
pass, since both of those readers give up on a file at its first bad or oversized
record, and each bad record here costs itself alone. A file is read whole: whether a
line end in its middle ends a record follows from all quotes before it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from preprocessing.foundation.compiled import compiled
from preprocessing.foundation.decompression import DamagedInput
from preprocessing.foundation.read_sizes import ReadSizes
from preprocessing.reading.documents import (
    Documents,
    Gathered,
    Trouble,
    no_documents,
)
from preprocessing.reading.extents import Extent, ReaderConfig
from preprocessing.reading.line_blocks import read_chunks

# The longest quoted beginning of a field, and what follows it.
_PARTS = re.compile(rb'"((?:[^"]++|"")*+)"?(.*)', re.DOTALL)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DELIMITERS = {"csv": ord(","), "tsv": ord("\t")}
_QUOTE, _NEWLINE, _RETURN = ord('"'), ord("\n"), ord("\r")
_IS_LINE_END = np.isin(np.arange(256), (_NEWLINE, _RETURN))
# Where a scan stands between two bytes.
_AT_START, _BARE, _QUOTED, _AFTER_QUOTE = 0, 1, 2, 3


@compiled
def _scan(
    data: np.ndarray,
    state: int,
    delimiter: int,
    is_line_end: np.ndarray,
    ends: np.ndarray,
    closes: np.ndarray,
) -> tuple[int, int]:
    """Finds where fields end.

    Args:
        data: bytes, uint8 [n].
        state: where the scan stands before data[0].
        delimiter: the byte between fields.
        is_line_end: of each byte, bool [256].
        ends: int64 [n], filled with the places of the bytes that end fields.
        closes: bool [n], filled with whether each of these ends its record too.

    Returns:
        (fields found, where the scan stands behind data[-1]).
    """
    count = 0
    for at in range(len(data)):
        byte = data[at]
        if state == _QUOTED:
            if byte == _QUOTE:
                state = _AFTER_QUOTE
        elif byte == _QUOTE and state != _BARE:
            state = _QUOTED  # opens a field, or is the second of two inside one
        elif byte == delimiter or is_line_end[byte]:
            ends[count], closes[count] = at, byte != delimiter
            count += 1
            state = _AT_START
        else:
            state = _BARE
    return count, state


@dataclass(frozen=True)
class _Records:
    """Whole records: their bytes, and fields as `_scan` finds them.

    `oversized` is the size of one record too large to hold, which then stands alone;
    `unclosed` that the last field opens a quote that the file never closes.
    """

    data: bytes = b""
    ends: Sequence[int] = ()
    closes: Sequence[int] = ()
    oversized: int = 0
    unclosed: bool = False


def read_delimited(
    file: BinaryIO, extent: Extent, reader: ReaderConfig, sizes: ReadSizes
) -> Iterator[Documents]:
    """Yields a CSV or TSV file's documents; an offset is the record's number.

    The header's record is not counted. A record with more or fewer fields than the
    header is a reject, and an empty id is none.
    """
    rows = _Rows(extent, reader)
    chunks = read_chunks(file, extent, sizes)
    try:
        for records in _records(chunks, _DELIMITERS[extent.format], reader):
            yield rows.documents(records)
    except DamagedInput as damage:
        trouble = Trouble(rows.number, damage.reason, damage.detail)
        yield no_documents(extent, reader, [trouble])


def _records(
    chunks: Iterator[bytes], delimiter: int, reader: ReaderConfig
) -> Iterator[_Records]:
    """Yields blocks of whole records, of chunks joined as far as one record needs."""
    held, skipped, state = b"", 0, _AT_START
    for number, chunk in enumerate(chunks):
        if number == 0:
            chunk = chunk.removeprefix(_BYTE_ORDER_MARK)
        if skipped:
            records, state = _scanned(chunk, state, delimiter)
            end = records.ends[records.closes[0]] + 1 if len(records.closes) else 0
            skipped += end or len(chunk)
            if not end:
                continue
            yield _Records(oversized=skipped)
            skipped, chunk = 0, chunk[end:]
        # What is held is scanned again with each chunk: at most 16 times, at the
        # default limit, for a document of the largest size.
        records, state = _scanned(held + chunk, _AT_START, delimiter)
        end = records.ends[records.closes[-1]] + 1 if len(records.closes) else 0
        yield records
        held = records.data[end:]
        if len(held) > reader.max_document_bytes:
            held, skipped = b"", len(held)
    if skipped:
        yield _Records(oversized=skipped)
    elif held:
        records, _ = _scanned(held + b"\n", _AT_START, delimiter)
        if len(records.closes):
            yield records
        else:
            yield _Records(unclosed=True)


def _scanned(data: bytes, state: int, delimiter: int) -> tuple[_Records, int]:
    """Returns where the fields and records of some bytes end, and the state behind."""
    most = data.count(delimiter) + data.count(_NEWLINE) + data.count(_RETURN)
    ends, closes = np.empty(most, np.int64), np.empty(most, bool)
    view = np.frombuffer(data, np.uint8)
    count, state = _scan(view, state, delimiter, _IS_LINE_END, ends, closes)
    last = np.flatnonzero(closes[:count])
    return _Records(data, ends[:count].tolist(), last.tolist()), state


class _Rows:
    """Turns records into documents by the columns that the first one names."""

    def __init__(self, extent: Extent, reader: ReaderConfig) -> None:
        self.number = 0
        self._extent, self._reader = extent, reader
        self._width = 0
        self._texts: list[int | None] = []
        self._names: list[int | None] = []

    def documents(self, records: _Records) -> Documents:
        """Returns a block's documents and rejects."""
        gathered = Gathered(self._extent, self._reader)
        if records.oversized or records.unclosed:
            if records.unclosed:
                gathered.reject(self.number, "malformed_csv", "a quote is never closed")
            else:
                size = f"a record of {records.oversized} bytes"
                gathered.reject(self.number, "too_large", size)
            self.number += 1
        first = 0
        for last in records.closes:
            start = records.ends[first - 1] + 1 if first else 0
            ends = records.ends[first : last + 1]
            first = last + 1
            if ends[-1] > start:
                self._record(gathered, records.data, start, ends)
        return gathered.drain()

    def _record(
        self, gathered: Gathered, data: bytes, start: int, ends: Sequence[int]
    ) -> None:
        if not self._width:
            self._header(data, start, ends)
            return
        number, self.number = self.number, self.number + 1
        size = ends[-1] - start
        if size > self._reader.max_document_bytes:
            gathered.reject(number, "too_large", f"a record of {size} bytes")
            return
        if len(ends) != self._width:
            detail = f"{len(ends)} fields, the header has {self._width}"
            gathered.reject(number, "malformed_csv", detail)
            return
        starts = [start, *(end + 1 for end in ends[:-1])]

        def field(place: int) -> str:
            return _unquoted(data[starts[place] : ends[place]]).decode()

        try:
            texts = [field(place) for place in self._texts if place is not None]
            name, url = (
                place if place is None else field(place) for place in self._names
            )
        except UnicodeDecodeError as error:
            gathered.reject(number, "invalid_utf8", f"byte {error.start} of a field")
            return
        if len(texts) < len(self._texts):
            gathered.reject(number, "missing_field", "no such column")
            return
        gathered.add(texts[0], name or None, number, url or None, *texts[1:])

    def _header(self, data: bytes, start: int, ends: Sequence[int]) -> None:
        """Finds the columns' places by their names; of two of a name, the first."""
        places: dict[str, int] = {}
        for place, end in enumerate(ends):
            name = _unquoted(data[start:end]).decode(errors="backslashreplace")
            places.setdefault(name, place)
            start = end + 1
        self._width = len(ends)
        reader = self._reader
        texts = [name for name in (reader.text_field, reader.target_field) if name]
        self._texts = [places.get(name) for name in texts]
        self._names = [places.get(reader.id_field), places.get(reader.url_field)]


def _unquoted(field: bytes) -> bytes:
    if not field.startswith(b'"'):
        return field
    if field.find(b'"', 1) == len(field) - 1:
        return field[1:-1]  # nothing is quoted inside
    found = _PARTS.fullmatch(field)
    assert found  # any field that starts with a quote matches
    return found[1].replace(b'""', b'"') + found[2]
