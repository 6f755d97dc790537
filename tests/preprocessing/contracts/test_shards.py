# SPDX-License-Identifier: Apache-2.0
"""Any row of a dataset is reached at once, and no damage goes unnoticed."""

import dataclasses
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.contracts.manifest import Split
from preprocessing.contracts.shards import Shards, shard_name, write_shard
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError, WorkError
from tests.preprocessing.contracts.test_manifest import LAYOUT, a_manifest

SHARD_ROWS = (5, 0, 1, 7)
NUM_ROWS = sum(SHARD_ROWS)


def rows_of_dataset():
    """Returns tokens and lengths that tell their own row."""
    rows = np.arange(NUM_ROWS)[:, None]
    tokens = (rows * 17 + np.arange(17)) % 300
    lengths = np.zeros((NUM_ROWS, LAYOUT.max_segments), int)
    lengths[:, 0] = rows[:, 0] + 1
    return {"tokens": tokens, "segment_lengths": lengths}


def write_dataset(directory):
    """Writes the rows as shards of unequal size; returns the manifest."""
    frames = LAYOUT.encode(rows_of_dataset())
    written, start = [], 0
    for index, count in enumerate(SHARD_ROWS):
        name = shard_name("train", index, len(SHARD_ROWS))
        block = frames[start : start + count]
        written.append(write_shard(directory, name, [block[:2], block[2:]]))
        start += count
    return a_manifest(splits={"train": Split(NUM_ROWS, 1, 1, tuple(written))})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("dataset"))
    return directory, write_dataset(directory)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.integers(0, NUM_ROWS - 1), max_size=30))
def test_any_rows_come_in_the_order_asked_for(rows, dataset):
    features = rows_of_dataset()
    shards = Shards(*dataset, "train")
    assert shards.num_rows == NUM_ROWS
    found = shards.read(np.array(rows, np.int64))
    for name, values in features.items():
        np.testing.assert_array_equal(found[name], values[rows])
    assert found["tokens"].dtype == LAYOUT.token_dtype


def test_consecutive_rows_within_a_shard_and_across_shards(dataset):
    tokens = rows_of_dataset()["tokens"]
    shards = Shards(*dataset, "train")
    for start in range(NUM_ROWS):
        for end in range(start, NUM_ROWS + 1):
            found = shards.read(np.arange(start, end))["tokens"]
            np.testing.assert_array_equal(found, tokens[start:end])
    with pytest.raises(IndexError, match="12"):
        shards.read(np.array([NUM_ROWS]))
    with pytest.raises(IndexError):
        shards.read(np.array([-1]))


def test_tensorflow_reads_the_shards(dataset):
    import tensorflow as tf

    directory, manifest = dataset
    names = [shard.name for shard in manifest.splits["train"].shards]
    records = tf.data.TFRecordDataset([os.path.join(directory, name) for name in names])
    tokens = rows_of_dataset()["tokens"]
    feature = tf.io.FixedLenFeature([], tf.string)
    count = 0
    for row, record in enumerate(records):
        example = tf.io.parse_single_example(record, {"tokens": feature})
        found = np.frombuffer(example["tokens"].numpy(), manifest.token_dtype)
        np.testing.assert_array_equal(found, tokens[row])
        count += 1
    assert count == NUM_ROWS


def test_a_damaged_row_is_named_with_its_shard(tmp_path):
    manifest = write_dataset(str(tmp_path))
    path = tmp_path / manifest.splits["train"].shards[3].name
    data = bytearray(path.read_bytes())
    data[LAYOUT.frame_bytes * 2 + 100] ^= 1
    path.write_bytes(data)
    shards = Shards(str(tmp_path), manifest, "train")
    shards.read(np.array([5, 6, 7, 9, 10]))
    with pytest.raises(WorkError, match=f"row 2 of shard {path}"):
        shards.read(np.arange(6, 10))


def test_missing_and_short_shards_are_refused_at_the_start(tmp_path):
    manifest = write_dataset(str(tmp_path))
    last = manifest.splits["train"].shards[3]
    path = tmp_path / last.name
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(UsageError, match=f"{last.name} of {len(data)} bytes"):
        Shards(str(tmp_path), manifest, "train")
    path.unlink()
    with pytest.raises(UsageError, match=f"{last.name} .* missing"):
        Shards(str(tmp_path), manifest, "train")


def test_unknown_splits_and_layouts_are_refused(dataset):
    directory, manifest = dataset
    with pytest.raises(UsageError, match="found train"):
        Shards(directory, manifest, "test")
    with pytest.raises(UsageError, match="record"):
        Shards(directory, dataclasses.replace(manifest, record_bytes=9), "train")


def test_the_bytes_of_a_shard_do_not_depend_on_the_blocks(tmp_path):
    frames = LAYOUT.encode(rows_of_dataset())
    one = write_shard(str(tmp_path), "one", [frames])
    many = write_shard(str(tmp_path), "many", np.array_split(frames, 5))
    assert (one.sha256, one.size, one.rows) == (many.sha256, many.size, many.rows)
    assert storage.file_size(str(tmp_path / "one")) == NUM_ROWS * LAYOUT.frame_bytes
