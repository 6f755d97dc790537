# SPDX-License-Identifier: Apache-2.0
"""JSON lines to columns: Arrow for whole blocks, each bad line judged alone.

A block that Arrow refuses is halved until few lines are left, which are then read one
by one, so a bad line costs its block little more than a second look. What becomes of a
line depends on that line alone, never on the block it happens to lie in: where both
parsers accept it they agree, and where one does it is kept.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from preprocessing.documents import ReaderConfig

_SPACE = b" \t\r\n"
# Below this, Arrow's fixed cost of 150 us a call exceeds json's 5 us a line.
_FEW_LINES = 32
_OPEN, _CLOSE = ord("{"), ord("}")


class _Number(str):
    """A JSON number as it is spelled."""


def _integer(spelled: str) -> _Number:
    return _Number("0" if spelled == "-0" else spelled)  # as Arrow does


@dataclass(frozen=True)
class Parsed:
    """Consecutive documents: texts [n], ids [n] or None, and their lines int64 [n]."""

    texts: pa.LargeStringArray
    ids: Sequence[str | None] | None
    lines: np.ndarray


class JsonLines:
    """Parses blocks of JSON lines; a type named explicitly is never guessed.

    Without a schema Arrow turns "2020-01-01" into a timestamp. The text is a string;
    an id is a string or an integer, kept as it is spelled, so both are tried, first
    the kind that fitted last.
    """

    def __init__(self, reader: ReaderConfig) -> None:
        self._reader = reader
        text = (reader.text_field, pa.large_string())
        self._schemas = [
            pa.schema([text, (reader.id_field, kind)])
            for kind in (pa.large_string(), pa.int64())
        ]
        self._parsed: list[Parsed] = []
        self._rejected: list[tuple[int, str, str]] = []

    def parse(
        self, data: bytes, starts: np.ndarray, ends: np.ndarray
    ) -> tuple[Parsed, list[tuple[int, str, str]]]:
        """Parses the lines data[starts:ends], none of them blank.

        Returns:
            The documents, and (line, reason, detail) of each rejected line.
        """
        self._parsed, self._rejected = [], []
        self._data, self._buffer = data, pa.py_buffer(data)
        self._starts, self._ends = starts, ends
        self._wrapped = _wrapped(data, starts, ends)
        if len(starts):
            self._read(0, len(starts))
        return _joined(self._parsed), self._rejected

    def _read(self, first: int, last: int) -> None:
        table = None
        if self._wrapped[first:last].all():
            start, end = int(self._starts[first]), int(self._ends[last - 1])
            table = self._table(self._buffer.slice(start, end - start))
        # Lines all opened by { and closed by } cannot share an object, so as many rows
        # as lines means one row on each.
        if table is not None and table.num_rows == last - first:
            self._keep(table, first)
        elif last - first <= _FEW_LINES:
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
        texts = _one_array(table.column(0))
        names = _one_array(table.column(1))
        lines = np.arange(first, first + len(texts))
        if texts.null_count:
            there = texts.is_valid()
            for line in lines[~there.to_numpy(zero_copy_only=False)].tolist():
                self._missing(line)
            texts, names = texts.filter(there), names.filter(there)
            lines = lines[there.to_numpy(zero_copy_only=False)]
        ids = None
        if names.null_count < len(names):
            ids = pc.cast(names, pa.large_string()).to_pylist()
        self._parsed.append(Parsed(texts, ids, lines))

    def _judge(self, line: int) -> None:
        """Reads one line, or says what is wrong with it."""
        start, end = int(self._starts[line]), int(self._ends[line])
        try:
            text = self._data[start:end].decode()
            fields = json.loads(text, parse_int=_integer, parse_float=_Number)
        except UnicodeDecodeError as error:
            self._reject(line, "invalid_utf8", f"byte {error.start} of the line")
        except (ValueError, RecursionError) as error:
            # Arrow reads deeper nesting, and `Inf`, in fields nobody asked for.
            table = None
            if self._wrapped[line]:
                table = self._table(self._buffer.slice(start, end - start))
            if table is not None and table.num_rows == 1:
                self._keep(table, line)
            else:
                self._reject(line, "malformed_json", str(error))
        else:
            self._judge_fields(line, fields)

    def _judge_fields(self, line: int, fields: Any) -> None:
        if not isinstance(fields, dict):
            self._reject(line, "wrong_type", f"a {_name(fields)}, not an object")
            return
        text = fields.get(self._reader.text_field)
        name = fields.get(self._reader.id_field)
        if text is None:
            self._missing(line)
        elif not isinstance(text, str) or isinstance(text, _Number):
            what = f"{self._reader.text_field} is a {_name(text)}, not a string"
            self._reject(line, "wrong_type", what)
        elif name is not None and not isinstance(name, str):
            what = f"{self._reader.id_field} is a {_name(name)}"
            self._reject(line, "wrong_type", f"{what}, not a string or a number")
        elif _has_lone_surrogate(text) or _has_lone_surrogate(name or ""):
            self._reject(line, "invalid_utf8", "an escaped lone surrogate")
        else:
            texts = pa.array([text], pa.large_string())
            ids = None if name is None else [str(name)]
            self._parsed.append(Parsed(texts, ids, np.array([line])))

    def _missing(self, line: int) -> None:
        self._reject(line, "missing_field", f"no {self._reader.text_field}")

    def _reject(self, line: int, reason: str, detail: str) -> None:
        self._rejected.append((line, reason, detail))


def _joined(parts: list[Parsed]) -> Parsed:
    """Returns consecutive parts as one."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Parsed(pa.array([], pa.large_string()), None, np.zeros(0, np.int64))
    ids: list[str | None] = []
    for part in parts:
        ids += part.ids if part.ids is not None else [None] * len(part.texts)
    texts = pa.concat_arrays([part.texts for part in parts])
    return Parsed(texts, ids, np.concatenate([part.lines for part in parts]))


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def is_utf8(data: pa.Buffer) -> bool:
    """Tells whether the bytes are UTF-8; Arrow's JSON parser does not look."""
    offsets = pa.py_buffer(np.array([0, data.size], np.int64))
    array = pa.Array.from_buffers(pa.large_string(), 1, [None, offsets, data])
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _wrapped(data: bytes, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
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


def _has_lone_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
