# SPDX-License-Identifier: Apache-2.0
"""Reads one extent of a file as batches of documents, whatever its format."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from preprocessing.foundation import storage
from preprocessing.foundation.read_sizes import READ_SIZES, ReadSizes
from preprocessing.foundation.string_buffers import array_of
from preprocessing.foundation.user_code import is_import_path
from preprocessing.reading import line_blocks
from preprocessing.reading.documents import (
    Documents,
    Trouble,
    documents_of,
    no_documents,
)
from preprocessing.reading.extents import TO_THE_END, Extent, ReaderConfig
from preprocessing.reading.foreign_bytes import encoding_of, not_utf8
from preprocessing.reading.jsonl import JsonLines, is_utf8
from preprocessing.reading.line_blocks import DocumentSpans
from preprocessing.reading.tables import read_arrow, read_parquet

_SEEKING = ("parquet", "arrow")

Read = Callable[[BinaryIO, Extent, ReaderConfig, ReadSizes], Iterator[Documents]]


def read_extent(
    extent: Extent, reader: ReaderConfig, sizes: ReadSizes = READ_SIZES
) -> Iterator[Documents]:
    """Yields the extent's documents in batches of about 4 MB of input.

    What cannot be read becomes rejects; a batch may hold nothing else.

    Raises:
        OSError: the file is gone or cannot be read at all.
        UsageError: a user's reader cannot be imported.
        WorkError: a user's reader failed.
    """
    read, told, lost = 0, False, 0

    def counted(documents: Documents) -> Documents:
        nonlocal read, told, lost
        if extent.end == TO_THE_END:
            documents = _bounded(documents, extent.size - lost)
        lost += sum(reject.unread for reject in documents.rejects)
        told |= any(reject.to_end for reject in documents.rejects)
        before, read = read, max(read, min(extent.size, _position(file, extent)))
        return dataclasses.replace(documents, bytes_read=read - before)

    read_documents = _reader_of(extent.format)
    with storage.open_input(extent.path) as file:
        # No loop, whose variable would hold on to texts while others work with them.
        yield from map(counted, read_documents(file, extent, reader, sizes))
        come = max(read, min(extent.size, _position(file, extent)))
    troubles = []
    if come < extent.size and _is_sequential(extent) and not told:
        troubles = [_stopped(extent, come)]
    if read < extent.size:
        rest = no_documents(extent, reader, troubles)
        yield dataclasses.replace(rest, bytes_read=extent.size - read)


def _bounded(documents: Documents, most: int) -> Documents:
    """Returns documents whose rejects stand for `most` stored bytes at most.

    What is skipped of compressed text is known to one read, or by its share of the
    text; together they may come to a little more than there is.
    """
    if sum(reject.unread for reject in documents.rejects) <= most:
        return documents
    rejects = list(documents.rejects)
    for place, reject in enumerate(rejects):
        unread = min(reject.unread, most)
        rejects[place], most = dataclasses.replace(reject, unread=unread), most - unread
    return dataclasses.replace(documents, rejects=rejects)


def _is_sequential(extent: Extent) -> bool:
    """Tells whether a file is read in its order, so that its place says how far.

    A text above the limit is left where that is passed, and its reject says so.
    """
    return extent.format not in (*_SEEKING, "text") and not is_import_path(
        extent.format
    )


def _stopped(extent: Extent, read: int) -> Trouble:
    """Returns the reject for what a reader left, though nothing made it end there."""
    detail = f"its reader stopped {extent.size - read} bytes before the end"
    return Trouble(read, "damaged_input", detail, extent.size - read, to_end=True)


def _position(file: BinaryIO, extent: Extent) -> int:
    """Returns how many of the extent's stored bytes have been read by now."""
    if extent.format in _SEEKING:
        return 0  # they seek; all is counted when all has been read
    return max(0, min(file.tell() - extent.start, extent.size))


