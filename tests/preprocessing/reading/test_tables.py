# SPDX-License-Identifier: Apache-2.0
"""Arrow files read as Parquet ones do; urls and targets come from every format."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.foundation import storage
from preprocessing.foundation.read_sizes import READ_SIZES, ReadSizes
from preprocessing.reading.extents import ReaderConfig, plan_extents
from preprocessing.reading.readers import read_extent
from tests.preprocessing.reading.test_readers import read


def write_arrow(path, table, rows=None):
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, rows)


def write_stream(path, table, rows=None):
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, rows)


def columns(path, reader, sizes=READ_SIZES):
    """Returns (texts, urls, targets) of a file."""
    rows = []
    for extent in plan_extents(storage.expand([str(path)]), reader):
        for batch in read_extent(extent, reader, sizes):
            none = [None] * len(batch.texts)
            urls = none if batch.urls is None else batch.urls.to_pylist()
            targets = none if batch.targets is None else batch.targets.to_pylist()
            rows += zip(batch.texts.to_pylist(), urls, targets, strict=True)
    return rows


@pytest.mark.parametrize("write", [write_arrow, write_stream])
def test_arrow_files_and_streams_read_as_parquet_does(write, tmp_path):
    texts = [f"text {n}" if n % 7 else None for n in range(100)]
    table = pa.table({"other": [b"x"] * 100, "text": texts, "id": range(100)})
    write(tmp_path / "a.arrow", table, 9)
    pq.write_table(table, tmp_path / "a.parquet")
    documents, rejects = read(tmp_path / "a.arrow", ReaderConfig())
    wanted, wanted_rejects = read(tmp_path / "a.parquet", ReaderConfig())
    assert [(at, text) for at, _, text in documents] == [
        (at, text) for at, _, text in wanted
    ]
    assert rejects == wanted_rejects
    assert rejects[:2] == [(0, "missing_field"), (7, "missing_field")]
    reader = ReaderConfig(text_field="body", id_field="name")
    assert read(tmp_path / "a.arrow", reader)[1] == [
        (row, "missing_field") for row in range(100)
    ]


def test_a_compressed_feather_file_is_an_arrow_file(tmp_path):
    table = pa.table({"text": ["a", "b"]})
    pa.feather.write_feather(table, tmp_path / "a.feather", compression="zstd")
    documents, rejects = read(tmp_path / "a.feather", ReaderConfig())
    assert [text for _, _, text in documents] == ["a", "b"]
    assert rejects == []


def test_large_batches_are_given_on_in_small_ones(tmp_path):
    table = pa.table({"text": ["x" * 1000] * 20_000})
    write_arrow(tmp_path / "a.arrow", table)
    extents = plan_extents(storage.expand([str(tmp_path / "a.arrow")]), ReaderConfig())
    batches = list(read_extent(extents[0], ReaderConfig()))
    assert max(batch.texts.nbytes for batch in batches) < 5 << 20
    offsets = np.concatenate([batch.offsets for batch in batches])
    assert offsets.tolist() == list(range(20_000))


def test_large_rows_of_parquet_come_in_batches_by_their_own_sizes(tmp_path):
    sizes = [9 << 20] + [1000] * 50 + [5 << 20, 1000, 3 << 20, 2 << 20]
    table = pa.table({"text": ["x" * size for size in sizes]})
    pq.write_table(table, tmp_path / "a.parquet")
    extents = plan_extents(
        storage.expand([str(tmp_path / "a.parquet")]), ReaderConfig()
    )
    batches = [batch.offsets for batch in read_extent(extents[0], ReaderConfig())]
    batches = [offsets.tolist() for offsets in batches if len(offsets)]
    assert batches == [[0], list(range(1, 51)), [51], [52, 53], [54]]


@pytest.mark.parametrize("dictionary", [False, True])
def test_a_huge_text_of_parquet_is_held_once_while_others_work(dictionary, tmp_path):
    texts = ["x" * (16 << 20)] + [f"{n}" + "y" * 100_000 for n in range(30)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": texts}), path, use_dictionary=dictionary)
    extents = plan_extents(storage.expand([str(path)]), ReaderConfig())
    del texts
    before = pa.total_allocated_bytes()
    batches = read_extent(extents[0], ReaderConfig(), ReadSizes(huge_bytes=1 << 20))
    huge = next(batches).texts
    assert len(huge) == 1
    held = pa.total_allocated_bytes() - before - huge.nbytes
    assert held < 1 << 20  # 3 MB follow, too much to be read ahead
    assert sum(len(batch.texts) for batch in batches) == 30


@given(
    sizes=st.lists(st.sampled_from([0, 1, 30, 100, 300]), max_size=40),
    group=st.integers(1, 40),
    huge=st.integers(1, 1000),
    by_one=st.booleans(),
    dictionary=st.booleans(),
)
def test_parquet_is_the_same_however_often_its_reader_is_reopened(
    sizes, group, huge, by_one, dictionary, tmp_path_factory
):
    texts = [f"{n:03d}" + "x" * size if size else None for n, size in enumerate(sizes)]
    path = tmp_path_factory.mktemp("huge") / "a.parquet"
    table = pa.table({"text": pa.array(texts, pa.string())})
    pq.write_table(table, path, row_group_size=group, use_dictionary=dictionary)
    wanted = read(path, ReaderConfig())
    large_row = 0 if by_one else 1 << 20
    sizes = ReadSizes(batch_bytes=1000, large_row_bytes=large_row, huge_bytes=huge)
    assert read(path, ReaderConfig(), sizes=sizes) == wanted


@pytest.mark.parametrize("huge", [1, 64 << 20])
def test_damage_behind_a_huge_text_of_parquet_costs_only_what_is_behind_it(
    huge, tmp_path
):
    sizes = ReadSizes(batch_bytes=1, large_row_bytes=0, huge_bytes=huge)
    path = tmp_path / "a.parquet"
    texts = [f"text number {n}" for n in range(10)]
    table = pa.table({"text": texts})
    pq.write_table(table, path, row_group_size=5, use_dictionary=False)
    data = bytearray(path.read_bytes())
    second = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data[second : second + 20] = b"\xff" * 20
    path.write_bytes(data)
    documents, rejects = read(path, ReaderConfig(), sizes=sizes)
    assert [text for _, _, text in documents] == texts[:5]
    assert rejects == [(5, "damaged_input")]


@pytest.mark.parametrize("write", [write_arrow, write_stream])
def test_arrow_that_breaks_off_is_a_reject_behind_what_it_holds(write, tmp_path):
    path = tmp_path / "a.arrow"
    write(path, pa.table({"text": ["abc"] * 1000}), 100)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    documents, rejects = read(path, ReaderConfig())
    assert [reason for _, reason in rejects] == ["damaged_input"]
    # A file's footer, which breaks off first, says where its batches are.
    assert len(documents) == (400 if write is write_stream else 0)
    path.write_bytes(b"")
    assert read(path, ReaderConfig()) == ([], [(0, "damaged_input")])


RECORDS = [
    {"text": "a", "url": "http://a.de", "target": "A", "id": "1"},
    {"text": "b", "url": None, "target": "B", "id": "2"},
    {"text": "c", "url": "http://c.de", "target": None, "id": "3"},
    {"text": None, "url": "http://d.de", "target": "D", "id": "4"},
    {"text": "e", "url": "http://e.de", "target": "E", "id": "5"},
]


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "arrow", "csv"])
def test_every_format_gives_urls_and_targets_beside_its_texts(kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    table = pa.Table.from_pylist(RECORDS)
    if kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, RECORDS)))
    elif kind == "csv":
        names = list(RECORDS[0])
        rows = [[record[name] or "" for name in names] for record in RECORDS]
        path.write_text("\n".join(map(",".join, [names, *rows])))
    else:
        pq.write_table(table, path) if kind == "parquet" else write_arrow(path, table)
    found = columns(path, ReaderConfig(target_field="target"))
    if kind == "csv":  # which has no null, but empty strings
        found = [row for row in found if all((row[0], row[2]))]
    assert found == [
        ("a", "http://a.de", "A"),
        ("b", None, "B"),
        ("e", "http://e.de", "E"),
    ]
    plain = columns(path, ReaderConfig(url_field="address"))
    assert {row[1:] for row in plain} == {(None, None)}


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "arrow", "csv"])
@pytest.mark.parametrize("text", ["a", None])
def test_targets_that_are_asked_for_are_a_column_where_no_document_is_left(
    kind, text, tmp_path
):
    path = tmp_path / f"a.{kind}"
    if kind == "jsonl":
        path.write_text(json.dumps({"text": text, "target": "b"}))
    elif kind == "csv":
        path.write_text("text,target\n" + ("a,b\n" if text else "a\n"))
    else:
        table = pa.table({"text": pa.array([text], pa.string()), "target": ["b"]})
        pq.write_table(table, path) if kind == "parquet" else write_arrow(path, table)
    for target in ("target", None):
        reader = ReaderConfig(target_field=target)
        extents = plan_extents(storage.expand([str(path)]), reader)
        for batch in read_extent(extents[0], reader):
            assert (batch.targets is None) == (target is None)
            assert target is None or len(batch.targets) == len(batch.texts)


def test_a_field_may_be_the_id_and_the_url(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "url": "http://a.de"}\n{"text": "b", "url": 7}')
    found = columns(path, ReaderConfig(id_field="url"))
    assert found == [("a", "http://a.de", None), ("b", None, None)]


@pytest.mark.parametrize("few", [1, 32])
def test_a_url_that_is_none_costs_no_document(few, tmp_path):
    urls = ['"http://a.de"', "7", "{}", "null", '"\\ud800"', '["x"]', "true"]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(f'{{"text": "t", "url": {url}}}' for url in urls))
    found = columns(path, ReaderConfig(), ReadSizes(few_lines=few))
    assert [url for _, url, _ in found] == ["http://a.de"] + [None] * 6


def test_targets_are_judged_as_texts_are(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = ['"A"', "null", "7", '"\\ud800"', "{}"]
    path.write_text("\n".join(f'{{"text": "t", "target": {t}}}' for t in lines))
    documents, rejects = read(path, ReaderConfig(target_field="target"))
    assert len(documents) == 1
    assert [reason for _, reason in rejects] == [
        "missing_field",
        "wrong_type",
        "invalid_utf8",
        "wrong_type",
    ]
