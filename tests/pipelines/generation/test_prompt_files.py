# SPDX-License-Identifier: Apache-2.0
"""Files of prompts: the same records, whatever the format and the packing."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pipelines.generation.prompt_files import (
    FORMATS,
    LARGEST_RECORD_BYTES,
    Record,
    formats_of,
    read_records,
    split_lines,
)
from preprocessing.contracts.tf_records import encode_example, framed
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError

TEXTS = ["Once", " two\twords ", "naïve 漢字", "x" * 3000]


def records_of(path, chosen="auto"):
    (file,) = storage.expand([str(path)])
    (kind,) = formats_of([file], chosen)
    return list(read_records(file, kind, ["prompt", "text"], ["id"]))


def bytes_of(ending: str) -> bytes:
    """Returns the texts, their ids from 0, as a file of a format."""
    rows = [{"id": i, "prompt": text} for i, text in enumerate(TEXTS)]
    if ending == "jsonl":
        return "\n\n".join(map(json.dumps, rows)).encode()
    if ending == "txt":
        return "\n \n".join(TEXTS).encode("utf-8-sig")
    if ending == "parquet":
        out = pa.BufferOutputStream()
        unread = [[1.5]] * len(rows)
        table = pa.Table.from_pylist(rows).append_column("other", unread)
        pq.write_table(table, out, row_group_size=2)
        return out.getvalue().to_pybytes()
    features = ({"id": [r["id"]], "prompt": [r["prompt"].encode()]} for r in rows)
    return b"".join(framed(encode_example(each)) for each in features)


@pytest.mark.parametrize("ending", ["jsonl", "txt", "parquet", "tfrecord"])
def test_every_format_holds_the_same_records_plain_and_packed(tmp_path, ending):
    data = bytes_of(ending)
    step = 2 if ending in ("jsonl", "txt") else 1  # blank lines count
    packed = {"": data, ".gz": gzip.compress(data), ".zst": zstandard.compress(data)}
    if ending == "parquet":
        packed = {"": data}
    for packing, stored in packed.items():
        name = f"p.{ending}{packing}"
        (tmp_path / name).write_bytes(stored)
        found = records_of(tmp_path / name)
        assert [each.place for each in found] == [
            f"{name}:{1 + step * i}" for i in range(len(TEXTS))
        ]
        prompts = [each.fields["prompt"] for each in found]
        if ending == "tfrecord":
            prompts = [prompt.decode() for prompt in prompts]
        assert prompts == TEXTS
        if ending != "txt":
            assert [each.fields["id"] for each in found] == [*range(len(TEXTS))]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"id": 1, "prompt": "\xff"}', "not JSON"),
        (b"[1]", "not a JSON object but an array"),
        (b"[", "part of a JSON array, not JSON lines"),
        (b' "prompt": "x",', "part of indented JSON, not JSON lines"),
        ('{"id": 1'.encode("utf-16"), "UTF-16, not UTF-8"),
    ],
)
def test_a_line_that_is_no_object_says_why(tmp_path, line, fault):
    (tmp_path / "p.jsonl").write_bytes(line + b'\n{"prompt": "good"}\r\n')
    bad, *_, good = records_of(tmp_path / "p.jsonl")
    assert fault in bad.fault and bad.fields == {}
    assert good.fields == {"prompt": "good"} and not good.fault


def test_a_bad_record_of_any_format_costs_itself_alone(tmp_path):
    good = framed(encode_example({"text": [b"good"]}))
    damaged = bytearray(good)
    damaged[-1] ^= 1
    large = framed(encode_example({"text": [b"x" * LARGEST_RECORD_BYTES]}))
    data = good + damaged + large + framed(b"\xff") + good
    (tmp_path / "p.tfrecord").write_bytes(data)
    assert [each.fault for each in records_of(tmp_path / "p.tfrecord")] == [
        "",
        "another checksum than was written",
        "above 1,048,576 bytes",
        "not a tf.train.Example",
        "",
    ]
    (tmp_path / "p.txt").write_bytes(b"one\n\xff\xfe\nthree")
    assert records_of(tmp_path / "p.txt") == [
        Record("p.txt:1", {"prompt": "one"}),
        Record(
            "p.txt:2", {}, "UTF-16, not UTF-8: convert it (iconv -f UTF-16 -t UTF-8)"
        ),
        Record("p.txt:3", {"prompt": "three"}),
    ]
    texts = ["good", "x" * (LARGEST_RECORD_BYTES + 1), None, "good"]
    pq.write_table(pa.table({"text": texts}), tmp_path / "p.parquet")
    found = records_of(tmp_path / "p.parquet")
    assert [each.fault for each in found] == ["", "above 1,048,576 bytes", "", ""]


def test_a_damaged_file_is_refused_by_name(tmp_path):
    for name, cut in [("p.parquet", 30), ("p.tfrecord", 3), ("p.tfrecord.gz", 9)]:
        data = bytes_of(name.split(".")[1])
        if name.endswith(".gz"):
            data = gzip.compress(data)
        (tmp_path / name).write_bytes(data[:-cut])
        with pytest.raises(UsageError, match=f"wanted a whole file at .*{name}, found"):
            records_of(tmp_path / name)
    (tmp_path / "other.tfrecord").write_bytes(b"no records, but a text")
    with pytest.raises(UsageError, match="no TFRecord, or a damaged length, at rec"):
        records_of(tmp_path / "other.tfrecord")


def test_the_names_of_files_tell_their_format_or_the_flag_does(tmp_path):
    for name, told in {
        "a.jsonl": "jsonl",
        "a.json.gz": "jsonl",
        "a.jsonl-00000-of-00003": "jsonl",
        "a.TXT": "lines",
        "README.md": "lines",
        "a.pq": "parquet",
        "a.tfrecords": "tfrecord",
        "a-00001-of-00002.tfrecord.zst": "tfrecord",
    }.items():
        file = storage.InputFile(str(tmp_path / name), name, 1)
        assert formats_of([file], "auto") == [told]
        assert [formats_of([file], each) for each in FORMATS] == [[f] for f in FORMATS]
    for name in ("a.csv", "prompts", "a.warc.gz"):
        with pytest.raises(UsageError, match="Say --input_format"):
            formats_of([storage.InputFile(name, name, 1)], "auto")
    (tmp_path / "b.jsonl").write_bytes(gzip.compress(b"{}"))
    with pytest.raises(UsageError, match="gzip inside"):
        records_of(tmp_path / "b.jsonl")


def test_a_table_without_the_column_is_refused_with_those_it_has(tmp_path):
    pq.write_table(pa.table({"question": ["why"], "n": [1]}), tmp_path / "p.parquet")
    with pytest.raises(UsageError, match=r"column prompt or text in .* question, n\."):
        records_of(tmp_path / "p.parquet")


def test_a_line_above_the_limit_is_a_fault_of_its_own_wherever_it_stands(tmp_path):
    whole = json.dumps({"id": 1, "prompt": "x"}).encode().ljust(LARGEST_RECORD_BYTES)
    lines = [whole, whole + b" ", b" " * (3 * LARGEST_RECORD_BYTES) + whole]
    lines += [b'{"id": 2, "prompt": "y"}', b"x" * (9 * LARGEST_RECORD_BYTES)]
    data = b"\n".join(lines)
    (tmp_path / "a.jsonl").write_bytes(data)
    (tmp_path / "c.jsonl.zst").write_bytes(zstandard.compress(data))
    for name in ("a.jsonl", "c.jsonl.zst"):
        found = records_of(tmp_path / name)
        assert [bool(each.fault) for each in found] == [False, True, True, False, True]
        assert found[4] == Record(f"{name}:5", {}, "above 1,048,576 bytes")


@given(st.binary(max_size=40), st.integers(1, 7), st.integers(1, 9))
def test_lines_and_their_bound_do_not_depend_on_how_a_stream_is_cut(data, size, limit):
    data = data.replace(b"\x01", b"\n").replace(b"\x02", b"\n")
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    found = list(split_lines(parts, limit))
    assert [line[: limit + 1] for line in found] == [
        line[: limit + 1] for line in data.split(b"\n")
    ]
    assert all(len(line) <= max(limit + 1, size) for line in found)
