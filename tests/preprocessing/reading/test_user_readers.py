# SPDX-License-Identifier: Apache-2.0
"""A plain function of a user's own reads files; its mistakes are named."""

import gzip
import json
import sys

import pytest

from pipelines.prepare.input_flags import add_input_flags, reader_config
from preprocessing.foundation import storage
from preprocessing.foundation.commands import CommandParser, UsageError, WorkError
from preprocessing.foundation.fingerprints import keys_of_ids
from preprocessing.foundation.read_sizes import ReadSizes
from preprocessing.foundation.user_code import load
from preprocessing.reading.extents import ReaderConfig, plan_extents
from preprocessing.reading.readers import read_extent
from tests.preprocessing.reading.test_readers import read

MODULE = """
import json

NUMBER = 7

def notes(file):
    for line in file:
        yield json.loads(line)

def broken(file):
    yield {"text": "one"}
    raise KeyError("no such thing")

def odd(file):
    yield from [{"text": "a"}, {"text": None}, {}, {"text": 1}, "text"]
    yield from [{"text": "\\ud800"}, {"text": "xyz" * 9}, {"text": "b", "id": 1}]
    yield {"text": "c", "url": "http://c.de", "more": object()}
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "my_corpus").mkdir()
    (tmp_path / "my_corpus" / "formats.py").write_text(MODULE)
    (tmp_path / "my_corpus" / "unfinished.py").write_text("import nothing_there")
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_corpus.formats"
    load.cache_clear()
    for name in [name for name in sys.modules if name.startswith("my_corpus")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["a.notes", "a.notes.gz"])
def test_a_function_by_its_import_path_reads_files(name, package, tmp_path):
    records = [{"text": f"t{n}", "id": f"i{n}"} for n in range(9)]
    content = "".join(json.dumps(each) + "\n" for each in records).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    reader = ReaderConfig(format=f"{package}:notes")
    documents, rejects = read(path, reader)
    assert rejects == []
    assert documents == [
        (n, bytes(keys_of_ids(name, [f"i{n}"])[0]), f"t{n}") for n in range(9)
    ]
    assert len(plan_extents(storage.expand([str(path)]), reader, 10)) == 1


def test_a_file_that_breaks_off_keeps_what_the_function_found(package, tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b'{"text": "t"}\n' * 9, 0)[:-40])
    documents, rejects = read(path, ReaderConfig(format=f"{package}:notes"))
    assert len(documents) == 6
    assert [reason for _, reason in rejects] == ["truncated_input"]


def test_records_that_are_no_documents_are_rejects(package, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"")
    reader = ReaderConfig(format=f"{package}:odd", max_document_bytes=20)
    one = ReadSizes(batch_bytes=1)
    documents, rejects = read(path, reader, sizes=one)
    assert [(at, text) for at, _, text in documents] == [(0, "a"), (8, "c")]
    assert rejects == [
        (1, "missing_field"),
        (2, "missing_field"),
        (3, "wrong_type"),
        (4, "wrong_type"),
        (5, "invalid_utf8"),
        (6, "too_large"),
        (7, "wrong_type"),
    ]
    extents = plan_extents(storage.expand([str(path)]), reader)
    urls = [batch.urls for batch in read_extent(extents[0], reader, one) if batch.urls]
    assert [column.to_pylist() for column in urls] == [["http://c.de"]]


def test_a_function_that_fails_is_named_with_its_file(package, tmp_path):
    (tmp_path / "a.notes").write_bytes(b"")
    with pytest.raises(WorkError) as failed:
        read(tmp_path / "a.notes", ReaderConfig(format=f"{package}:broken"))
    assert "a.notes" in str(failed.value)
    assert "my_corpus.formats:broken" in str(failed.value)
    assert "KeyError: 'no such thing'" in str(failed.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_corpus.formats:note", "Did you mean notes"),
        ("my_corpus.formats:NUMBER", "found a int"),
        ("my_corpus.absent:notes", "No module named 'my_corpus.absent'"),
        ("my_corpus.unfinished:notes", "No module named 'nothing_there'"),
        ("my_corpus/formats.py:notes", "my_package.module:function"),
        ("my_corpus.formats:", "my_package.module:function"),
    ],
)
def test_a_name_that_is_no_function_is_refused_before_work(name, message, package):
    parser = CommandParser("quern-prepare", "")
    add_input_flags(parser)
    with pytest.raises(UsageError, match=message):
        reader_config(parser.parse_args(["--input", "*", "--format", name]))
