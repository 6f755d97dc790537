# SPDX-License-Identifier: Apache-2.0
"""The texts of an evaluation file, whatever its shape, for decontamination."""

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.decompression import (
    DamagedInput,
    compression_of,
    decompress,
)
from preprocessing.foundation.read_sizes import READ_SIZES
from preprocessing.reading.extents import TO_THE_END, Extent, ReaderConfig
from preprocessing.reading.first_bytes import check_first_bytes
from preprocessing.reading.foreign_bytes import not_json_line, not_utf8
from preprocessing.reading.format_names import format_by_name
from preprocessing.reading.tables import record_batches

_MARK = "\ufeff"
_BLANK_LINES = re.compile(r"\n(?:[ \t\r\v\f]*\n)+")
_ARCHIVES = ("warc", "wet")


def evaluation_texts(path: str) -> pa.LargeStringArray:
    """Returns every text of an evaluation file, each field one of its own.

    Of JSONL, Parquet and Arrow that is every string, however deep (a question, its
    choices, an answer); of CSV and TSV every field, of the first record too, since
    such files often have no header; of other files, every run of lines between blank
    ones.

    Raises:
        UsageError: the file is not there, cannot be read whole, or holds no text.
    """
    try:
        texts = pa.array(_texts(path), pa.large_string())
    except (OSError, ValueError, DamagedInput) as error:
        raise UsageError(
            f"wanted an evaluation file at {path}, found: {error}. Name JSONL, "
            "Parquet, CSV or text (.jsonl, .parquet, .csv, .txt)"
        ) from None
    if not len(texts):
        raise UsageError(
            f"wanted texts in the evaluation file {path}, found none. Check "
            "--decontaminate"
        )
    return texts


def _texts(path: str) -> Iterator[str]:
    packing = compression_of(path)
    kind = format_by_name(path)
    if kind is None:
        raise ValueError("a name that tells no format")
    if kind in _ARCHIVES:
        raise ValueError("a web archive")
    if kind in ("parquet", "arrow"):
        packing = "none"  # inside it, by column
    file = storage.InputFile(path, path, storage.file_size(path))
    check_first_bytes([file], [packing])
    with storage.open_input(path) as stored:
        whole = Extent(0, path, path, 0, TO_THE_END, 0, kind, packing)
        if kind == "parquet":
            yield from _rows(pq.ParquetFile(stored).iter_batches())
        elif kind == "arrow":
            _, batches = record_batches(stored, path)
            yield from _rows(batch for batch, _ in batches)
        elif kind in ("csv", "tsv"):
            # Imported here: a compiler comes with it.
            from preprocessing.reading.delimited import read_fields

            for fields in read_fields(stored, whole, ReaderConfig(), READ_SIZES):
                yield from filter(None, fields)
        elif kind == "jsonl":
            yield from _lines(_decoded(stored, whole.compression))
        else:
            data = _decoded(stored, whole.compression).removeprefix(_MARK)
            blocks = _BLANK_LINES.split(data.replace("\r\n", "\n"))
            yield from filter(str.strip, blocks)


def _decoded(stored: BinaryIO, compression: str) -> str:
    """Returns a whole file's text, which may begin with a mark of UTF-8."""
    packed = compression != "none"
    data = b"".join(decompress(stored, compression)) if packed else stored.read()
    place = ""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        place = f"{error.reason} at byte {error.start}"
    # UTF-16 without a mark may be valid UTF-8, with a NUL at every other place.
    if fault := not_utf8(data, place):
        raise ValueError(fault)
    return text


def _lines(data: str) -> Iterator[str]:
    r"""Yields the strings of JSON lines, which end at \n alone; a mark is no text."""
    for number, line in enumerate(data.split("\n"), 1):
        line = line.removeprefix(_MARK).strip(" \t\r")
        if not line:
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            what = not_json_line(line.encode(), str(error))
            raise ValueError(f"{what} (line {number})") from None
        yield from _strings(value)


def _rows(batches: Iterator[pa.RecordBatch]) -> Iterator[str]:
    """Yields the strings in the rows of tables."""
    for batch in batches:
        for row in batch.to_pylist():
            yield from _strings(row)


def _strings(value: Any) -> Iterator[str]:
    """Yields the strings in a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)
