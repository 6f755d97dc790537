# SPDX-License-Identifier: Apache-2.0
"""Reads one piece of a file as batches of documents, whatever its format."""

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from preprocessing import line_blocks, storage
from preprocessing.documents import (
    TO_THE_END,
    DocumentBatch,
    Piece,
    ReaderConfig,
    Reject,
    keys_of,
)
from preprocessing.jsonl import JsonLines, is_utf8
from preprocessing.line_blocks import Spans, Trouble

# The texts of one Parquet batch; its rows are counted from the row groups' own sizes.
_PARQUET_BATCH_BYTES = 4 << 20


def read_piece(piece: Piece, reader: ReaderConfig) -> Iterator[DocumentBatch]:
    """Yields the piece's documents in batches of about 4 MB of input.

    What cannot be read becomes rejects; a batch may hold nothing else.

    Raises:
        OSError: the file is gone or cannot be read at all.
    """
    left = piece.size
    with storage.open_input(piece.path) as file:
        batches = _READERS[piece.format](file, piece, reader)
        for texts, ids, offsets, troubles in batches:
            read = min(left, _position(file, piece) - (piece.size - left))
            left -= read
            yield _batch(piece, texts, ids, offsets, troubles, read)
    if left:
        none = pa.array([], pa.large_string())
        yield _batch(piece, none, None, np.zeros(0, np.int64), [], left)


Columns = tuple[
    pa.LargeStringArray, Sequence[str | None] | None, np.ndarray, list[Trouble]
]


def _position(file: BinaryIO, piece: Piece) -> int:
    """Returns how many of the piece's stored bytes have been read by now."""
    if piece.format == "parquet":
        return 0
    return max(0, min(file.tell() - piece.start, piece.size))


def _batch(
    piece: Piece,
    texts: pa.LargeStringArray,
    ids: Sequence[str | None] | None,
    offsets: np.ndarray,
    troubles: list[Trouble],
    bytes_read: int,
) -> DocumentBatch:
    return DocumentBatch(
        relative=piece.relative,
        texts=texts,
        keys=keys_of(piece.relative, ids, offsets),
        offsets=offsets,
        rejects=[
            Reject(reason, piece.relative, offset, detail)
            for offset, reason, detail in troubles
        ],
        bytes_read=bytes_read,
    )


def _read_text(file: BinaryIO, piece: Piece, reader: ReaderConfig) -> Iterator[Columns]:
    """One document per file."""
    spans = line_blocks.whole_file(file, piece, reader.max_document_bytes)
    yield _texts(spans)


def _read_lines(
    file: BinaryIO, piece: Piece, reader: ReaderConfig
) -> Iterator[Columns]:
    """One document per line that is not blank."""
    for spans in line_blocks.lines(file, piece, reader.max_document_bytes):
        yield _texts(spans)


def _read_paragraphs(
    file: BinaryIO, piece: Piece, reader: ReaderConfig
) -> Iterator[Columns]:
    """One document per run of lines between blank ones."""
    for spans in line_blocks.paragraphs(file, piece, reader.max_document_bytes):
        yield _texts(spans)


def _texts(spans: Spans) -> Columns:
    """Cuts the spans out of their block; those that are not UTF-8 are rejects."""
    troubles, keep = list(spans.troubles), np.arange(len(spans.starts))
    data = pa.py_buffer(spans.data)
    if not is_utf8(data):
        good = np.ones(len(keep), bool)
        for place in keep.tolist():
            start, end = int(spans.starts[place]), int(spans.ends[place])
            try:
                spans.data[start:end].decode()
            except UnicodeDecodeError as error:
                good[place] = False
                at = spans.offset + start
                detail = f"byte {at + error.start} of the file"
                troubles.append((at, "invalid_utf8", detail))
        keep = keep[good]
    # Documents and the gaps between them in turn, over the block itself: the offsets
    # need no copy of the text, and `take` copies only what is kept.
    edges = np.empty(2 * len(spans.starts), np.int64)
    edges[0::2], edges[1::2] = spans.starts, spans.ends
    count = max(0, len(edges) - 1)
    both = pa.Array.from_buffers(
        pa.large_string(), count, [None, pa.py_buffer(edges), data]
    )
    texts = both.take(pa.array(2 * keep))
    return texts, None, spans.offset + spans.starts[keep], troubles


