# SPDX-License-Identifier: Apache-2.0
"""Every text of an evaluation file is found, whatever its shape."""

import csv
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.duplicates.evaluation_texts import evaluation_texts
from preprocessing.foundation.commands import UsageError

TASK = {"question": "why?", "choices": ["a", "b"], "meta": {"source": "x", "n": 3}}
TEXTS = ["why?", "a", "b", "x"]


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz", "t.parquet"])
def test_every_string_of_a_record_is_a_text_however_deep(tmp_path, name):
    path = tmp_path / name
    line = json.dumps(TASK).encode() + b"\n\n"
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist([TASK]), path)
    else:
        path.write_bytes(gzip.compress(line) if name.endswith("gz") else line)
    assert evaluation_texts(str(path)).to_pylist() == TEXTS


def test_blocks_between_blank_lines_are_the_texts_of_a_plain_file(tmp_path):
    path = tmp_path / "poems.txt"
    path.write_bytes(b"one\r\ntwo\r\n\r\n\r\nthree\n")
    assert evaluation_texts(str(path)).to_pylist() == ["one\ntwo", "three\n"]


# What ends a line for `str.splitlines`, and neither in JSON lines nor in RFC 4180.
INSIDE = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"


@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(st.text(f"ab{INSIDE}", min_size=1).map("x{}".format), min_size=1),
    marks=st.lists(st.booleans(), min_size=50, max_size=50),
    ends=st.sampled_from(["\n", "\r\n"]),
)
def test_lines_end_at_newlines_alone_and_marks_are_no_text(
    texts, marks, ends, tmp_path_factory
):
    path = tmp_path_factory.getbasetemp() / "t.jsonl"
    lines = [
        "\ufeff" * mark + json.dumps({"q": text}, ensure_ascii=False) + ends
        for text, mark in zip(texts, marks, strict=False)
    ]
    path.write_text("".join(lines), encoding="utf-8", newline="")
    assert evaluation_texts(str(path)).to_pylist() == texts[:50]
    path = tmp_path_factory.getbasetemp() / "t.csv"
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([text, "an answer"] for text in texts)
    wanted = [part for text in texts for part in (text, "an answer")]
    assert evaluation_texts(str(path)).to_pylist() == wanted


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv"])
def test_every_field_of_a_record_is_a_text(tmp_path, name):
    data = b'"what, or ""why"",\nthen?",4,\r\n"who?",5,B\r\n'
    wanted = ['what, or "why",\nthen?', "4", "who?", "5", "B"]
    if name.endswith("tsv"):
        data, wanted = b'"why" is\t4\n\t"\n', ['"why" is', "4", '"']
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert evaluation_texts(str(path)).to_pylist() == wanted


@pytest.mark.parametrize("opened", [pa.ipc.new_file, pa.ipc.new_stream])
def test_arrow_files_are_read_as_parquet_is(tmp_path, opened):
    path = tmp_path / "t.arrow"
    table = pa.Table.from_pylist([TASK])
    with opened(str(path), table.schema) as writer:
        writer.write_table(table)
    assert evaluation_texts(str(path)).to_pylist() == TEXTS


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("t.json", b'[\n {\n  "q": "a"\n }\n]\n', "a JSON array, not JSON lines"),
        ("t.json", b'[\n{"q": "a"},\n{"q": "b"}\n]\n', "a JSON array, not JSON lines"),
        ("t.json", b'{\n "q": "a"\n}\n', "indented JSON, not JSON lines"),
        ("t.jsonl", '{"q": "a"}\n'.encode("utf-16"), "UTF-16, not UTF-8"),
        ("t.csv", '"q","a"\n'.encode("utf-16"), "UTF-16, not UTF-8"),
        ("t.txt", "some text\n".encode("utf-16-be"), "UTF-16, not UTF-8"),
        ("t.csv", b'a,b\n"c,d\ne,f\n', "a quote that is never closed"),
        ("t.csv", b"a,b\nc,\xff\n", "invalid start byte in record 2"),
        ("t.warc.gz", b"", "a web archive"),
    ],
)
def test_what_is_not_read_is_called_by_its_name(tmp_path, name, data, found):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UsageError) as error:
        evaluation_texts(str(path))
    assert found in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("t.jsonl", b'{"question": ', "Expecting value"),
        ("t.jsonl", b"7\n", "wanted texts in the evaluation file"),
        ("t.txt", b"\xff\xff", "invalid start byte"),
        ("t.jsonl.gz", gzip.compress(b'{"a": "b"}', mtime=0)[:-9], "ends inside"),
        ("t.parquet", b"no such thing", "found: "),
        ("t.jsonl.xz", b"\xfd7zXZ\0", "packed in another way"),
        ("t.txt", gzip.compress(b"a text", mtime=0), "gzip inside"),
        ("t.txt", b"version https://git-lfs.github.com/spec/v1\n", "git LFS"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, data, found):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UsageError, match="wanted") as error:
        evaluation_texts(str(path))
    assert found in str(error.value) and name in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"absent\.jsonl"):
        evaluation_texts(str(tmp_path / "absent.jsonl"))
