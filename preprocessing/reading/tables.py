# SPDX-License-Identifier: Apache-2.0
"""Documents out of columnar files: Parquet, and Arrow's own file and stream formats.

A document's offset is its row's number in the file. One row group, or one record batch,
is decoded at a time, so memory follows how the file was written: writers make row
groups of 10 to 500 MB and batches of 64k rows or fewer. A plain local Arrow file is
mapped and costs no memory of its own.
"""

import contextlib
import functools
import itertools
import os
from collections.abc import Generator, Iterator, Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from preprocessing.foundation import storage
from preprocessing.foundation.read_sizes import ReadSizes
from preprocessing.reading.documents import (
    Documents,
    Trouble,
    documents_of,
    no_documents,
)
from preprocessing.reading.extents import TO_THE_END, Extent, ReaderConfig
from preprocessing.reading.foreign_bytes import listed, shortened

# Also of a file whose writer used what this Arrow has not, such as LZO.
_DAMAGE = (pa.ArrowException, OSError)
_ARROW_FILE_MAGIC = b"ARROW1"

# Documents and rejects, and the number of the row behind them.
_Read = tuple[Documents, int]
# Reason and detail by a row's place in its batch.
_Faults = dict[int, tuple[str, str]]


def read_parquet(
    file: BinaryIO, extent: Extent, reader: ReaderConfig, sizes: ReadSizes
) -> Iterator[Documents]:
    """Yields the rows of the extent's row groups; damage is a reject."""
    row = first = rows = 0
    try:
        metadata = pq.ParquetFile(file).metadata
        row = first = _rows_of(metadata, range(extent.start))
        rows = _rows_of(metadata, _mine(metadata, extent))
        behind = functools.partial(_read_behind, file, metadata, extent, reader, sizes)
        batches = behind(row)
        while held := [*itertools.islice(batches, 1)]:
            if held[0][0].texts.nbytes > sizes.huge_bytes:
                held += _ahead(batches, sizes.huge_bytes)
                batches.close()
                pa.default_memory_pool().release_unused()
                batches = behind(held[-1][1])
            while held:  # which keeps no text that others work with
                row = held[0][1]
                yield held.pop(0)[0]
    except _DAMAGE as error:
        kept = extent.size * (row - first) // max(1, rows)
        yield _damage(error, row, kept, extent, reader)


def _ahead(batches: Iterator[_Read], left: int) -> list[_Read]:
    """Returns the next batches, at most `left` bytes of text, up to any damage."""
    held: list[_Read] = []
    with contextlib.suppress(*_DAMAGE):  # met again when reopened
        for documents, row in batches:
            left -= documents.texts.nbytes
            if left < 0:
                break
            held.append((documents, row))
    return held


