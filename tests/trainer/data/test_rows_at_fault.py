# SPDX-License-Identifier: Apache-2.0
"""Which documents stood in the rows that a rollback leaves out."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from preprocessing.contracts.dataset_files import PROVENANCE, provenance_of
from preprocessing.contracts.manifest import read_manifest
from preprocessing.contracts.shards import Shards
from trainer.data.input_pipeline import SubRows
from trainer.data.mixed_order import MixedOrder
from trainer.data.rows_at_fault import describe


@pytest.fixture(scope="module")
def explained(dataset, tmp_path_factory):
    """The shared dataset with provenance: segment s of row r is at offset 100 r + s."""
    copy = tmp_path_factory.mktemp("explained") / "dataset"
    shutil.copytree(dataset, copy)
    manifest = read_manifest(str(copy))
    rows = Shards(str(copy), manifest, "train")
    lengths = rows.read(np.arange(rows.num_rows))["segment_lengths"]
    first = 0
    for shard in manifest.splits["train"].shards:
        lines = [
            {
                "row": row,
                "segment": segment,
                "document": f"{row:032x}",
                "path": "texts.jsonl",
                "offset": 100 * row + segment,
                "start": 0,
            }
            for row in range(first, first + shard.rows)
            for segment in range(np.count_nonzero(lengths[row]))
        ]
        table = pa.Table.from_pylist(lines, schema=PROVENANCE)
        pq.write_table(table, copy / provenance_of(shard))
        first += shard.rows
    return copy


def described(paths, first, end, length=64):
    parts = [
        SubRows(str(path), read_manifest(str(path)), "train", length) for path in paths
    ]
    order = MixedOrder([part.num_rows for part in parts], [1.0] * len(parts), 0)
    return describe(parts, order, first, end), parts, order


def test_each_row_is_named_with_its_shard_and_all_its_documents(explained):
    lines, (part,), _ = described([explained], 1, part_rows(explained))
    shards = part.manifest.splits["train"].shards
    names = np.repeat([s.name for s in shards], [s.rows for s in shards])
    for line in lines:
        row = line["row"]
        assert line["position"] == row
        assert line["shard"] == names[row]
        assert line["dataset"] == str(explained)
        lengths = part.read(np.array([row]))["segment_lengths"][0]
        offsets = [document["offset"] for document in line["documents"]]
        assert offsets == [100 * row + s for s in range(np.count_nonzero(lengths))]
    assert json.loads(json.dumps(lines)) == lines


def part_rows(path):
    return read_manifest(str(path)).splits["train"].rows


def test_the_parts_of_a_row_share_its_documents_out(explained):
    lines, (part,), _ = described([explained], 0, 40, length=16)
    whole, _, _ = described([explained], 0, 10)
    for row in range(10):
        parts = [line for line in lines if line["row"] == row]
        assert [line["part"] for line in parts] == [0, 1, 2, 3]
        offsets = {d["offset"] for line in parts for d in line["documents"]}
        assert offsets == {d["offset"] for d in whole[row]["documents"]}
        for line in parts:
            sub_row = part.read(np.array([line["position"]]))
            count = np.count_nonzero(sub_row["segment_lengths"])
            assert len(line["documents"]) == count
    assert any(len(line["documents"]) < 4 for line in lines)


def test_positions_of_a_mixture_are_named_with_their_dataset(explained, dataset):
    lines, parts, order = described([explained, dataset], 2000, 2040)
    numbers, rows = order.locate(2000, 40)
    found = [(line["dataset"], line["row"]) for line in lines]
    wanted = [
        (parts[n].dataset, row)
        for n, row in zip(numbers.tolist(), rows.tolist(), strict=True)
    ]
    assert found == wanted
    assert [line["position"] for line in lines] == list(range(2000, 2040))


def test_a_dataset_without_provenance_says_so_and_stops_nothing(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "copy")
    for path in copy.glob("provenance-*"):
        path.unlink()
    lines, _, _ = described([copy], 0, 3)
    assert [line["row"] for line in lines] == [0, 1, 2]
    for line in lines:
        assert line["documents"] == []
        assert "provenance-train-00000-of-00002.parquet" in line["note"]
        assert "no such file" in line["note"]
