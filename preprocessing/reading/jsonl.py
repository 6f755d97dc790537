# SPDX-License-Identifier: Apache-2.0
"""JSON lines to documents: Arrow for whole blocks, each bad line judged alone.

A block that Arrow refuses is halved until few lines are left, which are then read one
by one, so a bad line costs its block little more than a second look. What becomes of a
line depends on that line alone, never on the block it happens to lie in: where both
parsers accept it they agree, and where one does it is kept.
"""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from preprocessing.foundation.read_sizes import READ_SIZES, ReadSizes
from preprocessing.foundation.string_buffers import array_of
from preprocessing.reading.documents import (
    Documents,
    Trouble,
    documents_of,
    no_documents,
    rejects_of,
)
from preprocessing.reading.extents import Extent, ReaderConfig
from preprocessing.reading.foreign_bytes import is_unicode, not_json_line, not_utf8
from preprocessing.reading.line_blocks import DocumentSpans

if TYPE_CHECKING:
    from preprocessing.reading.long_json import LongStrings

_SPACE = b" \t\r\n"
_MARK = b"\xef\xbb\xbf"
# A line that is larger comes alone, and is looked into for long strings first.
_HUGE_LINE = 8 << 20
_HOLE = bytes(16)  # more in a row than any encoding of text has
_OPEN, _CLOSE = ord("{"), ord("}")


class _Number(str):
    """A JSON number as it is spelled."""


def _integer(spelled: str) -> _Number:
    return _Number("0" if spelled == "-0" else spelled)  # as Arrow does


