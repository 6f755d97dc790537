# SPDX-License-Identifier: Apache-2.0
"""Stored bytes are conserved: each was read, or a reject says that it was not."""

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.read_sizes import ReadSizes
from preprocessing.reading.extents import ReaderConfig, plan_extents
from preprocessing.reading.readers import read_extent

TEXTS = [f"text {n} of some, {n * 7919}" for n in range(300)]
TABLE = pa.table({"text": TEXTS})


def rows(delimiter):
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter).writerows([["text"], *([t] for t in TEXTS)])
    return file.getvalue().encode()


def arrow(opened):
    sink = pa.BufferOutputStream()
    with opened(sink, TABLE.schema) as writer:
        writer.write_table(TABLE, 40)
    return sink.getvalue().to_pybytes()


def parquet():
    sink = pa.BufferOutputStream()
    pq.write_table(TABLE, sink, row_group_size=40)
    return sink.getvalue().to_pybytes()


PLAIN = {
    "jsonl": b"".join(json.dumps({"text": text}).encode() + b"\n" for text in TEXTS),
    "lines": "".join(f"{text}\n" for text in TEXTS).encode(),
    "paragraphs": "".join(f"{text}\n\n" for text in TEXTS).encode(),
    "csv": rows(","),
    "tsv": rows("\t"),
}
SQUEEZE = {
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor(level=1).compress,
}
FILES = {
    f"{kind}{ending}": (kind, ending, squeeze(content))
    for kind, content in PLAIN.items()
    for ending, squeeze in SQUEEZE.items()
} | {
    "stream": ("arrow", "", arrow(pa.ipc.new_stream)),
    "arrow": ("arrow", "", arrow(pa.ipc.new_file)),
    "parquet": ("parquet", "", parquet()),
}


def read(directory, kind, ending, content):
    """Returns (texts, rejects, stored bytes gone through) of a file."""
    path = directory / f"file{ending}"
    path.write_bytes(content)
    texts, rejects, gone = [], [], 0
    for extent in plan_extents(storage.expand([str(path)]), ReaderConfig(kind), 2000):
        for batch in read_extent(extent, ReaderConfig(kind)):
            texts += batch.texts.to_pylist()
            rejects += batch.rejects
            gone += batch.bytes_read
    return texts, rejects, gone


@pytest.mark.parametrize("name", FILES)
def test_of_a_whole_file_every_byte_is_read(name, tmp_path):
    kind, ending, content = FILES[name]
    texts, rejects, gone = read(tmp_path, kind, ending, content)
    assert (texts, rejects, gone) == (TEXTS, [], len(content))


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=12, deadline=None)
@given(place=st.floats(0.01, 0.999), junk=st.booleans())
def test_a_file_that_breaks_off_says_what_was_not_read(
    name, place, junk, tmp_path_factory
):
    kind, ending, content = FILES[name]
    cut = max(16, int(place * len(content)))
    content = content[:cut] + (b"\xfe" * 40 if junk else b"")
    directory = tmp_path_factory.getbasetemp()
    texts, rejects, gone = read(directory, kind, ending, content)
    assert gone == len(content)
    unread = sum(reject.unread for reject in rejects)
    (last,) = {reject.relative for reject in rejects if reject.to_end} or {None}
    if name == "stream" and last is None:
        return  # between two of its batches, where Arrow takes the end of a stream
    assert last and 1 <= unread <= len(content)
    if not junk:  # which gzip may take for some more text before it meets an error
        assert texts == TEXTS[: len(texts)]
    if not texts:
        assert unread == len(content) or kind in ("csv", "tsv")  # they have a header


def record(number):
    text = TEXTS[number].encode()
    head = (
        "WARC/1.0\r\nWARC-Type: conversion\r\n"
        f"WARC-Record-ID: <urn:{number}>\r\nContent-Length: {len(text)}\r\n\r\n"
    )
    return head.encode() + text + b"\r\n\r\n"


