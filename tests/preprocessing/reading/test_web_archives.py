# SPDX-License-Identifier: Apache-2.0
"""Web archives give the text of their pages, and a reject for all else they hold."""

import gzip
import subprocess
import sys

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from preprocessing.foundation import storage
from preprocessing.foundation.fingerprints import keys_of_ids
from preprocessing.reading.extents import ReaderConfig, plan_extents
from preprocessing.reading.readers import read_extent
from tests.preprocessing.reading.test_readers import read

PAGE = """<html><head><title>Title</title><style>p {}</style></head><body>
<nav><a href="/">Home</a> <a href="/x">Menu</a></nav>
<article><h1>Heading</h1><p>The first paragraph of größe.</p><p>A second one.</p>
</article><footer>Imprint</footer></body></html>"""
TEXT = "Heading\n\nThe first paragraph of größe.\n\nA second one."
HTML = "text/html; charset=utf-8"


def record(kind, body, number=0, content_type="text/plain"):
    """Returns one WARC record."""
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{number}>\r\n"
        f"WARC-Target-URI: http://example.com/{number}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body + b"\r\n\r\n"


def response(body, number=0, kind=HTML, status="200 OK", more=""):
    """Returns the record of an HTTP response."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}\r\n".encode()
    return record("response", head + body, number, "application/http")


CHUNKED = "Transfer-Encoding: chunked\r\n"
PACKED = gzip.compress(b"x" * 3000, mtime=0)
RECORDS = [
    record("warcinfo", b"software: none", 0),
    record("request", b"GET / HTTP/1.1\r\n\r\n", 1, "application/http"),
    response(PAGE.encode(), 2),
    record("metadata", b"fetchTimeMs: 1", 3),
    record("conversion", "Plain größe\n\nof a WET".encode(), 4),
]
WANTED = [(2, TEXT), (4, "Plain größe\n\nof a WET")]


def read_bytes(directory, data, name="a.warc", reader=None):
    path = directory / name
    path.write_bytes(data)
    return read(path, reader or ReaderConfig())


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz", "a.wet", "a.warc.wet.gz"])
def test_pages_and_conversions_are_documents_at_their_records(name, tmp_path):
    members = [gzip.compress(each) for each in RECORDS]
    stored = b"".join(members if name.endswith(".gz") else RECORDS)
    documents, rejects = read_bytes(tmp_path, stored, name)
    assert rejects == []
    for (number, wanted), (at, key, text) in zip(WANTED, documents, strict=True):
        assert text == wanted
        assert at == len(b"".join(RECORDS[:number]))
        assert key == bytes(keys_of_ids(name, [f"<urn:uuid:{number}>"])[0])
    extents = plan_extents(storage.expand([str(tmp_path / name)]), ReaderConfig(), 100)
    assert len(extents) == 1
    urls = [batch.urls.to_pylist() for batch in read_extent(extents[0], ReaderConfig())]
    assert urls == [["http://example.com/2", "http://example.com/4"]]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (response(b"\x89PNG", 9, "image/png"), "not_text"),
        (response(PAGE.encode(), 9, status="404 Not Found"), "not_text"),
        (record("response", b"no HTTP at all", 9, "application/http"), "not_text"),
        (
            response(b"1\r\nx\r\ny\r\n", 9, more="Transfer-Encoding: chunked\r\n"),
            "damaged_input",
        ),
        (response("größe ".encode() * 9 + b"\xff", 9), "invalid_utf8"),
        (record("conversion", b"\xff", 9), "invalid_utf8"),
        (record("conversion", b"x" * 3000, 9), "too_large"),
        (response(PACKED, 9, more="Content-Encoding: gzip\r\n"), "too_large"),
        (response(b"<div>" * 1001 + b"<i>" * 1000 + b"x", 9), "malformed_html"),
    ],
)
def test_a_record_without_text_is_a_reject_and_costs_no_other(bad, reason, tmp_path):
    limit = 10_000 if reason == "malformed_html" else 2000
    reader = ReaderConfig(max_document_bytes=limit)
    stored = bad + b"".join(RECORDS)
    documents, rejects = read_bytes(tmp_path, stored, reader=reader)
    assert rejects == [(0, reason)]
    assert [text for _, _, text in documents] == [text for _, text in WANTED]


@settings(max_examples=80, deadline=None)
@given(cut=st.integers(0, len(b"".join(RECORDS)) - 5), packed=st.booleans())
@example(cut=349, packed=False)  # behind `WARC/1.0`
@example(cut=1119, packed=False)  # behind `Content-Length:`
def test_a_file_that_breaks_off_says_so_and_keeps_what_came_before(
    cut, packed, tmp_path_factory
):
    stored = b"".join(RECORDS)
    if packed:  # at level 0 a header of 15 bytes stands before the bytes themselves
        stored = gzip.compress(stored, 0)[: cut + 10]
        cut = max(0, len(stored) - 15)
    else:
        stored = stored[:cut]
    name = "cut.warc.gz" if packed else "cut.warc"
    documents, rejects = read_bytes(tmp_path_factory.getbasetemp(), stored, name)
    edges = [
        (len(b"".join(RECORDS[:number])), len(b"".join(RECORDS[: number + 1])) - 4)
        for number, _ in WANTED
    ]
    before = [
        text for (_, text), (_, end) in zip(WANTED, edges, strict=True) if end <= cut
    ]
    assert [text for _, _, text in documents] == before
    if packed or any(start < cut < end for start, end in edges):
        assert rejects


def test_bytes_that_are_no_archive_are_a_reject(tmp_path):
    assert read_bytes(tmp_path, b"hello\nworld")[1] == [(0, "malformed_warc")]
    stored = b"".join(RECORDS)
    documents, rejects = read_bytes(tmp_path, stored + b"junk" + stored)
    assert [text for _, _, text in documents] == 2 * [text for _, text in WANTED]
    assert rejects == [(len(stored), "malformed_warc")]
    last = len(stored) - len(RECORDS[-1])
    assert read_bytes(tmp_path, stored[: last + 20])[1] == [(last, "malformed_warc")]
    assert read_bytes(tmp_path, stored[:-9])[1] == [(last, "truncated_input")]
    assert read_bytes(tmp_path, b"") == ([], [])


def test_names_of_fields_and_types_have_no_case(tmp_path):
    page = response(PAGE.encode(), 2)
    head, http, body = page.split(b"\r\n\r\n", 2)
    version, names = head.split(b"\r\n", 1)
    lower = version + b"\r\n" + names.lower().replace(b"response", b"Response")
    shouted = http.replace(b"Content-Type", b"CONTENT-TYPE").replace(b"html", b"HTML")
    shouted = shouted.replace(b"text", b"Text").replace(b"charset", b"Charset")
    stored = b"\r\n\r\n".join([lower, shouted, body])
    documents, rejects = read_bytes(tmp_path, stored)
    assert rejects == []
    assert [text for _, _, text in documents] == [TEXT]


def test_a_record_without_a_type_is_a_reject(tmp_path):
    stored = RECORDS[2].replace(b"WARC-Type", b"WARC-Kind") + RECORDS[4]
    documents, rejects = read_bytes(tmp_path, stored)
    assert rejects == [(0, "malformed_warc")] and len(documents) == 1


def test_an_archive_with_its_dictionary_in_front_is_read(tmp_path):
    records = [response(PAGE.replace("second", f"{n}.").encode(), n) for n in range(30)]
    trained = zstandard.train_dictionary(1024, records)
    squeeze = zstandard.ZstdCompressor(dict_data=trained).compress
    stored = trained.as_bytes()
    frame = b"\x5d\x2a\x4d\x18" + len(stored).to_bytes(4, "little") + stored
    stored = frame + b"".join(map(squeeze, records))
    documents, rejects = read_bytes(tmp_path, stored, "a.warc.zst")
    assert rejects == [] and len(documents) == 30
    assert "A 29. one." in documents[-1][2]


def test_a_page_in_the_place_of_a_name_is_not_repeated_in_the_reject(tmp_path):
    path = tmp_path / "a.warc"
    path.write_bytes(response(b"x", 1, "text/" + "x" * 1_600_000) + RECORDS[2])
    extents = plan_extents(storage.expand([str(path)]), ReaderConfig(), 1 << 30)
    (batch,) = read_extent(extents[0], ReaderConfig())
    assert len(batch.keys) == 1
    assert [len(reject.detail) < 400 for reject in batch.rejects] == [True]


_READ_HUGE = """
import resource, sys
from tests.preprocessing.reading.test_readers import read
from preprocessing.reading import web_archives
from preprocessing.reading.extents import ReaderConfig
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
documents, rejects = read(sys.argv[1], ReaderConfig(max_document_bytes=1 << 20))
assert len(documents) == 2 and [why for _, why in rejects] == ["too_large"] * 2, rejects
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_a_huge_record_and_a_page_that_unpacks_to_one_take_bounded_memory(tmp_path):
    path = tmp_path / "a.warc.gz"
    bomb = gzip.compress(gzip.compress(b"x" * (80 << 20)))
    encoded = response(gzip.decompress(bomb), 8, more="Content-Encoding: gzip\r\n")
    huge = record("conversion", b"x" * (80 << 20), 9)
    path.write_bytes(gzip.compress(encoded + huge + b"".join(RECORDS), 1))
    done = subprocess.run(
        [sys.executable, "-c", _READ_HUGE, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 120 * 1024  # KB