def _read_jsonl(
    file: BinaryIO, piece: Piece, reader: ReaderConfig
) -> Iterator[Columns]:
    """One document per line: an object with a text and perhaps an id."""
    parser = JsonLines(reader)
    for spans in line_blocks.lines(file, piece, reader.max_document_bytes):
        parsed, rejected = parser.parse(spans.data, spans.starts, spans.ends)
        at = spans.offset + spans.starts
        troubles = spans.troubles + [
            (int(at[line]), reason, detail) for line, reason, detail in rejected
        ]
        yield parsed.texts, parsed.ids, at[parsed.lines], troubles


def _read_parquet(
    file: BinaryIO, piece: Piece, reader: ReaderConfig
) -> Iterator[Columns]:
    """One document per row; its offset is the row's number in the file."""
    row = 0
    try:
        table = pq.ParquetFile(file, pre_buffer=True)
        groups = [table.metadata.row_group(at) for at in range(table.num_row_groups)]
        row = sum(group.num_rows for group in groups[: piece.start])
        end = len(groups) if piece.end == TO_THE_END else piece.end
        mine = groups[piece.start : end]
        rows = max(1, sum(group.num_rows for group in mine))
        size = max(1, sum(group.total_byte_size for group in mine) // rows)
        present = set(table.schema_arrow.names)
        wanted = [reader.text_field, reader.id_field]
        for batch in table.iter_batches(
            batch_size=max(1, min(65_536, _PARQUET_BATCH_BYTES // size)),
            row_groups=range(piece.start, end),
            columns=[name for name in wanted if name in present],
        ):
            yield _parquet_columns(batch, row, reader)
            row += batch.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the disk or the network, not the file's contents
        none = pa.array([], pa.large_string())
        detail = " ".join(str(error).split())
        yield none, None, np.zeros(0, np.int64), [(row, "damaged_input", detail)]


def _parquet_columns(batch: pa.RecordBatch, row: int, reader: ReaderConfig) -> Columns:
    """Turns a record batch whose first row is `row` into documents and rejects."""
    offsets = np.arange(row, row + batch.num_rows)
    reasons = np.full(batch.num_rows, None, object)
    texts = _string_column(batch, reader.text_field)
    if texts is None:
        absent = reader.text_field not in batch.schema.names
        reasons[:] = "missing_field" if absent else "wrong_type"
        texts = pa.nulls(batch.num_rows, pa.large_string())
    else:
        sizes = pc.fill_null(pc.binary_length(texts), 0).to_numpy()
        reasons[_not_utf8(texts)] = "invalid_utf8"
        reasons[sizes > reader.max_document_bytes] = "too_large"
        reasons[texts.is_null().to_numpy(zero_copy_only=False)] = "missing_field"
    names = _id_column(batch, reader.id_field)
    if names is None and reader.id_field in batch.schema.names:
        reasons[reasons == None] = "wrong_type"  # noqa: E711 (an array of objects)
    keep = np.array([reason is None for reason in reasons], bool)
    troubles = [
        (int(at), reason, f"row {at}")
        for at, reason in zip(offsets[~keep], reasons[~keep], strict=True)
    ]
    mask = pa.array(keep)
    ids = names.filter(mask).to_pylist() if names is not None else None
    return texts.filter(mask), ids, offsets[keep], troubles


def _string_column(batch: pa.RecordBatch, name: str) -> pa.LargeStringArray | None:
    """Returns a column of strings, or None where there is none of that name."""
    if name not in batch.schema.names:
        return None
    column = batch.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_null(column.type) or _is_string(column.type):
        return column.cast(pa.large_string(), safe=False)
    return None


def _id_column(batch: pa.RecordBatch, name: str) -> pa.LargeStringArray | None:
    """Returns a column of ids spelled out, or None where it cannot name anything."""
    column = _string_column(batch, name)
    if column is not None or name not in batch.schema.names:
        return column
    column = batch.column(name)
    kind = column.type
    spelled = (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_temporal(kind)
    )
    return column.cast(pa.large_string()) if spelled else None


def _is_string(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
    )


def _not_utf8(texts: pa.LargeStringArray) -> np.ndarray:
    """Returns the places of texts that are not UTF-8."""
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        values = texts.cast(pa.large_binary()).to_pylist()
        return np.flatnonzero([not _decodes(value or b"") for value in values])
    return np.zeros(0, np.int64)


def _decodes(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


_READERS = {
    "text": _read_text,
    "lines": _read_lines,
    "paragraphs": _read_paragraphs,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}