@pytest.mark.parametrize("ending", ["", *SQUEEZE])
@settings(max_examples=25, deadline=None)
@given(
    start=st.integers(0, 10**6),
    length=st.integers(0, 300),
    filler=st.sampled_from([b"", b"\0", b"\xfe"]),
    cut=st.booleans(),
)
def test_what_is_wrong_in_an_archive_is_weighed_whether_reading_goes_on_or_not(
    ending, start, length, filler, cut, tmp_path_factory
):
    squeeze = SQUEEZE.get(ending, bytes)
    content = b"".join(squeeze(record(number)) for number in range(40))
    start %= len(content)
    rest = b"" if cut else content[start + length :]
    content = content[:start] + filler * length + rest
    directory = tmp_path_factory.getbasetemp()
    texts, rejects, gone = read(directory, "wet", ending, content)
    assert gone == len(content)
    unread = sum(reject.unread for reject in rejects)
    assert 0 <= unread <= len(content)
    # Where pages are lost that the cut left whole, that is said and weighed.
    whole = sum(squeeze(record(number)) in content for number in range(40))
    if len(texts) < whole:
        assert unread or any(reject.to_end for reject in rejects)


@pytest.mark.parametrize("ending", ["", *SQUEEZE])
def test_a_text_above_the_limit_is_not_read_however_it_is_stored(ending, tmp_path):
    content = SQUEEZE.get(ending, bytes)(PLAIN["lines"])
    (tmp_path / f"a.txt{ending}").write_bytes(content)
    reader = ReaderConfig(max_document_bytes=100)
    (extent,) = plan_extents(storage.expand([str(tmp_path / "*")]), reader)
    batches = [*read_extent(extent, reader)]
    (reject,) = [reject for batch in batches for reject in batch.rejects]
    assert (reject.reason, reject.unread) == ("too_large", len(content))
    assert not reject.to_end  # the file is the document


@pytest.mark.parametrize("ending", ["", *SQUEEZE])
@pytest.mark.parametrize("kind", ["jsonl", "lines", "paragraphs", "csv"])
def test_what_streams_past_as_one_line_is_weighed_by_its_bytes(kind, ending, tmp_path):
    # As a JSON array on one line, or lines that end as on old Macs: one reject.
    noise = random.Random(0).randbytes(600_000).hex()
    opening = b"text\n" if kind == "csv" else b"first\n\n"
    content = opening + (b'"' if kind == "csv" else b"") + noise.encode()
    content += b'"\n\nlast\n' if kind == "csv" else b"\n\nlast\n"
    stored = SQUEEZE.get(ending, bytes)(content)
    (tmp_path / f"a{ending}").write_bytes(stored)
    reader = ReaderConfig(kind, max_document_bytes=1000)
    sizes = ReadSizes(block_bytes=20_000)
    rejects = []
    for extent in plan_extents(storage.expand([str(tmp_path / "*")]), reader, 30_000):
        for batch in read_extent(extent, reader, sizes):
            rejects += batch.rejects
    unread = sum(reject.unread for reject in rejects if reject.reason == "too_large")
    assert 0.5 * len(stored) < unread <= len(stored)
    if not ending:
        assert 0 <= unread - len(noise) < 10
    assert not any(reject.to_end for reject in rejects)


@pytest.mark.parametrize("ending", SQUEEZE)
def test_most_of_a_file_that_breaks_off_at_its_end_counts_as_read(ending, tmp_path):
    members = b"".join(SQUEEZE[ending](PLAIN["jsonl"]) for _ in range(9))
    texts, rejects, _ = read(tmp_path, "jsonl", f".jsonl{ending}", members[:-9])
    unread = sum(reject.unread for reject in rejects)
    assert len(texts) >= 8 * len(TEXTS)
    assert 0 < unread <= len(members) / 9


def test_a_damaged_row_group_costs_itself_alone_and_its_share_of_the_bytes(tmp_path):
    texts = [f"text {n} of some, {n * 7919} and {n * 104729}" for n in range(900)]
    path = tmp_path / "whole.parquet"
    options = {"row_group_size": 90, "compression": "snappy", "use_dictionary": False}
    pq.write_table(pa.table({"text": texts}), path, **options)
    content = bytearray(path.read_bytes())
    group = pq.ParquetFile(path).metadata.row_group(4).column(0)
    middle = group.data_page_offset + group.total_compressed_size // 2
    content[middle - 300 : middle + 300] = b"\xff" * 600
    for extent_bytes in (1 << 30, 5000):  # one extent, and several of row groups
        path.write_bytes(content)
        reader, found, rejects = ReaderConfig(), [], []
        for extent in plan_extents(storage.expand([str(path)]), reader, extent_bytes):
            for batch in read_extent(extent, reader):
                found += batch.texts.to_pylist()
                rejects += batch.rejects
        assert found == texts[:360] + texts[450:]
        (reject,) = rejects
        assert reject.offset == 360 and reject.detail.startswith("rows 360 to 449: ")
        assert abs(reject.unread - len(content) / 10) < len(content) / 50
        assert not reject.to_end


