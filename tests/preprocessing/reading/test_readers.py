# SPDX-License-Identifier: Apache-2.0
"""The laws of reading: any cut is the same file, and nothing disappears silently."""

import gzip
import itertools
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation import storage
from preprocessing.foundation.fingerprints import keys_of_ids, keys_of_offsets
from preprocessing.foundation.read_sizes import READ_SIZES, ReadSizes
from preprocessing.reading.extents import TO_THE_END, Extent, ReaderConfig, plan_extents
from preprocessing.reading.readers import read_extent

LINE_FORMATS = ("lines", "paragraphs", "jsonl")


def read(path, reader, extents=None, sizes=READ_SIZES):
    """Returns (documents, rejects): [(offset, key, text)], [(offset, reason)]."""
    if extents is None:
        extents = plan_extents(storage.expand([str(path)]), reader)
    documents, rejects = [], []
    for extent in extents:
        left = extent.size
        for batch in read_extent(extent, reader, sizes):
            keys = [bytes(key) for key in batch.keys]
            documents += zip(
                batch.offsets.tolist(), keys, batch.texts.to_pylist(), strict=True
            )
            rejects += [(reject.offset, reject.reason) for reject in batch.rejects]
            left -= batch.bytes_read
        assert left == 0
    return documents, sorted(rejects)


def cut(path, kind, cuts):
    """Returns the extents of a plain file cut at the given bytes."""
    size = path.stat().st_size
    edges = sorted({0, size, *(min(at, size) for at in cuts)})
    return [
        Extent(index, str(path), path.name, start, end, end - start, kind, "none")
        for index, (start, end) in enumerate(itertools.pairwise(edges))
    ]


def whole(path, kind):
    return [
        Extent(
            0, str(path), path.name, 0, TO_THE_END, path.stat().st_size, kind, "none"
        )
    ]


ANY_LINE = st.sampled_from(
    [b"", b" ", b"\t\r", b"  x", b"ab", b"y" * 9, "é".encode(), b"\xff", b"z" * 40]
)
JSON_LINE = st.sampled_from(
    [
        b"",
        b" \t",
        b'{"text":"a"}',
        b' {"text":"b","id":7} ',
        b'{"text":"c","id":"7x"}',
        b'{"text":"2020-01-01","id":"2020-01-02"}',
        b'{"text":"c","id":1.50}',
        b'{"text":null}',
        b'{"text":1}',
        b'{"text":"a"} {"text":"b"}',
        b'{"text":',
        b'"b"}',
        b'{"text":"\xff"}',
        b'{"text":"\\ud800"}',
        b'{"text":"twice","text":"last"}',
        b'{"text":"minus","id":-0}',
        b'{"text":"minus","id":"-0"}',
        b'{"text":"large","id":12345678901234567890}',
        b'{"text":"deep","x":' + b"[" * 1200 + b"]" * 1200 + b"}",
        b'{"text":"inf","x":[Inf,-Infinity,NaN]}',
        b'{"text":"e","id":1e2}',
        b'{"text":"tab\t"}',
        b"[1]",
        b"{}",
        b'{"text":"' + b"w" * 3000 + b'"}',
    ]
)
LINE_END = st.sampled_from([b"\n", b"\r\n"])