class JsonLines:
    """Parses blocks of JSON lines; a type named explicitly is never guessed.

    Without a schema Arrow turns "2020-01-01" into a timestamp. The text, the target and
    the URL are strings; an id is a string or an integer, kept as it is spelled, so both
    are tried, first the kind that fitted last.
    """

    def __init__(
        self, extent: Extent, reader: ReaderConfig, sizes: ReadSizes = READ_SIZES
    ) -> None:
        self._extent, self._reader, self._sizes = extent, reader, sizes
        string = pa.large_string()
        texts = [name for name in (reader.text_field, reader.target_field) if name]
        self._texts = texts
        # By name, since --id_field may be the URL's.
        strings = dict.fromkeys((*texts, reader.url_field), string)
        self._schemas = [
            pa.schema(list({**strings, reader.id_field: kind}.items()))
            for kind in (string, pa.int64())
        ]
        self._parts: list[Documents] = []
        self._troubles: list[Trouble] = []
        self._long: LongStrings | None = None  # of the one line that is parsed

    def parse(self, spans: DocumentSpans) -> Documents:
        """Returns the documents of a block's lines, none of which is blank."""
        if len(spans.starts) == 1 and spans.ends[0] - spans.starts[0] > _HUGE_LINE:
            found = self._parse_huge(spans)
            if found is not None:
                return found
        self._parts, self._troubles = [], list(spans.troubles)
        self._data, self._buffer = spans.data, pa.py_buffer(spans.data)
        self._starts, self._ends = spans.starts, spans.ends
        self._offsets = spans.offset + spans.starts
        self._wrapped = _wrapped(spans.data, spans.starts, spans.ends)
        if len(spans.starts):
            self._read(0, len(spans.starts))
        parts = self._parts or [no_documents(self._extent, self._reader)]
        troubles = self._troubles
        # Nothing is held on to: a line may have some hundred MB.
        self._data, self._buffer = b"", pa.py_buffer(b"")
        self._parts, self._troubles = [], []
        return replace(_joined(parts), rejects=rejects_of(self._extent, troubles))

    def _parse_huge(self, spans: DocumentSpans) -> Documents | None:
        """Parses a line without its long strings; None where that does not tell all."""
        # Imported here: a compiler comes with it.
        from preprocessing.reading.long_json import LongStrings

        start, end = int(spans.starts[0]), int(spans.ends[0])
        line = np.frombuffer(spans.data, np.uint8)[start:end]
        if not is_utf8(pa.py_buffer(line)):
            return None
        strings = LongStrings(line, self._sizes.long_bytes)
        if len(strings.line) > _HUGE_LINE or not strings.valid():
            return None
        first, last = np.array([0]), np.array([len(strings.line)])
        short = DocumentSpans(
            spans.offset + start, strings.line, first, last, spans.troubles
        )
        self._long = strings
        found = self.parse(short)
        self._long = None
        if any(reject.reason == "malformed_json" for reject in found.rejects):
            return None  # its detail names a place in the whole line
        return found

    def _read(self, first: int, last: int) -> None:
        table = None
        if self._wrapped[first:last].all():
            start, end = int(self._starts[first]), int(self._ends[last - 1])
            table = self._table(self._buffer.slice(start, end - start))
        # Lines all opened by { and closed by } cannot share an object, so as many rows
        # as lines means one row on each.
        if table is not None and table.num_rows == last - first:
            self._keep(table, first)
        elif last - first <= self._sizes.few_lines:
            for line in range(first, last):
                self._judge(line)
        else:
            middle = (first + last) // 2
            self._read(first, middle)
            self._read(middle, last)

    def _table(self, data: pa.Buffer) -> pa.Table | None:
        """Parses a buffer of lines; None where Arrow refuses it."""
        if not is_utf8(data):
            return None
        options = pj.ReadOptions(use_threads=False, block_size=data.size + 1)
        for schema in self._schemas:
            try:
                table = pj.read_json(
                    pa.BufferReader(data),
                    read_options=options,
                    parse_options=pj.ParseOptions(
                        explicit_schema=schema, unexpected_field_behavior="ignore"
                    ),
                )
            except pa.ArrowInvalid:
                continue
            if schema is not self._schemas[0]:
                self._schemas.reverse()
            return table
        return None

    def _keep(self, table: pa.Table, first: int) -> None:
        reader = self._reader
        lines = np.arange(first, first + table.num_rows)
        for name in self._texts:
            there = pc.is_valid(table.column(name))
            if table.column(name).null_count:
                valid = there.to_numpy()
                ids = table.column(reader.id_field).filter(pc.invert(there))
                gone = lines[~valid].tolist()
                for line, known in zip(gone, ids.to_pylist(), strict=True):
                    self._missing(line, name, _spelled(known))
                table, lines = table.filter(there), lines[valid]
        texts, names, urls = (
            _one_array(table.column(name))
            for name in (reader.text_field, reader.id_field, reader.url_field)
        )
        ids = None
        if names.null_count < len(names):
            ids = pc.cast(names, pa.large_string())
        targets = None
        if reader.target_field:
            targets = _one_array(table.column(reader.target_field))
        self._add(lines, texts, ids, urls, targets)

    def _judge(self, line: int) -> None:
        """Reads one line, or says what is wrong with it."""
        start, end = int(self._starts[line]), int(self._ends[line])
        if self._data[start : start + len(_MARK)] == _MARK:
            start += len(_MARK)  # files were joined
        data = self._data[start:end]
        try:
            fields = json.loads(data.decode(), parse_int=_integer, parse_float=_Number)
        except UnicodeDecodeError as error:
            detail = not_utf8(data, f"byte {error.start} of the line")
            self._reject(line, "invalid_utf8", detail)
        except (ValueError, RecursionError) as error:
            # Arrow reads deeper nesting, and `Inf`, in fields nobody asked for.
            table = None
            if self._wrapped[line] or start > self._starts[line]:
                table = self._table(self._buffer.slice(start, end - start))
            if table is not None and table.num_rows == 1:
                self._keep(table, line)
            elif 2 * len(_HOLE) * data.count(_HOLE) > len(data):
                self._hole(line, data.count(b"\0"))
            else:
                self._reject(line, "malformed_json", not_json_line(data, str(error)))
        else:
            self._judge_fields(line, fields)

    def _judge_fields(self, line: int, fields: Any) -> None:
        if not isinstance(fields, dict):
            what = f"a {_name(fields)}, not an object"
            if isinstance(fields, list):
                what = "a JSON array, not an object (jq -c '.[]' makes lines of it)"
            self._reject(line, "wrong_type", what)
            return
        name = fields.get(self._reader.id_field)
        if isinstance(name, float) and name != name:
            name = None  # a NaN, which is no number of JSON's
        known = _spelled(name)
        texts: list[str] = []
        for field in self._texts:
            text = fields.get(field)
            if text is None:
                self._missing(line, field, known)
                return
            if not _is_text(text):
                what = f"{field} is a {_name(text)}, not a string"
                self._reject(line, "wrong_type", what, known)
                return
            texts.append(text)
        url = fields.get(self._reader.url_field)
        if name is not None and not isinstance(name, str):
            what = f"{self._reader.id_field} is a {_name(name)}"
            self._reject(line, "wrong_type", f"{what}, not a string or a number")
        elif not all(is_unicode(value) for value in (*texts, name or "")):
            self._reject(line, "invalid_utf8", "an escaped lone surrogate", known)
        else:
            if not _is_text(url) or not is_unicode(url):
                url = None
            columns = [pa.array([value], pa.large_string()) for value in (*texts, url)]
            ids = None if name is None else pa.array([str(name)], pa.large_string())
            targets = columns[1] if len(texts) > 1 else None
            self._add(np.array([line]), columns[0], ids, columns[-1], targets)

    def _add(
        self,
        lines: np.ndarray,
        texts: pa.Array,
        ids: pa.Array | None,
        urls: pa.Array,
        targets: pa.Array | None,
    ) -> None:
        """Adds documents by their lines' numbers, int64 [n]."""
        columns = [texts, ids, _addresses(urls), targets]
        if self._long is not None:
            columns = [_restored(column, self._long) for column in columns]
        texts, ids, urls, targets = columns
        offsets = self._offsets[lines]
        self._parts.append(
            documents_of(self._extent, texts, offsets, ids, urls, targets)
        )

    def _missing(self, line: int, field: str, name: str | None = None) -> None:
        self._reject(line, "missing_field", f"no {field}", name)

    def _hole(self, line: int, size: int) -> None:
        """Adds what a crash or a failed download left: records, not one line."""
        offset, detail = int(self._offsets[line]), f"a hole of {size} NUL bytes"
        unread = size if self._extent.compression == "none" else 0
        self._troubles.append(Trouble(offset, "damaged_input", detail, unread))

    def _reject(
        self, line: int, reason: str, detail: str, name: str | None = None
    ) -> None:
        if name is not None and self._long is not None:
            long = self._long.behind(memoryview(name.encode()))
            name = name if long is None else bytes(long).decode()
        offset = int(self._offsets[line])
        self._troubles.append(Trouble(offset, reason, detail, id=name))


