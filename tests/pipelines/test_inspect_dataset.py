# SPDX-License-Identifier: Apache-2.0
"""quern-inspect shows what is there and finds what is not as it was written."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines import inspect_dataset
from preprocessing.commands import UsageError, WorkError
from preprocessing.manifest import read_manifest


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dataset, tmp_path / "copy"))


def test_show_prints_the_manifest_as_a_table(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect_dataset.main(["show", str(dataset)])
    text = capsys.readouterr().out
    manifest = read_manifest(str(dataset))
    assert manifest.dataset_hash in text
    assert f"{manifest.splits['train'].rows:,}" in text and "malformed_json" in text


def test_verify_passes_a_whole_dataset(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect_dataset.main(["verify", str(dataset)])
    assert "is whole" in capsys.readouterr().out


def test_a_row_is_told_segment_by_segment_with_its_origin(
    corpus: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place, *_) = (
        line
        for line in pq.read_table(next(dataset.glob("provenance-train-*"))).to_pylist()
        if line["start"] == 0 and line["path"] == "a.jsonl"
    )
    inspect_dataset.main(["row", str(dataset), str(place["row"])])
    text = capsys.readouterr().out
    data = (corpus / "a.jsonl").read_bytes()[place["offset"] :].split(b"\n")[0]
    assert f"{place['document']} (a.jsonl at offset {place['offset']})" in text
    assert json.loads(data)["text"][:20] in text


def test_a_flipped_byte_anywhere_in_a_shard_is_found(copy: Path) -> None:
    shard = next(copy.glob("train-*.tfrecord"))
    whole = shard.read_bytes()
    for place in [0, 9, 40, len(whole) // 2, len(whole) - 1]:
        data = bytearray(whole)
        data[place] ^= 1
        shard.write_bytes(data)
        with pytest.raises(WorkError, match=shard.name):
            inspect_dataset.main(["verify", str(copy)])


def test_a_truncated_or_missing_part_is_found(copy: Path) -> None:
    for pattern in ["train-00001-*", "provenance-train-00000-*", "tokenizer.json"]:
        part = next(copy.glob(pattern))
        whole = part.read_bytes()
        part.unlink()
        with pytest.raises(WorkError, match=r"no such file"):
            inspect_dataset.main(["verify", str(copy)])
        part.write_bytes(whole)
    shard = next(copy.glob("train-00001-*.tfrecord"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(WorkError, match=rf"{shard.name} of \d+ bytes"):
        inspect_dataset.main(["verify", str(copy)])


def test_provenance_that_belongs_to_other_rows_is_found(copy: Path) -> None:
    first, second = sorted(copy.glob("provenance-train-*"))[:2]
    shutil.copy(first, second)
    with pytest.raises(WorkError, match=second.name):
        inspect_dataset.main(["verify", str(copy)])


def test_a_lost_reject_line_is_found(copy: Path) -> None:
    next((copy / "rejects").iterdir()).unlink()
    with pytest.raises(WorkError, match="lines in rejects/"):
        inspect_dataset.main(["verify", str(copy)])


def test_what_cannot_be_inspected_is_refused(dataset: Path, tmp_path: Path) -> None:
    for arguments, complaint in [
        (["show", str(tmp_path / "nowhere")], "found nothing"),
        (["show", str(tmp_path)], "manifest.json"),
        (["row", str(dataset)], "row DATASET N"),
        (["row", str(dataset), "999999"], "Name one from 0 to"),
        (["row", str(dataset), "0", "--split", "test"], "train"),
        (["verify", str(dataset), "--split=x", "--fast"], "--fast"),
    ]:
        with pytest.raises(UsageError, match=complaint):
            inspect_dataset.main(arguments)