@pytest.mark.parametrize("kind", LINE_FORMATS)
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_cut_of_a_file_gives_the_documents_of_the_whole(
    kind, data, tmp_path_factory
):
    line = JSON_LINE if kind == "jsonl" else ANY_LINE
    parts = data.draw(st.lists(st.tuples(line, LINE_END), max_size=12))
    content = b"".join(one + end for one, end in parts)
    if data.draw(st.booleans()):
        content = content.rstrip(b"\r\n")
    if data.draw(st.booleans()):
        content = b"\xef\xbb\xbf" + content
    path = tmp_path_factory.getbasetemp() / "cut.txt"
    path.write_bytes(content)
    limit = 3000 if kind == "jsonl" else 36
    reader = ReaderConfig(format=kind, max_document_bytes=limit)
    documents, rejects = read(path, reader, whole(path, kind))
    cuts = data.draw(st.lists(st.integers(0, len(content)), max_size=5))
    sizes = ReadSizes(
        block_bytes=data.draw(st.integers(3, 500)),
        look_back_bytes=data.draw(st.integers(1, 9)),
        few_lines=data.draw(st.integers(1, 12)),
    )
    assert read(path, reader, cut(path, kind, cuts), sizes) == (documents, rejects)


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(
        st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])),
        max_size=20,
    )
)
def test_lines_are_what_python_reads_at_the_offsets_given(lines, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "file.txt"
    content = "\n".join(lines).encode()
    path.write_bytes(content)
    documents, rejects = read(path, ReaderConfig(format="lines"))
    wanted = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    assert [text.encode() for _, _, text in documents] == [
        line for line in wanted if line.strip(b" \t\r\x0b\x0c")
    ]
    assert not rejects
    for offset, key, text in documents:
        assert content[offset:].startswith(text.encode())
        assert key == bytes(keys_of_offsets("file.txt", [offset])[0])


def test_paragraphs_are_runs_of_lines_between_blank_ones(tmp_path):
    path = tmp_path / "play.txt"
    path.write_bytes(b"\n\nFirst:\n  indented\n \t\r\n\nSecond:\r\nend")
    documents, _ = read(path, ReaderConfig(format="paragraphs"))
    assert [(at, text) for at, _, text in documents] == [
        (2, "First:\n  indented"),
        (25, "Second:\r\nend"),
    ]


def test_ids_and_texts_stay_as_they_are_spelled(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [
        ('{"id": 12345678901234567890, "text": "2020-01-01"}', "12345678901234567890"),
        ('{"id": 1.50, "text": "12"}', "1.50"),
        ('{"id": "2020-01-01", "text": "2021-02-03T04:05:06Z"}', "2020-01-01"),
        ('{"id": 7, "text": "true"}', "7"),
        ('{"id": "007", "text": "null"}', "007"),
    ]
    path.write_text("\n".join(line for line, _ in rows))
    documents, rejects = read(path, ReaderConfig())
    assert not rejects
    assert [text for _, _, text in documents] == [
        "2020-01-01",
        "12",
        "2021-02-03T04:05:06Z",
        "true",
        "null",
    ]
    wanted = keys_of_ids("a.jsonl", [name for _, name in rows])
    assert [key for _, key, _ in documents] == [bytes(key) for key in wanted]


def test_each_bad_line_is_a_reject_with_its_reason_and_offset(tmp_path):
    bad = [
        (b'{"text": "a"', "malformed_json"),
        (b'{"no": 1}', "missing_field"),
        (b'{"text": null}', "missing_field"),
        (b'{"text": ["a"]}', "wrong_type"),
        (b'{"text": "a", "id": {}}', "wrong_type"),
        (b'["text"]', "wrong_type"),
        (b'{"text": "\xc3("}', "invalid_utf8"),
        (b'{"text": "\\udfff"}', "invalid_utf8"),
        (b'{"text": "' + b"x" * 200 + b'"}', "too_large"),
        (b'{"text": ' + b"[" * 90 + b"}", "malformed_json"),
    ]
    good, content, wanted = b'{"text": "good"}\n', b"", []
    for line, reason in bad:
        content += good
        wanted.append((len(content), reason))
        content += line + b"\n"
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    documents, rejects = read(path, ReaderConfig(max_document_bytes=150))
    assert rejects == wanted
    assert [text for _, _, text in documents] == ["good"] * len(bad)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("kind", ["text", *LINE_FORMATS])
def test_compressed_files_read_like_plain_ones(suffix, kind, tmp_path):
    content = b"".join(
        json.dumps({"text": f"text {n}\n\nof {n}"}).encode() + b"\n\n"[: 1 + n % 2]
        for n in range(3000)
    )
    plain, packed = tmp_path / "plain", tmp_path / f"file{suffix}"
    plain.write_bytes(content)
    half = len(content) // 2
    squeeze = gzip.compress if suffix == ".gz" else zstandard.ZstdCompressor().compress
    packed.write_bytes(squeeze(content[:half]) + squeeze(content[half:]))
    reader = ReaderConfig(format=kind)
    documents, rejects = read(plain, reader)
    found, found_rejects = read(packed, reader)
    assert [(at, text) for at, _, text in found] == [
        (at, text) for at, _, text in documents
    ]
    assert found_rejects == rejects == []
    assert found


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_truncated_file_keeps_its_documents_and_counts_the_break(suffix, tmp_path):
    rng = np.random.default_rng(0)
    lines = [f'{{"text": "{rng.integers(1 << 60)}"}}\n'.encode() for _ in range(9000)]
    with_checksum = zstandard.ZstdCompressor(write_checksum=True)
    squeeze = gzip.compress if suffix == ".gz" else with_checksum.compress
    data = squeeze(b"".join(lines))
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(data[: len(data) * 2 // 3])
    documents, rejects = read(path, ReaderConfig())
    assert 3000 < len(documents) < 9000
    at = sum(len(line) for line in lines[: len(documents)])
    assert rejects == [(at, "truncated_input")]
    path.write_bytes(data[: len(data) // 2] + bytes(8) + data[len(data) // 2 + 8 :])
    documents, rejects = read(path, ReaderConfig())
    assert [reason for _, reason in rejects][-1] == "damaged_input"


def test_a_text_file_is_one_document(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("one\n\ntwo\n")
    (tmp_path / "b.txt").write_bytes(b"ok \xff")
    (tmp_path / "c.txt").write_bytes(b"")
    (tmp_path / "d.txt").write_bytes(b"x" * 101)
    reader = ReaderConfig(max_document_bytes=100)
    extents = plan_extents(storage.expand([str(tmp_path / "**" / "*.txt")]), reader)
    assert [extent.relative for extent in extents] == [
        "b.txt",
        "c.txt",
        "d.txt",
        "sub/a.txt",
    ]
    documents, rejects = read(None, reader, extents)
    assert [text for _, _, text in documents] == ["", "one\n\ntwo\n"]
    assert [reason for _, reason in rejects] == ["invalid_utf8", "too_large"]
    assert documents[1][1] == bytes(keys_of_offsets("sub/a.txt", [0])[0])


def test_parquet_documents_are_rows_whatever_the_row_groups(tmp_path):
    path = tmp_path / "a.parquet"
    texts = [f"text {n}" if n % 7 else None for n in range(100)]
    pq.write_table(pa.table({"text": texts, "id": range(100)}), path, row_group_size=9)
    reader = ReaderConfig()
    documents, rejects = read(path, reader)
    assert [at for at, _ in rejects] == list(range(0, 100, 7))
    assert {reason for _, reason in rejects} == {"missing_field"}
    assert [(at, text) for at, _, text in documents] == [
        (n, text) for n, text in enumerate(texts) if text
    ]
    assert documents[0][1] == bytes(keys_of_ids("a.parquet", ["1"])[0])
    extents = plan_extents(storage.expand([str(path)]), reader, extent_bytes=500)
    assert len(extents) > 1
    assert read(path, reader, extents) == (documents, rejects)


def test_parquet_that_cannot_be_read_is_a_reject(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"] * 1000}), path)
    path.write_bytes(path.read_bytes()[:-9])
    reader = ReaderConfig()
    assert read(path, reader) == ([], [(0, "damaged_input")])
    extents = plan_extents(storage.expand([str(path)]), reader, extent_bytes=10)
    assert read(path, reader, extents) == ([], [(0, "damaged_input")])


@pytest.mark.parametrize("column", [pa.array([1, 2]), pa.array([b"a", b"b"])])
def test_parquet_columns_of_another_type_are_rejects(column, tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": column}), path)
    assert read(path, ReaderConfig())[1] == [(0, "wrong_type"), (1, "wrong_type")]
    assert read(path, ReaderConfig(text_field="body"))[1] == [
        (0, "missing_field"),
        (1, "missing_field"),
    ]


_READ_HUGE_LINE = """
import resource, sys
from tests.preprocessing.reading.test_readers import read
from preprocessing.reading.extents import ReaderConfig
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
documents, rejects = read(sys.argv[1], ReaderConfig(max_document_bytes=1 << 20))
assert [text for _, _, text in documents] == ["before", "after"], documents
assert [reason for _, reason in rejects] == ["too_large"], rejects
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_huge_line_streams_past_in_bounded_memory(suffix, tmp_path):
    path = tmp_path / f"a.jsonl{suffix}"
    before, after = b'{"text": "before"}\n', b'\n{"text": "after"}\n'
    opened = {"": open, ".gz": gzip.open, ".zst": zstandard.open}[suffix]
    with opened(path, "wb") as file:
        file.write(before + b'{"text": "')
        for _ in range(200):
            file.write(b"x" * (1 << 20))
        file.write(b'"}' + after)
    done = subprocess.run(
        [sys.executable, "-c", _READ_HUGE_LINE, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 120 * 1024  # KB
