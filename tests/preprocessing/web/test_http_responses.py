# SPDX-License-Identifier: Apache-2.0
"""Bodies come out of their codings, and stay as they are where they have none."""

import gzip
import random
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.web.http_responses import DamagedBody, response_of

CHANCE = random.Random(2)
PAGE = b"<html><p>" + bytes(CHANCE.choices(b"abcdefgh \n", k=40_000)) + b"</p></html>"


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def chunked(data, size=1000, form="{:x}\r\n"):
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    lines = [form.format(len(part)).encode() for part in parts]
    pairs = zip(lines, parts, strict=True)
    return b"".join(line + part + b"\r\n" for line, part in pairs) + b"0\r\n\r\n"


def body(coded, fields, most=1 << 20):
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{lines}\r\n"
    return response_of(head.encode() + coded).body(most)


CODINGS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZip": gzip.compress,
    '"gzip"': gzip.compress,
    "deflate": zlib.compress,
    "deflate ": raw_deflate,
    "br": brotli.compress,
    "zstd": zstandard.compress,
    "gzip, br": lambda data: brotli.compress(gzip.compress(data)),
    "deflate,GZIP": lambda data: gzip.compress(zlib.compress(data)),
    "identity, gzip": gzip.compress,
}
NO_CODINGS = (
    "none",
    "UTF-8",
    "identity",
    "",
    "text/html",
    "binary",
    "8bit",
    "aws-chunked",
)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("name", ["Content-Encoding", "content-encoding"])
def test_a_body_comes_out_of_its_coding(coding, name):
    coded = CODINGS[coding](PAGE)
    assert body(coded, [(name, coding)]) == PAGE
    assert len(body(coded, [(name, coding)], most=500)) == 501
    more = [(name, coding), ("Transfer-Encoding", "chunked")]
    assert body(chunked(coded), more) == PAGE


@pytest.mark.parametrize("coding", [*CODINGS, *NO_CODINGS])
@pytest.mark.parametrize("page", [PAGE, b"junk", b"", b"\n<p>x", "日本".encode()])
def test_a_body_without_the_coding_it_tells_of_is_as_it_is(coding, page):
    assert body(page, [("Content-Encoding", coding)]) == page
    told = [("Content-Encoding", coding), ("TRANSFER-ENCODING", "Chunked")]
    assert body(page, told) == page
    if page:
        assert body(chunked(page), told) == page


def test_gzip_that_is_not_told_of_is_undone():
    assert body(gzip.compress(PAGE), []) == PAGE
    assert body(gzip.compress(PAGE), [("Content-Encoding", "utf-8")]) == PAGE
    assert body(gzip.compress(PAGE) * 2, [("Content-Encoding", "gzip")]) == PAGE * 2


@pytest.mark.parametrize(
    "form",
    ["{:x}\r\n", "{:X}\n", "{:05x}  \r\n", '{:x};name="value"\r\n', "{:x} ; a=b;c\r\n"],
)
@given(page=st.binary(min_size=1, max_size=400), size=st.integers(1, 99))
def test_chunks_are_joined_whatever_their_extensions(form, page, size):
    told = [("Transfer-Encoding", "CHUNKED")]
    if not page.startswith(b"\x1f\x8b\x08"):
        assert body(chunked(page, size, form), told) == page
        assert body(chunked(page, size, form)[:-7], told) in (page, page[:-1])


def test_a_body_that_is_cut_off_gives_what_it_holds():
    told = [("Content-Encoding", "gzip"), ("Transfer-Encoding", "chunked")]
    cut = body(chunked(gzip.compress(PAGE))[:9000], told)
    assert PAGE.startswith(cut) and len(cut) > 9000


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_body_that_breaks_its_own_coding_is_damaged(coding):
    coded = bytearray(CODINGS[coding](PAGE))
    coded[30:60] = bytes(30)
    with pytest.raises(DamagedBody):
        body(bytes(coded), [("Content-Encoding", coding)])
    with pytest.raises(DamagedBody, match="size of a chunk"):
        body(b"4\r\n<p>x\r\nnext\r\n", [("Transfer-Encoding", "chunked")])


def test_names_and_media_types_have_no_case_and_labels_may_be_quoted():
    head = b'HTTP/2 200\ncontent-TYPE:\tText/HTML ; Charset="Shift_JIS"; x=y\n\n<p>'
    found = response_of(head)
    assert (found.status, found.media_type) == (200, "text/html")
    assert found.charset == '"Shift_JIS"' and found.body(9) == b"<p>"
    assert response_of(b"no HTTP\r\n\r\nat all").status is None
    sloppy = response_of(
        b"HTTP/1.1 200\r\nContent-Type: text/html charset=big5\r\n\r\n"
    )
    assert (sloppy.media_type, sloppy.charset) == ("text/html", "big5")
