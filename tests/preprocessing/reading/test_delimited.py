# SPDX-License-Identifier: Apache-2.0
"""CSV and TSV read as Python's own reader reads them, and bad records cost one."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation.fingerprints import keys_of_ids, keys_of_offsets
from preprocessing.foundation.read_sizes import ReadSizes
from preprocessing.reading.extents import ReaderConfig
from tests.preprocessing.reading.test_readers import read

FIELD = st.text(st.sampled_from('ab",\t\n\r é'), max_size=6)
RAW = st.lists(
    st.sampled_from(['"', '""', ",", "\t", "\n", "\r\n", "a", "b c", "é", "\r"]),
    max_size=24,
).map("".join)


def texts_of(documents):
    return [text for _, _, text in documents]


def python_reads(content, delimiter):
    """Returns the rows behind the header, as Python's csv module has them."""
    rows = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter)
    return [row for row in rows if row][1:]


@pytest.mark.parametrize("kind", ["csv", "tsv"])
@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(FIELD, FIELD), max_size=8), block=st.integers(3, 60))
def test_what_a_writer_writes_is_read_whatever_the_blocks(
    kind, rows, block, tmp_path_factory
):
    path = tmp_path_factory.getbasetemp() / f"written.{kind}"
    with open(path, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter="," if kind == "csv" else "\t")
        writer.writerow(["id", "text"])
        writer.writerows(rows)
    sizes = ReadSizes(block_bytes=block)
    documents, rejects = read(path, ReaderConfig(), sizes=sizes)
    assert rejects == []
    assert texts_of(documents) == [text for _, text in rows]
    assert [at for at, _, _ in documents] == list(range(len(rows)))
    for (name, _), (at, key, _) in zip(rows, documents, strict=True):
        wanted = (
            keys_of_ids(path.name, [name]) if name else keys_of_offsets(path.name, [at])
        )
        assert key == bytes(wanted[0])


@settings(max_examples=300, deadline=None)
@given(body=RAW)
def test_any_bytes_are_read_as_python_reads_them(body, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "raw.csv"
    content = "text,other\n" + body
    path.write_bytes(content.encode())
    documents, rejects = read(path, ReaderConfig(id_field="none"))
    wanted = python_reads(content, ",")
    found = {at: text for at, _, text in documents}
    unclosed = [at for at, reason in rejects if at == len(wanted) - 1]
    for at, row in enumerate(wanted):
        if len(row) == 2 and at not in unclosed:
            assert found.pop(at) == row[0]
        else:
            assert (at, "malformed_csv") in rejects
    assert not found


def test_each_bad_record_is_a_reject_with_its_number(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(
        b"id,text\r\n1,good\r\n\r\n2,a,b\r\n3\r\n4,\xff\r\n5,"
        + b"x" * 80
        + b'\r\n6,"two\r\nlines"\r\n7,"never closed\r\n8,lost'
    )
    documents, rejects = read(path, ReaderConfig(max_document_bytes=60))
    assert texts_of(documents) == ["good", "two\r\nlines"]
    assert rejects == [
        (1, "malformed_csv"),
        (2, "malformed_csv"),
        (3, "invalid_utf8"),
        (4, "too_large"),
        (6, "malformed_csv"),
    ]


@pytest.mark.parametrize("block", [7, 4 << 20])
def test_a_record_too_large_to_hold_streams_past(block, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'text\na\n"' + b'x""\n' * 100 + b'"\nb\n')
    reader, sizes = ReaderConfig(max_document_bytes=50), ReadSizes(block_bytes=block)
    documents, rejects = read(path, reader, sizes=sizes)
    assert texts_of(documents) == ["a", "b"]
    assert rejects == [(1, "too_large")]


def test_columns_that_are_not_there_are_missing_fields(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,target\na,b\n")
    assert read(path, ReaderConfig(text_field="body"))[1] == [(0, "missing_field")]
    assert read(path, ReaderConfig(target_field="x"))[1] == [(0, "missing_field")]
    path.write_bytes(b"")
    assert read(path, ReaderConfig()) == ([], [])