def _reader_of(kind: str) -> Read:
    """Returns the reader of a format; its library is imported only then."""
    if is_import_path(kind):
        from preprocessing.reading.user_readers import read_with_function

        return read_with_function
    if kind in ("warc", "wet"):
        from preprocessing.reading.web_archives import read_archive

        return read_archive
    if kind in ("csv", "tsv"):
        from preprocessing.reading.delimited import read_delimited

        return read_delimited
    return _READERS[kind]


def _read_text(
    file: BinaryIO, extent: Extent, reader: ReaderConfig, sizes: ReadSizes
) -> Iterator[Documents]:
    """One document per file."""
    limit = reader.max_document_bytes
    yield _texts(extent, line_blocks.whole_file(file, extent, limit, sizes))


def _read_lines(
    file: BinaryIO, extent: Extent, reader: ReaderConfig, sizes: ReadSizes
) -> Iterator[Documents]:
    """One document per line that is not blank."""
    spans = line_blocks.lines(file, extent, reader.max_document_bytes, sizes)
    yield from map(functools.partial(_texts, extent), spans)


def _read_paragraphs(
    file: BinaryIO, extent: Extent, reader: ReaderConfig, sizes: ReadSizes
) -> Iterator[Documents]:
    """One document per run of lines between blank ones."""
    spans = line_blocks.paragraphs(file, extent, reader.max_document_bytes, sizes)
    yield from map(functools.partial(_texts, extent), spans)


def _texts(extent: Extent, spans: DocumentSpans) -> Documents:
    """Cuts the spans out of their block; those that are not UTF-8 are rejects."""
    troubles, keep = list(spans.troubles), np.arange(len(spans.starts))
    data = pa.py_buffer(spans.data)
    # UTF-16 without a mark is valid UTF-8 where it is of Latin letters, NULs and all.
    foreign = encoding_of(spans.data)
    if foreign or not is_utf8(data):
        good = np.ones(len(keep), bool)
        for place in keep.tolist():
            start, end = int(spans.starts[place]), int(spans.ends[place])
            at = spans.offset + start
            detail = _fault(spans.data[start:end], at, foreign)
            if detail:
                good[place] = False
                troubles.append(Trouble(at, "invalid_utf8", detail))
        keep = keep[good]
    if len(keep) == 1 and 2 * (spans.ends - spans.starts)[keep[0]] > len(spans.data):
        # One document that fills the block, huge perhaps, stays where it is.
        edges = np.array([spans.starts[keep[0]], spans.ends[keep[0]]])
        texts = array_of(data, edges)
    else:
        # Documents and the gaps between them in turn, over the block itself: the
        # offsets need no copy of the text, and `take` copies only what is kept.
        edges = np.empty(2 * len(spans.starts), np.int64)
        edges[0::2], edges[1::2] = spans.starts, spans.ends
        texts = array_of(data, edges).take(pa.array(2 * keep))
    offsets = spans.offset + spans.starts[keep]
    return documents_of(extent, texts, offsets, troubles=troubles)


def _fault(text: bytes | bytearray, at: int, foreign: str) -> str:
    """Returns why a text that starts at `at` is not UTF-8, or nothing.

    `foreign` is what its block begins as, which a short text does not tell.
    """
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return not_utf8(text, f"byte {at + error.start} of the file")
    return not_utf8(text, foreign) if foreign and b"\0" in text else ""


def _read_jsonl(
    file: BinaryIO, extent: Extent, reader: ReaderConfig, sizes: ReadSizes
) -> Iterator[Documents]:
    """One document per line: an object with a text, and perhaps an id and the like."""
    spans = line_blocks.lines(file, extent, reader.max_document_bytes, sizes)
    yield from map(JsonLines(extent, reader, sizes).parse, spans)


_READERS: dict[str, Read] = {
    "text": _read_text,
    "lines": _read_lines,
    "paragraphs": _read_paragraphs,
    "jsonl": _read_jsonl,
    "parquet": read_parquet,
    "arrow": read_arrow,
}
