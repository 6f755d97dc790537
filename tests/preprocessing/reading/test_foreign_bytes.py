# SPDX-License-Identifier: Apache-2.0
"""What is not what a reader wants is called by its name, in the reject's detail."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.foundation import storage
from preprocessing.reading.extents import ReaderConfig, plan_extents
from preprocessing.reading.foreign_bytes import encoding_of, listed
from preprocessing.reading.readers import read_extent

OBJECTS = [{"id": "a", "text": "one"}, {"id": "b", "text": "two"}]
LINES = "".join(json.dumps(each) + "\n" for each in OBJECTS)


def read(path, kind="auto"):
    """Returns texts and (reason, detail) of a file's documents and rejects."""
    reader = ReaderConfig(format=kind)
    extents = plan_extents(storage.expand([str(path)]), reader)
    batches = [batch for extent in extents for batch in read_extent(extent, reader)]
    texts = [text for batch in batches for text in batch.texts.to_pylist()]
    return texts, [(r.reason, r.detail) for batch in batches for r in batch.rejects]


@given(
    text=st.text(st.characters(codec="latin-1", exclude_characters="\0"), min_size=4)
)
def test_utf_16_and_32_are_told_from_utf_8(text):
    assert encoding_of(text.encode()) == ""
    for name in ("utf-16", "utf-32"):
        for order in ("", "-le", "-be"):
            assert encoding_of(text.encode(name + order)) == name.upper()


@pytest.mark.parametrize("kind", ["jsonl", "lines", "paragraphs", "text"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32-le"])
def test_utf_16_is_called_so_and_never_kept(kind, encoding, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(LINES.encode(encoding))
    texts, rejects = read(path, kind)
    name = encoding[:6].upper()
    assert not "".join(texts).strip("\0")  # what is empty when cleaned
    wanted = f"{name}, not UTF-8: convert it (iconv -f {name} -t UTF-8)"
    assert rejects[0][1] == wanted


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (json.dumps(OBJECTS), "a JSON array"),
        (json.dumps(OBJECTS, indent=1), "a JSON array"),
        ("[\n" + LINES.rstrip().replace("\n", ",\n") + "\n]", "a JSON array"),
        (json.dumps(OBJECTS[0], indent=1), "indented JSON"),
        (json.dumps({"data": OBJECTS}, indent=4), "indented JSON"),
    ],
)
def test_json_that_is_no_lines_is_called_so(content, said, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(content)
    _, rejects = read(path)
    assert said in rejects[0][1] and "jq -c" in rejects[0][1]


def test_a_mark_where_files_were_joined_costs_no_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(3 * LINES.encode("utf-8-sig"))
    assert read(path) == (3 * ["one", "two"], [])


STRINGS = {"text": ["x"], "id": ["i"]}


@pytest.mark.parametrize(
    ("table", "reason", "detail"),
    [
        (
            {"Text": ["x"], "n": [1]},
            "missing_field",
            "no column text, the file has Text, n",
        ),
        ({**STRINGS, "text": [b"x"]}, "wrong_type", "column text is of type binary, "),
        ({**STRINGS, "text": [["x"]]}, "wrong_type", "type list<"),
        (
            {**STRINGS, "text": [None, "x"], "id": ["i", "j"]},
            "missing_field",
            "is null",
        ),
        (
            {**STRINGS, "id": [True]},
            "wrong_type",
            "id is of type bool, wanted ids",
        ),
        ({**STRINGS, "id": [{"a": 1}]}, "wrong_type", "--id_field names others"),
    ],
)
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_table_that_does_not_fit_says_column_and_type(
    kind, table, reason, detail, tmp_path
):
    found = write(tmp_path / f"a.{kind}", pa.table(table))
    assert found[0] == reason and detail in found[1]


@pytest.mark.parametrize("name", ["text", "id"])
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_doubled_column_is_a_reject_that_names_it(kind, name, tmp_path):
    columns = [pa.array(["x"]), pa.array(["y"]), pa.array(["z"])]
    table = pa.Table.from_arrays(columns, ["text", "id", name])
    found = write(tmp_path / f"a.{kind}", table)
    assert found[0] == "wrong_type" and f"2 columns are called {name}" in found[1]


def write(path, table):
    """Writes a table whose first row is bad; returns (reason, detail) of that."""
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    return read(path)[1][0]


def test_many_names_are_listed_shortly():
    assert listed([]) == "none"
    assert listed(["a", "b"]) == "a, b"
    long = listed([f"column_{n}" * 9 for n in range(5000)])
    assert len(long) < 250 and long.endswith("and 4999 more")
