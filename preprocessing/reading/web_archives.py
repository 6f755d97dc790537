# SPDX-License-Identifier: Apache-2.0
"""Documents out of web archives: WARC (pages as sent) and WET (their text).

A `response` gives the main text of its HTML page, a `conversion` its text as it is;
other records hold no documents and are passed over. A document's id is its
WARC-Record-ID, where it has one, its offset the byte at which its record starts in the
uncompressed file.
"""

from collections.abc import Iterator
from typing import BinaryIO

from preprocessing.foundation.read_sizes import ReadSizes
from preprocessing.reading.documents import Documents, Gathered, Trouble
from preprocessing.reading.extents import Extent, ReaderConfig
from preprocessing.reading.warc_records import ArchiveRecord, read_records
from preprocessing.web.http_responses import DamagedBody, response_of
from preprocessing.web.web_pages import UnreadablePage, page_text

_HELD = ("response", "conversion")
_PAGE_TYPES = ("text/html", "application/xhtml+xml")
_OK = 200


def read_archive(
    file: BinaryIO, extent: Extent, reader: ReaderConfig, sizes: ReadSizes
) -> Iterator[Documents]:
    """Yields the archive's documents; responses that are no pages are rejects."""
    gathered = Gathered(extent, reader)
    for record in read_records(file, extent, reader.max_document_bytes):
        if isinstance(record, Trouble):
            gathered.reject(*record)
        else:
            _add(gathered, record, reader)
        if gathered.size >= sizes.batch_bytes:
            yield gathered.drain()
    yield gathered.drain()


def _add(gathered: Gathered, record: ArchiveRecord, reader: ReaderConfig) -> None:
    """Adds one record's document, or why it gives none."""
    fields = record.fields
    kind, name = fields.get("warc-type", ""), fields.get("warc-record-id")
    if not kind:
        detail = "a record without a WARC-Type"
        gathered.reject(record.offset, "malformed_warc", detail, name=name)
        return
    kind = kind.lower()
    if kind not in _HELD:
        return
    try:
        if record.content is None:
            raise UnreadablePage("too_large", f"a record of {record.size} bytes")
        if kind == "conversion":
            text = _plain(record.content)
        else:
            text = _page(record.content, reader.max_document_bytes)
    except UnreadablePage as why:
        gathered.reject(record.offset, why.reason, why.detail, name=name)
        return
    url = fields.get("warc-target-uri", "").strip("<> ")
    gathered.add(text, name, record.offset, url or None)


def _page(content: bytes, limit: int) -> str:
    """Returns the main text of a response."""
    response = response_of(content)
    if response.status != _OK or response.media_type not in _PAGE_TYPES:
        detail = f"status {response.status}, content type {response.media_type}"
        raise UnreadablePage("not_text", detail)
    try:
        page = response.body(limit)
    except DamagedBody as error:
        raise UnreadablePage("damaged_input", f"HTTP: {error}") from None
    if len(page) > limit:
        raise UnreadablePage("too_large", f"a page of more than {limit} bytes")
    return page_text(page, response.charset)


def _plain(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        detail = f"byte {error.start} of the record"
        raise UnreadablePage("invalid_utf8", detail) from None