def _read_behind(
    file: BinaryIO,
    metadata: pq.FileMetaData,
    extent: Extent,
    reader: ReaderConfig,
    sizes: ReadSizes,
    row: int,
) -> Generator[_Read, None, None]:
    """Yields the extent's documents from a row on at which a batch of them begins."""
    mine = _mine(metadata, extent)
    skipped = row - _rows_of(metadata, range(extent.start))
    rows = _rows_of(metadata, mine)
    if skipped >= rows:
        return
    total = sum(metadata.row_group(at).total_byte_size for at in mine)
    size = max(1, total // rows)
    one_by_one = size >= sizes.large_row_bytes
    table = pq.ParquetFile(file, metadata=metadata, pre_buffer=True)
    columns = table.schema_arrow.names
    batches = table.iter_batches(
        batch_size=1 if one_by_one else min(65_536, sizes.batch_bytes // size),
        row_groups=mine,
        columns=[name for name in _wanted(reader) if name in columns],
    )
    while skipped > 0:
        skipped -= next(batches).num_rows
    if one_by_one:
        batches = _gathered(batches, sizes.batch_bytes)
    for batch in batches:
        documents = _documents(batch, row, extent, reader, columns)
        held = [(documents, row + batch.num_rows)]
        row = held[0][1]
        del batch, documents  # its texts go, however large, with what is made of them
        yield held.pop()


def _mine(metadata: pq.FileMetaData, extent: Extent) -> range:
    """Returns the extent's row groups."""
    whole = extent.end == TO_THE_END
    return range(extent.start, metadata.num_row_groups if whole else extent.end)


def _rows_of(metadata: pq.FileMetaData, groups: range) -> int:
    return sum(metadata.row_group(at).num_rows for at in groups)


def _gathered(rows: Iterator[pa.RecordBatch], most: int) -> Iterator[pa.RecordBatch]:
    """Joins single rows to batches; those before any damage are not lost."""
    held: list[pa.RecordBatch] = []
    size = 0
    damage = None
    try:
        for row in rows:
            if held and size + row.nbytes > most:
                yield _joined(held)
                held, size = [], 0
            held.append(row)
            size += row.nbytes
    except _DAMAGE as error:
        damage = error
    if held:
        yield _joined(held)
    if damage:
        raise damage


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Returns the batches as one; one alone is not copied."""
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def read_arrow(
    file: BinaryIO, extent: Extent, reader: ReaderConfig, sizes: ReadSizes
) -> Iterator[Documents]:
    """Yields the rows of an Arrow file or stream, told apart by how it begins."""
    row = kept = 0
    try:
        columns, batches = record_batches(file, extent.path, _wanted(reader))
        for whole, read in batches:
            size = max(1, whole.get_total_buffer_size() // max(1, whole.num_rows))
            rows = max(1, min(65_536, sizes.batch_bytes // size))
            for first in range(0, whole.num_rows, rows):
                batch = whole.slice(first, rows)
                yield _documents(batch, row, extent, reader, columns)
                row += batch.num_rows
            kept = read
    except _DAMAGE as error:
        yield _damage(error, row, kept, extent, reader)


def record_batches(
    file: BinaryIO, path: str, wanted: Sequence[str] | None = None
) -> tuple[list[str], Iterator[tuple[pa.RecordBatch, int]]]:
    """Returns an Arrow file's columns, and its batches with all or those wanted alone.

    Beside each batch stand the stored bytes that count as read with it: those of a
    stream up to there, of a file's batches each the same share.

    Raises:
        pa.ArrowInvalid: the file is damaged; from the batches, too.
    """
    source = file if storage.is_cloud(path) else pa.memory_map(path)
    source.seek(0, os.SEEK_END)
    size = source.tell()
    source.seek(0)
    is_file = source.read(len(_ARROW_FILE_MAGIC)) == _ARROW_FILE_MAGIC
    source.seek(0)
    opened = pa.ipc.open_file if is_file else pa.ipc.open_stream
    names = opened(source).schema.names
    source.seek(0)
    fields = [at for at, name in enumerate(names) if wanted is None or name in wanted]
    if not fields:
        fields = [0]  # no list at all would mean every column; one counts the rows
    batches = opened(source, options=pa.ipc.IpcReadOptions(included_fields=fields))
    if not is_file:
        return names, _streamed(batches, source, size)
    count = batches.num_record_batches
    return names, (
        (batches.get_batch(place), size * (place + 1) // count)
        for place in range(count)
    )


def _streamed(
    batches: pa.ipc.RecordBatchStreamReader, source: BinaryIO, size: int
) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Yields a stream's batches, and how far into its file each ends."""
    for batch in batches:
        yield batch, source.tell()
    rest = size - source.tell()
    if rest > 0:  # another stream, perhaps, that somebody appended
        raise pa.ArrowInvalid(f"{rest} bytes behind the end of the stream")


def _damage(
    error: Exception, row: int, kept: int, extent: Extent, reader: ReaderConfig
) -> Documents:
    """Returns the reject for a file that cannot be read on from a row.

    Args:
        error: what its library said.
        row: the row.
        kept: stored bytes of the extent that count as read.
        extent: the extent.
        reader: how it is read.
    """
    outside = isinstance(error, OSError) and error.errno
    if outside or isinstance(error, MemoryError):
        raise error  # the disk, the network or the machine, not the file's contents
    detail = " ".join(str(error).split())
    unread = extent.size - min(kept, max(0, extent.size - 1))
    trouble = Trouble(row, "damaged_input", detail, unread, to_end=unread > 0)
    return no_documents(extent, reader, [trouble])


def _wanted(reader: ReaderConfig) -> list[str]:
    names = (reader.text_field, reader.id_field, reader.url_field, reader.target_field)
    return [name for name in names if name]


def _documents(
    batch: pa.RecordBatch,
    row: int,
    extent: Extent,
    reader: ReaderConfig,
    columns: Sequence[str],
) -> Documents:
    """Turns a record batch whose first row is `row` into documents and rejects.

    Args:
        batch: rows with the columns that are wanted.
        row: the first one's number.
        extent: what is read.
        reader: how.
        columns: the names of all columns that the file has.
    """
    offsets = np.arange(row, row + batch.num_rows)
    faults: _Faults = {}
    texts = _text_column(batch, reader.text_field, faults, reader, columns)
    targets = None
    if reader.target_field:
        targets = _text_column(batch, reader.target_field, faults, reader, columns)
    names = _ids(batch, reader.id_field, faults)
    urls = _string_column(batch, reader.url_field)
    troubles = [
        Trouble(row + at, *faults[at], id=None if names is None else names[at].as_py())
        for at in sorted(faults)
    ]
    if faults:  # as a rule all are kept, and a text may be huge
        keep = np.ones(batch.num_rows, bool)
        keep[list(faults)] = False
        mask, offsets = pa.array(keep), offsets[keep]
        texts, names, urls, targets = (
            column if column is None else column.filter(mask)
            for column in (texts, names, urls, targets)
        )
    return documents_of(
        extent,
        texts,
        offsets,
        names,
        None if urls is None else _without_bad(urls),
        targets,
        troubles,
    )


def _text_column(
    batch: pa.RecordBatch,
    name: str,
    faults: _Faults,
    reader: ReaderConfig,
    columns: Sequence[str],
) -> pa.LargeStringArray:
    """Returns a column of texts; `faults` gets the rows that have none, and why."""
    texts = _string_column(batch, name)
    if texts is None:
        fault = "missing_field", f"no column {name}, the file has {listed(columns)}"
        if name in batch.schema.names:
            fault = "wrong_type", f"{_called(batch, name)}, wanted one of strings"
        faults.update(dict.fromkeys(range(batch.num_rows), fault))
        return pa.nulls(batch.num_rows, pa.large_string())
    sizes = pc.fill_null(pc.binary_length(texts), 0).to_numpy()
    no_utf8 = "invalid_utf8", f"column {name} holds bytes that are not UTF-8"
    faults.update(dict.fromkeys(_not_utf8(texts).tolist(), no_utf8))
    most = reader.max_document_bytes
    for at in np.flatnonzero(sizes > most).tolist():
        faults[at] = "too_large", f"column {name}: {sizes[at]} bytes, limit {most}"
    null = np.flatnonzero(texts.is_null().to_numpy(zero_copy_only=False)).tolist()
    faults.update(dict.fromkeys(null, ("missing_field", f"column {name} is null")))
    return texts


def _ids(
    batch: pa.RecordBatch, name: str, faults: _Faults
) -> pa.LargeStringArray | None:
    """Returns the ids; `faults` gets rows, all perhaps, whose id cannot be read."""
    ids = _id_column(batch, name)
    if ids is not None:
        bad = "invalid_utf8", f"column {name}, the id's, holds bytes that are not UTF-8"
        for at in _not_utf8(ids).tolist():
            faults.setdefault(at, bad)
        return _without_bad(ids)
    if name in batch.schema.names:
        what = f"{_called(batch, name)}, wanted ids (strings or numbers)"
        for at in range(batch.num_rows):
            faults.setdefault(at, ("wrong_type", f"{what}; --id_field names others"))
    return None


def _called(batch: pa.RecordBatch, name: str) -> str:
    """Says what a column that cannot be used is."""
    count = batch.schema.names.count(name)
    if count > 1:
        return f"{count} columns are called {name}"
    return f"column {name} is of type {shortened(str(batch.schema.field(name).type))}"


def _string_column(batch: pa.RecordBatch, name: str) -> pa.LargeStringArray | None:
    """Returns a column of strings, or None where not just one has that name."""
    if batch.schema.names.count(name) != 1:
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
    if column is not None or batch.schema.names.count(name) != 1:
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
    """Returns the places of texts that are not UTF-8, int64 [at most n]."""
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        values = texts.cast(pa.large_binary()).to_pylist()
        return np.flatnonzero([not _decodes(value or b"") for value in values])
    return np.zeros(0, np.int64)


def _without_bad(texts: pa.LargeStringArray) -> pa.LargeStringArray | None:
    """Returns the strings with null for those that are not UTF-8; None if all null.

    For columns that a document can do without.
    """
    places = _not_utf8(texts)
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
