# SPDX-License-Identifier: Apache-2.0
"""What is no id is none in every format, and rejects carry the ids that are some."""

import csv
import json
import math
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation import storage
from preprocessing.foundation.fingerprints import keys_of_ids, keys_of_offsets
from preprocessing.foundation.user_code import load
from preprocessing.reading.extents import ReaderConfig, plan_extents
from preprocessing.reading.readers import read_extent

OWN_READER = """
import json

def records(file):
    for line in file:
        yield json.loads(line)
"""
KINDS = ("jsonl", "csv", "tsv", "parquet", "arrow", "function")
IDS = st.one_of(
    st.sampled_from(["", " ", "\u3000", "nan", "NaN", "None", "Nan", "0"]),
    st.text("ab7", min_size=1, max_size=3),
)


@pytest.fixture(autouse=True)
def own_reader(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("code")
    (folder / "own_ids.py").write_text(OWN_READER)
    monkeypatch.syspath_prepend(folder)
    yield
    load.cache_clear()
    sys.modules.pop("own_ids", None)


def written(folder, kind, rows):
    """Writes rows in a format; returns what `--format` and the path are."""
    path = folder / f"a.{kind}"
    if kind in ("csv", "tsv"):
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="," if kind == "csv" else "\t")
            writer.writerows([["id", "text"], *([r["id"], r["text"]] for r in rows)])
    elif kind in ("parquet", "arrow"):
        table = pa.table({name: [r[name] for r in rows] for name in ("id", "text")})
        if kind == "parquet":
            pq.write_table(table, path)
        else:
            with pa.ipc.new_file(str(path), table.schema) as writer:
                writer.write_table(table)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ("own_ids:records" if kind == "function" else kind), path


def batches(kind, path, **flags):
    reader = ReaderConfig(format=kind, **flags)
    extents = plan_extents(storage.expand([str(path)]), reader)
    return [batch for extent in extents for batch in read_extent(extent, reader)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(ids=st.lists(IDS, min_size=1, max_size=6))
def test_an_id_that_is_empty_or_nan_is_none(kind, ids, tmp_path_factory):
    rows = [{"id": name, "text": f"text {at}"} for at, name in enumerate(ids)]
    kind, path = written(tmp_path_factory.getbasetemp(), kind, rows)
    (batch,) = [each for each in batches(kind, path) if len(each.keys)]
    named = [name.strip() not in ("", "nan", "NaN") for name in ids]
    for at, (name, is_one) in enumerate(zip(ids, named, strict=True)):
        offset = int(batch.offsets[at])
        wanted = keys_of_offsets(path.name, [offset])
        if is_one:
            wanted = keys_of_ids(path.name, [name])
        assert bytes(batch.keys[at]) == bytes(wanted[0])
        assert batch.id_of(at) == (name if is_one else None)


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "arrow", "function"])
def test_a_nan_among_numbers_is_no_id(kind, tmp_path):
    rows = [{"id": each, "text": f"t{each}"} for each in (math.nan, 7.5, math.nan)]
    if kind == "function":
        rows[1]["id"] = "7.5"
    kind, path = written(tmp_path, kind, rows)
    (batch,) = [each for each in batches(kind, path) if len(each.keys)]
    assert [batch.id_of(at) for at in range(3)] == [None, "7.5", None]
    assert len({bytes(key) for key in batch.keys}) == 3


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "arrow", "function"])
def test_what_cannot_be_read_carries_its_own_id(kind, tmp_path):
    rows = [
        {"id": "good", "text": "a"},
        {"id": "bad", "text": None},
        {"id": "", "text": None},
    ]
    kind, path = written(tmp_path, kind, rows)
    rejects = [each for batch in batches(kind, path) for each in batch.rejects]
    assert [each.id for each in rejects] == ["bad", None]
    key = keys_of_ids(path.name, ["bad"])[0].tobytes().hex()
    assert [each.document for each in rejects] == [key, ""]


def test_a_record_of_csv_with_broken_text_carries_its_own_id(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,id\n\xff,seven\n")
    ((reject,),) = [batch.rejects for batch in batches("csv", path) if batch.rejects]
    assert (reject.reason, reject.id) == ("invalid_utf8", "seven")


WARC = """WARC/1.0\r
WARC-Type: {kind}\r
{named}Content-Length: 4\r
\r
text\r
\r
"""


@pytest.mark.parametrize("named", ["", "WARC-Record-ID:  \r\n"])
def test_a_record_of_an_archive_needs_no_id(named, tmp_path):
    path, mine = tmp_path / "a.warc", "WARC-Record-ID: <urn:uuid:7>\r\n"
    records = [("conversion", named), ("conversion", named), ("response", mine)]
    path.write_bytes("".join(WARC.format(kind=k, named=n) for k, n in records).encode())
    found = [
        each for batch in batches("warc", path) for each in batch.texts.to_pylist()
    ]
    rejects = [each for batch in batches("warc", path) for each in batch.rejects]
    assert found == ["text", "text"]
    assert [each.id for each in rejects] == ["<urn:uuid:7>"]
