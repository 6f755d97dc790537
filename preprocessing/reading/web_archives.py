# SPDX-License-Identifier: Apache-2.0
"""Documents out of web archives: WARC (pages as sent) and WET (their text).

A `response` gives the main text of its HTML page, a `conversion` its text as it is;
other records hold no documents and are passed over. A document's id is its
WARC-Record-ID, its offset the byte at which its record starts in the uncompressed file.
fastwarc reads records; archives are gzip members one after another, which the file's
decompression joins.
"""

from collections.abc import Iterator
from typing import BinaryIO

from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from preprocessing.foundation.read_sizes import ReadSizes
from preprocessing.reading.documents import Documents, Gathered
from preprocessing.reading.extents import Extent, ReaderConfig
from preprocessing.reading.streams import damage_of, uncompressed
from preprocessing.reading.web_pages import UnreadablePage, page_text

_HELD = (WarcRecordType.response, WarcRecordType.conversion)
_PAGE_TYPES = ("text/html", "application/xhtml+xml")
_OK = 200


def read_archive(
    file: BinaryIO, extent: Extent, reader: ReaderConfig, sizes: ReadSizes
) -> Iterator[Documents]:
    """Yields the archive's documents; responses that are no pages are rejects."""
    gathered, at = Gathered(extent, reader), 0
    stream = uncompressed(file, extent)
    try:
        for record in ArchiveIterator(stream, parse_http=False):
            at = record.stream_pos
            _add(gathered, record, reader)
            if gathered.size >= sizes.batch_bytes:
                yield gathered.drain()
    except OSError as error:
        if error.errno:
            raise  # the disk or the network, not the file's contents
        if not damage_of(stream, at):
            detail = f"{error}, behind the record at byte {at}"
            gathered.reject(at, "malformed_warc", detail)
    for trouble in damage_of(stream, at):
        gathered.reject(*trouble)
    yield gathered.drain()


def _add(gathered: Gathered, record: WarcRecord, reader: ReaderConfig) -> None:
    """Adds one record's document, or why it gives none."""
    at, size = record.stream_pos, record.content_length
    length = record.headers.get("Content-Length") or ""
    if not record.record_id or not length.isdigit():
        # A header that breaks off, too, whose type may be lost.
        detail = "a record without a WARC-Record-ID or a Content-Length"
        gathered.reject(at, "malformed_warc", detail)
        return
    if record.record_type not in _HELD:
        return
    try:
        if size > reader.max_document_bytes:
            raise UnreadablePage("too_large", f"a record of {size} bytes")
        record.freeze()
        if record.content_length < size:
            detail = f"a record of {size} bytes ends after {record.content_length}"
            raise UnreadablePage("truncated_input", detail)
        content = record.reader.read()
        if record.record_type == WarcRecordType.conversion:
            text = _plain(content)
        else:
            text = _page(content, reader.max_document_bytes)
    except UnreadablePage as why:
        gathered.reject(at, why.reason, why.detail)
        return
    url = record.headers.get("WARC-Target-URI")
    gathered.add(text, record.record_id, at, url.strip("<> ") if url else None)


def _page(content: bytes, limit: int) -> str:
    """Returns the main text of a response."""
    # A record of its own: one that fails within the archive ends the archive.
    record = WarcRecord()
    record.is_http = True
    record.set_bytes_content(content)
    try:
        record.parse_http(auto_decode="all")
        page = record.reader.read(limit + 1)
    except OSError as error:
        raise UnreadablePage("damaged_input", f"HTTP: {error}") from None
    status = record.http_headers.status_code if record.http_headers else None
    if status != _OK or record.http_content_type not in _PAGE_TYPES:
        detail = f"status {status}, content type {record.http_content_type}"
        raise UnreadablePage("not_text", detail)
    if len(page) > limit:
        raise UnreadablePage("too_large", f"a page of more than {limit} bytes")
    return page_text(page, record.http_charset)


def _plain(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        detail = f"byte {error.start} of the record"
        raise UnreadablePage("invalid_utf8", detail) from None
