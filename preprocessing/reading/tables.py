# SPDX-License-Identifier: Apache-2.0
"""Documents out of columnar files: Parquet, and Arrow's own file and stream formats.

A document's offset is its row's number in the file. One row group, or one record batch,
is decoded at a time, so memory follows how the file was written: writers make row
groups of 10 to 500 MB and batches of 64k rows or fewer. A plain local Arrow file is
mapped and costs no memory of its own.
"""

import contextlib
import dataclasses
import functools
import itertools
import os
from collections.abc import Generator, Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from preprocessing.foundation import storage
from preprocessing.foundation.read_sizes import ReadSizes
from preprocessing.reading.documents import Documents, Trouble, no_documents
from preprocessing.reading.extents import TO_THE_END, Extent, ReaderConfig
from preprocessing.reading.table_rows import rows_of_batch

# Also of a file whose writer used what this Arrow has not, such as LZO.
_DAMAGE = (pa.ArrowException, OSError)
_ARROW_FILE_MAGIC = b"ARROW1"

# Documents and rejects, and the number of the row behind them.
_Read = tuple[Documents, int]


def read_parquet(
    file: BinaryIO, extent: Extent, reader: ReaderConfig, sizes: ReadSizes
) -> Iterator[Documents]:
    """Yields the rows of the extent's row groups; a damaged one is a reject."""
    row, metadata = 0, None
    try:
        metadata = pq.ParquetFile(file).metadata
        row = _rows_of(metadata, range(extent.start))
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
        if metadata is None:
            yield _damage(error, row, 0, extent, reader)
        else:
            yield from _by_group(file, metadata, extent, reader, sizes, row)


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
        documents = rows_of_batch(batch, row, extent, reader, columns)
        held = [(documents, row + batch.num_rows)]
        row = held[0][1]
        del batch, documents  # its texts go, however large, with what is made of them
        yield held.pop()


def _by_group(
    file: BinaryIO,
    metadata: pq.FileMetaData,
    extent: Extent,
    reader: ReaderConfig,
    sizes: ReadSizes,
    row: int,
) -> Iterator[Documents]:
    """Yields the documents from a row on, each row group alone: one may be damaged.

    Of the extent's stored bytes a row stands for an equal share.
    """
    mine = _mine(metadata, extent)
    start = first = _rows_of(metadata, range(extent.start))
    rows = max(1, _rows_of(metadata, mine))
    for group in mine:
        at, start = max(row, start), start + metadata.row_group(group).num_rows
        if at >= start:
            continue
        alone = dataclasses.replace(extent, start=group, end=group + 1)
        try:
            for documents, behind in _read_behind(
                file, metadata, alone, reader, sizes, at
            ):
                at = behind
                yield documents
        except _DAMAGE as error:
            kept, end = (extent.size * (n - first) // rows for n in (at, start))
            last = group == metadata.num_row_groups - 1
            detail = f"rows {at} to {start - 1}: {_said(error)}"
            lost = Trouble(at, "damaged_input", detail, max(1, end - kept), last)
            yield no_documents(extent, reader, [lost])


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
                yield rows_of_batch(batch, row, extent, reader, columns)
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
    detail = _said(error)
    unread = extent.size - min(kept, max(0, extent.size - 1))
    trouble = Trouble(row, "damaged_input", detail, unread, to_end=True)
    return no_documents(extent, reader, [trouble])


def _said(error: Exception) -> str:
    """Returns what a library says of a file, on one line; other errors are raised."""
    outside = isinstance(error, OSError) and error.errno
    if outside or isinstance(error, MemoryError):
        raise error  # the disk, the network or the machine, not the file's contents
    return " ".join(str(error).split())


def _wanted(reader: ReaderConfig) -> list[str]:
    names = (reader.text_field, reader.id_field, reader.url_field, reader.target_field)
    return [name for name in names if name]