def test_a_hole_in_lines_of_json_is_weighed_by_its_bytes(tmp_path):
    content = PLAIN["jsonl"] + bytes(5000) + b"\n" + PLAIN["jsonl"]
    texts, rejects, _ = read(tmp_path, "jsonl", ".jsonl", content)
    assert texts == 2 * TEXTS
    assert [(reject.reason, reject.unread) for reject in rejects] == [
        ("damaged_input", 5000)
    ]


def test_two_streams_of_arrow_in_one_file_are_not_one(tmp_path):
    content = 2 * FILES["stream"][2]
    texts, rejects, _ = read(tmp_path, "arrow", ".arrow", content)
    assert texts == TEXTS and [reject.to_end for reject in rejects] == [True]
    assert sum(reject.unread for reject in rejects) > len(content) / 2


def zipped(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", content)
    return file.getvalue()


LFS = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    b"size 12345\n"
)
DISGUISED = {
    "gzip inside": gzip.compress(PLAIN["jsonl"]),
    "zstd inside": zstandard.ZstdCompressor().compress(PLAIN["jsonl"]),
    "xz inside": lzma.compress(PLAIN["jsonl"]),
    "bzip2 inside": bz2.compress(PLAIN["jsonl"]),
    "zip inside": zipped(PLAIN["jsonl"]),
    "only a pointer of git LFS": LFS,
    "only a pointer of git-annex": b"/annex/objects/SHA256E-s12--ab.jsonl\n",
}


@pytest.mark.parametrize("what", DISGUISED)
@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.csv", "a.parquet", "a.warc"])
def test_what_is_not_what_its_name_says_is_refused_before_work(what, name, tmp_path):
    (tmp_path / name).write_bytes(DISGUISED[what])
    with pytest.raises(UsageError, match=f"{name} \\({what}\\)"):
        plan_extents(storage.expand([str(tmp_path / "*")]), ReaderConfig())


def test_pointers_are_known_under_the_name_of_a_compression_too(tmp_path):
    for name in ("a.jsonl.gz", "b.txt.zst", "c.jsonl", "d.csv"):
        (tmp_path / name).write_bytes(LFS)
    with pytest.raises(UsageError, match=r"a\.jsonl\.gz .* and 1 more\. Get the files"):
        plan_extents(storage.expand([str(tmp_path / "*")]), ReaderConfig())


def test_texts_that_begin_like_them_are_texts(tmp_path):
    texts = {
        "a.txt": b"BZh is a word here",
        "b.txt": b"PK stands for a key",
        "c.txt": LFS + b"is what a pointer says. " * 60,
        "d.txt": b"see version https://git-lfs.github.com/spec/v1",
        "e.txt": b"",
    }
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    found = plan_extents(storage.expand([str(tmp_path / "*")]), ReaderConfig())
    assert [extent.relative for extent in found] == [*texts]


def test_a_function_of_the_users_gets_what_is_packed_as_it_is(tmp_path):
    kind = "tests.preprocessing.reading.test_unread:unzipped"
    texts, rejects, _ = read(tmp_path, kind, ".zip", zipped(PLAIN["lines"]))
    assert (texts, rejects) == (TEXTS, [])


def unzipped(file):
    with zipfile.ZipFile(file) as archive:
        for line in archive.read("a.jsonl").decode().splitlines():
            yield {"text": line}


def test_an_empty_file_of_a_format_that_is_never_empty_was_not_read(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"")
    (extent,) = plan_extents(storage.expand([str(tmp_path / "*")]), ReaderConfig())
    rejects = [r for d in read_extent(extent, ReaderConfig()) for r in d.rejects]
    assert [(reject.reason, reject.to_end) for reject in rejects] == [
        ("damaged_input", True)
    ]
