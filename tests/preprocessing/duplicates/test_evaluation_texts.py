# SPDX-License-Identifier: Apache-2.0
"""Every text of an evaluation file is found, whatever its shape."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

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
    assert evaluation_texts(str(path)).to_pylist() == ["one\ntwo", "\nthree\n"]


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("t.jsonl", b'{"question": ', "Expecting value"),
        ("t.jsonl", b"7\n", "wanted texts in the evaluation file"),
        ("t.txt", b"\xff\xfe", "invalid start byte"),
        ("t.jsonl.gz", gzip.compress(b'{"a": "b"}', mtime=0)[:-9], "ends inside"),
        ("t.parquet", b"no such thing", "found: "),
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
