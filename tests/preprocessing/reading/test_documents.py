# SPDX-License-Identifier: Apache-2.0
"""Files become extents that cover them once, and documents keep their keys."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.decompression import compression_of
from preprocessing.foundation.fingerprints import keys_of_ids, keys_of_offsets
from preprocessing.foundation.storage import InputFile
from preprocessing.reading.documents import Trouble, keys_of, rejects_of
from preprocessing.reading.extents import (
    TO_THE_END,
    Extent,
    ReaderConfig,
    format_of,
    plan_extents,
)


@given(
    sizes=st.lists(st.integers(0, 5000), max_size=6),
    kind=st.sampled_from(["text", "lines", "paragraphs", "jsonl"]),
    suffix=st.sampled_from(["", ".gz", ".zst"]),
    extent_bytes=st.integers(1, 600),
)
def test_extents_cover_every_byte_of_every_file_once(sizes, kind, suffix, extent_bytes):
    files = [
        InputFile(f"/{n}{suffix}", f"{n}{suffix}", size) for n, size in enumerate(sizes)
    ]
    extents = plan_extents(files, ReaderConfig(format=kind), extent_bytes)
    assert [extent.index for extent in extents] == list(range(len(extents)))
    for file in files:
        mine = [extent for extent in extents if extent.path == file.path]
        assert sum(extent.size for extent in mine) == file.size
        if len(mine) == 1:
            assert (mine[0].start, mine[0].end) == (0, TO_THE_END)
            continue
        assert kind != "text"
        assert not suffix
        assert [extent.start for extent in mine[1:]] == [p.end for p in mine[:-1]]
        assert (mine[0].start, mine[-1].end) == (0, file.size)
        assert max(extent.size for extent in mine) <= extent_bytes


def test_auto_goes_by_the_extension_under_the_compression():
    wanted = {
        "a.jsonl": "jsonl",
        "a.json.gz": "jsonl",
        "A.NDJSON.zst": "jsonl",
        "a.parquet": "parquet",
        "a.csv.gz": "csv",
        "a.tsv": "tsv",
        "a.arrow": "arrow",
        "a.feather": "arrow",
        "CC-MAIN-1.warc.gz": "warc",
        "CC-MAIN-1.warc.wet.gz": "wet",
        "a.txt": "text",
        "README": "text",
        "src/Main.java": "text",
        "a.jsonlines": "jsonl",
        "scraped.jl.gz": "jsonl",
        "a.ldjson": "jsonl",
        "corpus.jsonl-00000-of-00003": "jsonl",
        "c4-train.00000-of-01024.json.gz": "jsonl",
        "hub.parquet_00_OF_03": "parquet",
    }
    assert {name: format_of(name, ReaderConfig()) for name in wanted} == wanted
    assert format_of("a.jsonl", ReaderConfig(format="lines")) == "lines"


@given(
    ending=st.sampled_from(["jsonl", "json", "parquet", "csv", "tsv", "txt", "PY"]),
    packed=st.sampled_from(["", ".gz", ".zst"]),
    shard=st.from_regex(r"[-_.][0-9]{1,6}[-_]of[-_][0-9]{1,6}", fullmatch=True),
    last=st.booleans(),
)
def test_a_shards_number_hides_neither_format_nor_compression(
    ending, packed, shard, last
):
    whole = f"part.{ending}{packed}"
    name = whole + shard if last else f"part.{ending}{shard}{packed}"
    assert format_of(name, ReaderConfig()) == format_of(whole, ReaderConfig())
    assert compression_of(name) == compression_of(whole)


FORMLESS = (
    *("part-00000", "corpus.jsonl.bak", "corpus.jsonl~", "corpus.jsonl.1", "x.html"),
    *("part-r-00000.gz", "xaa", "a.geojson", "a.jsonl.orig", "a.log"),
)


@pytest.mark.parametrize("name", FORMLESS)
def test_a_name_that_tells_no_format_is_no_text(name, tmp_path):
    (tmp_path / name).write_text('{"text": "one"}\n{"text": "two"}\n')
    (tmp_path / "_SUCCESS").touch()
    files = storage.expand([str(tmp_path / "*")])
    with pytest.raises(UsageError, match=f"{re.escape(name)}. Say --format"):
        plan_extents(files, ReaderConfig())
    kinds = [each.format for each in plan_extents(files, ReaderConfig(format="jsonl"))]
    assert kinds == ["jsonl", "jsonl"]


@pytest.mark.slow
def test_keys_are_by_id_where_there_is_one_and_by_offset_elsewhere():
    keys = keys_of("f", ["a", None, ""], np.array([0, 5, 9]))
    np.testing.assert_array_equal(keys[[0, 2]], keys_of_ids("f", ["a", ""]))
    np.testing.assert_array_equal(keys[1:2], keys_of_offsets("f", [5]))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"format": "xml"}, "found xml"),
        ({"format": "jsonlines"}, "found jsonlines. Did you mean"),
        ({"target_field": "text"}, "--target_field"),
        ({"text_field": "id"}, "'id' and 'id'"),
        ({"text_field": ""}, "--text_field"),
        ({"max_document_bytes": 0}, "found 0"),
    ],
)
def test_readers_that_cannot_be_are_refused(flags, message):
    with pytest.raises(UsageError, match=message):
        ReaderConfig(**flags)


def test_a_rejects_detail_is_for_people_however_long_what_was_found_is():
    extent = Extent(0, "/a", "a", 0, TO_THE_END, 9, "warc", "none")
    troubles = [Trouble(0, "not_text", "short"), Trouble(1, "not_text", "x" * 10**6)]
    short, long = rejects_of(extent, troubles)
    assert short.detail == "short"
    assert long.detail == "x" * 300 + "... (1,000,000 characters)"