def _joined(parts: list[Documents]) -> Documents:
    """Returns consecutive parts as one."""
    if len(parts) == 1:
        return parts[0]
    targets = [part.targets for part in parts if part.targets is not None]
    return replace(
        parts[0],
        texts=pa.concat_arrays([part.texts for part in parts]),
        keys=np.concatenate([part.keys for part in parts]),
        ids=_filled([(part, part.ids) for part in parts]),
        offsets=np.concatenate([part.offsets for part in parts]),
        urls=_filled([(part, part.urls) for part in parts]),
        targets=pa.concat_arrays(targets) if targets else None,
    )


def _filled(
    parts: list[tuple[Documents, pa.LargeStringArray | None]],
) -> pa.LargeStringArray | None:
    """Returns a column of all parts, null where a part has none; None if none has."""
    if all(column is None for _, column in parts):
        return None
    string = pa.large_string()
    return pa.concat_arrays(
        [
            pa.nulls(len(part.keys), string) if column is None else column
            for part, column in parts
        ]
    )


def _restored(values: pa.Array | None, strings: "LongStrings") -> pa.Array | None:
    """Returns one line's value, or none, with the long string that it stands for."""
    if values is None or values.null_count == len(values):
        return values
    text = strings.behind(memoryview(values[0].as_buffer()))
    return values if text is None else array_of(text, np.array([0, len(text)]))


def _addresses(urls: pa.Array) -> pa.LargeStringArray | None:
    """Returns a column of URLs; None where no row has one, an integer being none."""
    if urls.null_count == len(urls) or pa.types.is_integer(urls.type):
        return None
    return urls


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and not isinstance(value, _Number)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def is_utf8(data: pa.Buffer) -> bool:
    """Tells whether the bytes are UTF-8; Arrow's JSON parser does not look."""
    try:
        array_of(data, np.array([0, data.size])).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _wrapped(
    data: bytes | bytearray, starts: np.ndarray, ends: np.ndarray
) -> np.ndarray:
    """Tells which lines open with { and close with }, white space aside, bool [n]."""
    view = np.frombuffer(data, np.uint8)
    wrapped = (view[starts] == _OPEN) & (view[ends - 1] == _CLOSE)
    for line in np.flatnonzero(~wrapped).tolist():
        text = data[int(starts[line]) : int(ends[line])].strip(_SPACE)
        wrapped[line] = text.startswith(b"{") and text.endswith(b"}")
    return wrapped


def _name(value: Any) -> str:
    names = {_Number: "number", bool: "boolean", dict: "object", str: "string"}
    return names.get(type(value), type(value).__name__)


def _spelled(name: Any) -> str | None:
    """Returns an id for a message about its document, None where it is none."""
    if isinstance(name, bool) or not isinstance(name, str | int):
        return None
    return str(name) if is_unicode(str(name)) else None
