# SPDX-License-Identifier: Apache-2.0
r"""Records of CSV and TSV: where their fields end, found by one compiled pass.

    id,text\r\n                              the header is a record, too
    7,"He said ""no"",\nand left"\r\n

A quote that is never closed is bad, and so is one that holds line ends and closes in
the middle of a field: one was forgotten, and the next field's closed it. Its record
ends with the line on which it opens, and the lines behind that are read again.
"""

import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np

from preprocessing.foundation.compiled import compiled
from preprocessing.foundation.read_sizes import ReadSizes
from preprocessing.reading.extents import (
    NO_QUOTE,
    QUOTE_BY_FORMAT,
    Extent,
    ReaderConfig,
)
from preprocessing.reading.line_blocks import read_chunks

_DELIMITERS = {"csv": ord(","), "tsv": ord("\t")}
_NEWLINE, _RETURN = ord("\n"), ord("\r")
_NOTHING = 256  # no byte
_IS_LINE_END = np.isin(np.arange(256), (_NEWLINE, _RETURN))
# Where a scan stands between two bytes; the last one: behind a bad quote that opened
# before all of them.
_AT_START, _BARE, _QUOTED, _AFTER_QUOTE, _LOST = 0, 1, 2, 3, 4
# What ends with a field: nothing more, its record, or a record with a bad quote.
_GOES_ON, _CLOSES, _BREAKS = 0, 1, 2
_MARK = b"\xef\xbb\xbf"  # UTF-8's, which also stands where files were joined
_MARK_0, _MARK_1, _MARK_2 = _MARK
BAD_QUOTE = "a quote that is never closed, or closes where no field ends"


@compiled
def _scan(
    data: np.ndarray,
    state: int,
    crossed: bool,
    final: bool,
    delimiter: int,
    quote: int,
    is_line_end: np.ndarray,
    ends: np.ndarray,
    closes: np.ndarray,
) -> tuple[int, int, int]:
    """Finds where fields end.

    It goes back to the line on which a bad quote opens once it meets the quote behind
    it, or the end, so a byte is looked at twice at most as a rule.

    Args:
        data: bytes, uint8 [n].
        state: where the scan stands before data[0].
        crossed: whether the quoted field that is open there holds a line end.
        final: whether the file ends behind data[-1], which is a line end then.
        delimiter: the byte between fields.
        quote: the byte that quotes them; 256 for none.
        is_line_end: of each byte, bool [256].
        ends: int64 [n], filled with the places of the bytes that end fields.
        closes: int8 [n], filled with what else each of these ends.

    Returns:
        (fields found, where the scan stands behind data[-1], where the last quote
        opened: -1 before data[0]).
    """
    count, opened, at, size = 0, -1, 0, len(data)
    while True:
        lost = False
        while at < size:
            byte = data[at]
            if state == _QUOTED:
                if byte == quote:
                    state = _AFTER_QUOTE
                elif is_line_end[byte]:
                    crossed = True
            elif byte == quote and state != _BARE:
                if state == _AT_START:
                    opened, crossed = at, False
                state = _QUOTED  # opens a field, or is the second of two inside one
            elif byte == delimiter or is_line_end[byte]:
                ends[count] = at
                closes[count] = _GOES_ON if byte == delimiter else _CLOSES
                count += 1
                state = _AT_START
            elif state == _AFTER_QUOTE and crossed:
                lost = True
                break
            elif (
                byte == _MARK_0
                and state == _AT_START
                and (count == 0 or closes[count - 1] != _GOES_ON)
                and at + 2 < size
                and data[at + 1] == _MARK_1
                and data[at + 2] == _MARK_2
            ):
                at += 2  # the record begins behind the mark
            else:
                state = _BARE
            at += 1
        if not lost and not (final and state == _QUOTED):
            return count, state, opened
        if opened < 0:
            return count, _LOST, opened
        at = opened
        while not is_line_end[data[at]]:
            at += 1
        ends[count], closes[count] = at, _BREAKS
        count, state, at = count + 1, _AT_START, at + 1


@dataclass(frozen=True)
class Records:
    """Whole records: their bytes, and the places in them at which fields end.

    Attributes:
        data: the records' bytes.
        ends: of the bytes behind fields, ascending.
        closes: the places in `ends` at which records end.
        broken: those of `closes` whose record has a bad quote.
        oversized: the bytes of one record too large to hold, which stands alone.
        unclosed: that one stands there, alone and not held, whose quote is bad.
    """

    data: bytes = b""
    ends: Sequence[int] = ()
    closes: Sequence[int] = ()
    broken: AbstractSet[int] = frozenset()
    oversized: int = 0
    unclosed: bool = False

    @property
    def end(self) -> int:
        """Where the last whole record ends."""
        return self.ends[self.closes[-1]] + 1 if self.closes else 0

    def each(self) -> Iterator[tuple[int, int, Sequence[int]]]:
        """Yields each record: its place in `ends`, where it starts, its own ends.

        A mark of UTF-8 before it is left out, also where files were joined.
        """
        first = 0
        for last in self.closes:
            start = self.ends[first - 1] + 1 if first else 0
            if self.data.startswith(_MARK, start):
                start += len(_MARK)
            yield last, start, self.ends[first : last + 1]
            first = last + 1


