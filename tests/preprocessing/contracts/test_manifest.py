# SPDX-License-Identifier: Apache-2.0
"""The manifest is the dataset's format to the letter, and the counters in it agree."""

import dataclasses
import hashlib
import json

import pytest

from preprocessing.contracts.manifest import (
    Counts,
    InputTotals,
    Manifest,
    Shard,
    Source,
    Split,
    config_hash,
    read_manifest,
    write_manifest,
)
from preprocessing.contracts.records import RecordFormat
from preprocessing.foundation.commands import UsageError, WorkError

LAYOUT = RecordFormat(16, 300)


def a_manifest(**changes):
    shard = Shard("train-00000-of-00001.tfrecord", 2, 2 * LAYOUT.frame_bytes, "00")
    fields = {
        "sequence_length": 16,
        "objective": "causal",
        "token_dtype": LAYOUT.token_dtype.name,
        "vocab_size": 300,
        "bos_id": None,
        "eos_id": 1,
        "pad_id": 0,
        "tokenizer_sha256": "ab",
        "config": {"seed": 3, "reader": {"format": "auto"}},
        "config_hash": config_hash({"seed": 3}),
        "seed": 3,
        "max_segments": LAYOUT.max_segments,
        "record_bytes": LAYOUT.record_bytes,
        "features": LAYOUT.features(),
        "splits": {
            "train": Split(2, 30, 90, (shard,)),
            "validation": Split(0, 0, 0, ()),
        },
        "counts": Counts(5, 3, {"empty": 2}, 29, 30, 1, 0),
        "sources": (Source("höhe.txt", 10),),
    }
    return Manifest(**{**fields, **changes})


def test_a_manifest_comes_back_as_it_went_and_its_hash_is_of_its_bytes(tmp_path):
    manifest = a_manifest()
    write_manifest(str(tmp_path), manifest)
    data = (tmp_path / "manifest.json").read_bytes()
    found = read_manifest(str(tmp_path))
    assert found == manifest
    assert found.dataset_hash == hashlib.sha256(data).hexdigest()


def test_the_json_holds_the_fields_of_the_contract_and_no_other(tmp_path):
    tree = json.loads(a_manifest().to_bytes())
    assert list(tree) == sorted(tree)
    assert set(tree) == {
        "schema_version",
        "sequence_length",
        "objective",
        "token_dtype",
        "vocab_size",
        "bos_id",
        "eos_id",
        "pad_id",
        "tokenizer_sha256",
        "config",
        "config_hash",
        "seed",
        "max_segments",
        "record_bytes",
        "features",
        "splits",
        "counts",
        "sources",
    }
    assert set(tree["counts"]) == {
        "read",
        "kept",
        "rejected",
        "tokens_encoded",
        "tokens_written",
        "overlap_tokens",
        "dropped_tokens",
    }
    split = tree["splits"]["train"]
    assert set(split) == {"rows", "tokens", "text_bytes", "shards"}
    assert set(split["shards"][0]) == {"name", "rows", "size", "sha256"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"not json", "is not one"),
        (lambda data: b"[]", "is not one"),
        (lambda data: data.replace(b'version": 1', b'version": 9'), "has 9"),
        (lambda data: data.replace(b'"eos_id": 1,', b'"eos_id": 2, '), "edited"),
        (lambda data: data.replace(b'"eos_id"', b'"end_id"'), "fails"),
        (lambda data: data.replace(b'"read": 5', b'"read": 6'), "read = kept"),
    ],
)
def test_a_manifest_that_is_not_as_written_is_refused(change, message, tmp_path):
    (tmp_path / "manifest.json").write_bytes(change(a_manifest().to_bytes()))
    with pytest.raises(UsageError, match=message):
        read_manifest(str(tmp_path))


MIXED = Split(0, 0, 0, (), {"web": {"rows": 0, "tokens": 0, "text_bytes": 0}})


@pytest.mark.parametrize(
    ("version", "changes"),
    [
        (1, {}),
        (2, {"splits": {"train": MIXED}}),
        (3, {"input": InputTotals(1, 10, 7, 3, 1)}),
        (3, {"splits": {"train": MIXED}, "input": InputTotals(1, 10, 10, 0, 0)}),
    ],
)
def test_every_version_that_a_quern_wrote_is_read_as_it_was_written(
    version, changes, tmp_path
):
    manifest = a_manifest(**changes)
    data = manifest.to_bytes()
    tree = json.loads(data)
    assert tree["schema_version"] == manifest.schema_version == version
    assert ("input" in tree) == (version == 3)
    assert ("sources" in tree["splits"]["train"]) == (version > 1)
    (tmp_path / "manifest.json").write_bytes(data)
    assert read_manifest(str(tmp_path)) == manifest


def test_bytes_of_input_that_are_neither_read_nor_not_cannot_be_written():
    with pytest.raises(WorkError, match=r"10 != 7 \+ 2"):
        InputTotals(1, 10, 7, 2, 0)


def test_an_absent_and_an_unfinished_dataset_are_told_apart(tmp_path):
    with pytest.raises(UsageError, match="found nothing"):
        read_manifest(str(tmp_path / "no"))
    with pytest.raises(UsageError, match="unfinished"):
        read_manifest(str(tmp_path))


def test_counters_that_do_not_agree_cannot_be_written():
    good = a_manifest().counts
    with pytest.raises(WorkError, match="6 != 3"):
        dataclasses.replace(good, read=6)
    with pytest.raises(WorkError, match="30 != 31"):
        dataclasses.replace(good, dropped_tokens=1)
    with pytest.raises(WorkError, match="3 rows, found 2"):
        dataclasses.replace(a_manifest().splits["train"], rows=3)
