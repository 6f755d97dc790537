# SPDX-License-Identifier: Apache-2.0
r"""Documents out of CSV and TSV: quoted fields may hold delimiters and line ends.

    id,text\r\n          the header names the columns
    7,"He said ""no"",\nand left"\r\n

RFC 4180 as Python's and Arrow's readers take it: a quote opens a field only as its
first character, two quotes inside a quoted field are one, a line ends at \n, \r or
\r\n outside quotes, and blank lines are nothing. Nothing is quoted in TSV, since IANA's
text/tab-separated-values knows no quotes; `ReaderConfig.quote` can say otherwise.

Each bad record costs itself alone, where both of those readers give up on a file at its
first bad or oversized record (delimited_records.py finds them). A file is read whole:
whether a line end in its middle ends a record follows from all quotes before it.
"""

from collections.abc import Iterator, Sequence
from typing import BinaryIO

from preprocessing.foundation.commands import count_of
from preprocessing.foundation.decompression import DamagedInput
from preprocessing.foundation.read_sizes import ReadSizes
from preprocessing.reading.delimited_records import (
    BAD_QUOTE,
    Records,
    dialect_of,
    read_records,
)
from preprocessing.reading.documents import (
    Documents,
    Gathered,
    no_documents,
)
from preprocessing.reading.extents import Extent, ReaderConfig
from preprocessing.reading.foreign_bytes import listed, not_utf8
from preprocessing.reading.streams import rest_of

_NO_HEADER = -1


def read_delimited(
    file: BinaryIO, extent: Extent, reader: ReaderConfig, sizes: ReadSizes
) -> Iterator[Documents]:
    """Yields a CSV or TSV file's documents; an offset is the record's number.

    The header's record is not counted. A record with more or fewer fields than the
    header is a reject, and an empty id is none.
    """
    rows, whole, at = _Rows(extent, reader), 0, file.tell()
    packed = extent.compression != "none"
    try:
        for records in read_records(file, extent, reader, sizes):
            before, at = at, file.tell()
            unread = max(1, at - before) if packed else records.oversized
            yield rows.documents(records, unread)
            whole += records.end + records.oversized
    except DamagedInput as damage:
        trouble = rest_of(extent, damage, rows.number, whole)
        yield no_documents(extent, reader, [trouble])


def read_fields(
    file: BinaryIO, extent: Extent, reader: ReaderConfig, sizes: ReadSizes
) -> Iterator[list[str]]:
    """Yields the fields of every record, the header's too, for files read for all.

    Raises:
        ValueError: a record cannot be read; it says which and why.
        DamagedInput: behind the last record before the damage.
    """
    dialect, number = dialect_of(extent, reader), 0
    for records in read_records(file, extent, reader, sizes):
        if records.oversized or records.unclosed:
            why = BAD_QUOTE if records.unclosed else f"{records.oversized} bytes"
            raise ValueError(f"{why} (record {number + 1})")
        for last, start, ends in records.each():
            number += 1
            if last in records.broken:
                raise ValueError(f"{BAD_QUOTE} (record {number})")
            starts = [start, *(end + 1 for end in ends[:-1])]
            yield [
                _text(dialect.unquoted(records.data[first:end]), number)
                for first, end in zip(starts, ends, strict=True)
            ]


def _text(field: bytes, number: int) -> str:
    try:
        return field.decode()
    except UnicodeDecodeError as error:
        place = f"not UTF-8: {error.reason} in record {number}"
        raise ValueError(not_utf8(field, place)) from None


class _Rows:
    """Turns records into documents by the columns that the first one names."""

    def __init__(self, extent: Extent, reader: ReaderConfig) -> None:
        self.number = 0
        self._extent, self._reader = extent, reader
        self._dialect = dialect_of(extent, reader)
        self._head, self._width = b"", 0
        self._fault: tuple[str, str] | None = None  # the header's: reason and detail
        self._texts: list[int] = []
        self._names: list[int | None] = []

    def documents(self, records: Records, unread: int) -> Documents:
        """Returns a block's documents and rejects.

        Args:
            records: the block.
            unread: stored bytes that went by unread where it is an oversized record.
        """
        gathered = Gathered(self._extent, self._reader)
        if records.oversized or records.unclosed:
            self._width = self._width or _NO_HEADER
        if records.oversized:
            size = f"a record of {records.oversized} bytes"
            self._reject(gathered, "too_large", size, unread)
        elif records.unclosed:
            self._reject(gathered, "malformed_csv", BAD_QUOTE)
        for last, start, ends in records.each():
            if last in records.broken:
                self._width = self._width or _NO_HEADER
                self._reject(gathered, "malformed_csv", BAD_QUOTE)
            elif ends[-1] > start:
                self._record(gathered, records.data, start, ends)
        return gathered.drain()

    def _reject(
        self, gathered: Gathered, reason: str, detail: str, unread: int = 0
    ) -> None:
        """Adds the next record as a reject."""
        gathered.reject(self.number, reason, detail, unread)
        self.number += 1

    def _record(
        self, gathered: Gathered, data: bytes, start: int, ends: Sequence[int]
    ) -> None:
        if not self._width:
            self._header(data, start, ends)
            return
        number, size = self.number, ends[-1] - start
        if size > self._reader.max_document_bytes:
            self._reject(gathered, "too_large", f"a record of {size} bytes")
            return
        if self._fault:
            self._reject(gathered, *self._fault)
            return
        if len(ends) != self._width:
            detail = f"{count_of(len(ends), 'field')}, the header has {self._width}"
            if self._width == _NO_HEADER:
                detail = "the header before it cannot be read"
            self._reject(gathered, "malformed_csv", detail)
            return
        again = size == len(self._head) and self._width > 1
        if again and data.startswith(self._head, start):
            self._reject(gathered, "malformed_csv", "the header once more")
            return
        self.number += 1
        starts = [start, *(end + 1 for end in ends[:-1])]

        def field(place: int) -> str:
            return self._dialect.unquoted(data[starts[place] : ends[place]]).decode()

        name = None
        try:
            name, url = (
                place if place is None else field(place) for place in self._names
            )
            texts = [field(place) for place in self._texts]
        except UnicodeDecodeError as error:
            detail = f"byte {error.start} of a field"
            gathered.reject(number, "invalid_utf8", detail, name=name)
            return
        gathered.add(texts[0], name, number, url or None, *texts[1:])

    def _header(self, data: bytes, start: int, ends: Sequence[int]) -> None:
        """Finds the columns' places by their names."""
        places: dict[str, list[int]] = {}
        self._head = data[start : ends[-1]]
        self._width = len(ends)
        for place, end in enumerate(ends):
            name = self._dialect.unquoted(data[start:end]).decode(
                errors="backslashreplace"
            )
            places.setdefault(name, []).append(place)
            start = end + 1
        reader = self._reader
        texts = [name for name in (reader.text_field, reader.target_field) if name]
        marks = [reader.id_field, reader.url_field]
        self._texts = [places[name][0] for name in texts if name in places]
        self._names = [places.get(name, [None])[0] for name in marks]
        self._fault = self._judged(places, texts, marks)

    def _judged(
        self, places: dict[str, list[int]], texts: list[str], marks: list[str]
    ) -> tuple[str, str] | None:
        """Returns what is wrong with a header: a reject's reason and detail."""
        for name in texts:
            if name not in places:
                there = f"no column {name}, the header has {listed([*places])}"
                return "missing_field", not_utf8(self._head, there)
        for name in (*texts, *marks):
            if len(places.get(name, ())) > 1:
                return "wrong_type", f"{len(places[name])} columns are called {name}"
        return None