@dataclass(frozen=True)
class Dialect:
    """The bytes that separate and quote fields; 256 where nothing quotes."""

    delimiter: int
    quote: int

    @functools.cached_property
    def _parts(self) -> re.Pattern[bytes]:
        """The longest quoted beginning of a field, and what follows it."""
        q = re.escape(bytes([self.quote]))
        found = b"%b((?:[^%b]++|%b%b)*+)%b?(.*)" % (q, q, q, q, q)
        return re.compile(found, re.DOTALL)

    def unquoted(self, field: bytes) -> bytes:
        """Returns what a field holds."""
        if self.quote == _NOTHING or not field or field[0] != self.quote:
            return field
        if field.find(self.quote, 1) == len(field) - 1:
            return field[1:-1]  # nothing is quoted inside
        found = self._parts.fullmatch(field)
        assert found  # any field that starts with a quote matches
        quote = bytes([self.quote])
        return found[1].replace(2 * quote, quote) + found[2]


def dialect_of(extent: Extent, reader: ReaderConfig) -> Dialect:
    """Returns what the reader asks for, or else what the format's standard says."""
    quote = reader.quote
    if quote == QUOTE_BY_FORMAT:
        quote = '"' if extent.format == "csv" else NO_QUOTE
    code = _NOTHING if quote == NO_QUOTE else ord(quote)
    return Dialect(_DELIMITERS[extent.format], code)


def read_records(
    file: BinaryIO, extent: Extent, reader: ReaderConfig, sizes: ReadSizes
) -> Iterator[Records]:
    """Yields blocks of whole records, of chunks joined as far as one record needs.

    Raises:
        DamagedInput: behind the last whole record before the damage.
    """
    dialect, held, at = dialect_of(extent, reader), b"", 0
    chunks = read_chunks(file, extent, sizes)
    while (chunk := next(chunks, None)) is not None:
        # What is held is scanned again with each chunk: at most 16 times, at the
        # default limit, for a document of the largest size.
        data = held + chunk
        records, state, opened = _scanned(data, dialect)
        end = records.end
        yield records
        held = data[end:]
        at += end
        if len(held) > reader.max_document_bytes:
            open_record = _OpenRecord(held, state, opened - end)
            held = b""
            passed, rest, behind = open_record.passed(chunks, dialect)
            yield passed
            at += behind
            if passed.unclosed:
                chunks = _chunks_from(file, extent, sizes, at)
            else:
                chunks = itertools.chain(filter(None, [rest]), chunks)
    if held:
        yield _scanned(held + b"\n", dialect, final=True)[0]


class _OpenRecord:
    """A record too large to hold, whose end is looked for as it streams past."""

    def __init__(self, held: bytes, state: int, opened: int) -> None:
        self._size, self._state = len(held), state
        # Behind the line on which the last quote opened, 0 while that line goes on.
        self._line = _behind_line(held, max(0, opened))

    def passed(
        self, chunks: Iterator[bytes], dialect: Dialect
    ) -> tuple[Records, bytes, int]:
        """Returns what stands for the record, the rest of a chunk, the bytes passed."""
        while (chunk := next(chunks, None)) is not None:
            found, state, opened = _scanned(
                chunk, dialect, self._state, crossed=self._line > 0
            )
            if found.closes:
                end = found.ends[found.closes[0]] + 1
                size = self._size + end
                return Records(oversized=size), chunk[end:], size
            if state == _LOST:
                return Records(unclosed=True), b"", self._line
            if opened >= 0 or not self._line:
                behind = _behind_line(chunk, max(0, opened))
                self._line = self._size + behind if behind else 0
            self._size, self._state = self._size + len(chunk), state
        if self._state == _QUOTED:
            return Records(unclosed=True), b"", self._line or self._size
        return Records(oversized=self._size), b"", self._size


def _behind_line(data: bytes, start: int) -> int:
    """Returns the place behind the first line end from `start` on, 0 if none is."""
    places = (data.find(b"\n", start) + 1, data.find(b"\r", start) + 1)
    return min(filter(None, places), default=0)


def _chunks_from(
    file: BinaryIO, extent: Extent, sizes: ReadSizes, at: int
) -> Iterator[bytes]:
    """Yields the file's (uncompressed) bytes from `at` on, once more."""
    if extent.compression == "none":
        # An extent is read from one byte earlier.
        yield from read_chunks(file, replace(extent, start=at + 1), sizes)
        return
    file.seek(0)
    for chunk in read_chunks(file, extent, sizes):
        if rest := chunk[at:]:
            yield rest
        at = max(0, at - len(chunk))


def _scanned(
    data: bytes,
    dialect: Dialect,
    state: int = _AT_START,
    crossed: bool = False,
    final: bool = False,
) -> tuple[Records, int, int]:
    """Returns the records and fields in some bytes, and how the scan stands behind."""
    most = data.count(dialect.delimiter) + data.count(_NEWLINE) + data.count(_RETURN)
    ends, closes = np.empty(most, np.int64), np.empty(most, np.int8)
    view = np.frombuffer(data, np.uint8)
    count, state, opened = _scan(
        view,
        state,
        crossed,
        final,
        dialect.delimiter,
        dialect.quote,
        _IS_LINE_END,
        ends,
        closes,
    )
    kinds = closes[:count]
    last = np.flatnonzero(kinds != _GOES_ON).tolist()
    broken = frozenset(np.flatnonzero(kinds == _BREAKS).tolist())
    return Records(data, ends[:count].tolist(), last, broken), state, opened
