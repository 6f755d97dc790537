# SPDX-License-Identifier: Apache-2.0
"""Rows on their way to the step: cutting, batching, continuing, sharing."""

import dataclasses
import itertools
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.commands import UsageError, WorkError
from trainer.input_pipeline import DataConfig, SubRows, TrainingRows, cut_rows


def targets_of(features):
    """Returns the (token before, token) pairs that are trained on, row by row."""
    pairs = []
    lengths_of = features["segment_lengths"]
    for row, lengths in zip(features["tokens"], lengths_of, strict=True):
        start = 0
        for length in lengths:
            segment = row[start : start + length].tolist()
            pairs += list(itertools.pairwise(segment))
            start += length
    return pairs


def test_a_row_is_cut_as_the_docstring_draws_it():
    row = {
        "tokens": np.array([[1, 2, 3, 4, 11, 12, 13]]),
        "segment_lengths": np.array([[4, 3, 0]]),
        "sources": np.array([[7, 9, 0]]),
    }
    for start, tokens, lengths, sources in (
        (0, [1, 2, 3, 4], [4, 0, 0], [7]),
        (3, [4, 11, 12, 13], [1, 3, 0], [7, 9]),
    ):
        cut = cut_rows(row, np.array([start]), 3)
        assert cut["tokens"].tolist() == [tokens]
        assert cut["segment_lengths"].tolist() == [lengths]
        assert cut["sources"][0, : len(sources)].tolist() == sources


@given(
    lengths=st.lists(st.integers(1, 9), max_size=12),
    divisor=st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24]),
)
@settings(max_examples=80, deadline=None)
def test_cutting_keeps_every_target_exactly_once(lengths, divisor):
    stored = 24
    kept = []
    for length in lengths:
        if sum(kept) + length <= stored + 1:
            kept.append(length)
    segment_lengths = np.zeros((1, 64), np.int64)
    segment_lengths[0, : len(kept)] = kept
    tokens = np.arange(100, 100 + stored + 1)[None]
    row = {"tokens": tokens, "segment_lengths": segment_lengths}
    pieces = []
    for start in range(0, stored, divisor):
        pieces += targets_of(cut_rows(row, np.array([start]), divisor))
    assert pieces == targets_of(row)


def test_a_dataset_read_in_quarters_trains_on_the_same_pairs(dataset, manifest):
    whole = SubRows(str(dataset), manifest, "train", 64)
    quarters = SubRows(str(dataset), manifest, "train", 16)
    assert quarters.num_rows == 4 * whole.num_rows
    assert targets_of(quarters.read(np.arange(quarters.num_rows))) == targets_of(
        whole.read(np.arange(whole.num_rows))
    )


def training_rows(dataset, manifest, worker=0, num_workers=1):
    rows = SubRows(str(dataset), manifest, "train", 32)
    return TrainingRows(rows, 8, seed=3, worker=worker, num_workers=num_workers)


def test_the_stream_goes_on_the_same_from_any_step(dataset, manifest):
    rows = training_rows(dataset, manifest)
    whole = next(rows.blocks(0, [60])).features["tokens"]
    assert len(np.unique(whole.reshape(-1, 33), axis=0)) > 100
    for step in (1, 7, 30, 59):
        blocks = list(rows.blocks(step * 8, [1] * (60 - step)))
        tokens = [block.features["tokens"] for block in blocks]
        assert np.array_equal(np.concatenate(tokens), whole[step:])
        assert blocks[0].first_row == step * 8
        assert blocks[-1].end_row == 60 * 8


def test_blocks_come_in_the_sizes_asked_for_and_time_the_wait(dataset, manifest):
    blocks = list(training_rows(dataset, manifest).blocks(0, [3, 1, 5]))
    assert [block.num_steps for block in blocks] == [3, 1, 5]
    assert [block.first_row for block in blocks] == [0, 24, 32]
    assert [block.num_rows for block in blocks] == [24, 8, 40]
    assert all(block.wait_seconds >= 0 for block in blocks)
    assert blocks[0].wait_seconds > 0


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_together_read_what_one_reads(dataset, manifest, workers):
    one = next(training_rows(dataset, manifest).blocks(16, [20]))
    shares = [
        next(training_rows(dataset, manifest, worker, workers).blocks(16, [20]))
        for worker in range(workers)
    ]
    together = np.concatenate([share.features["tokens"] for share in shares], axis=1)
    assert np.array_equal(together, one.features["tokens"])
    assert {share.first_row for share in shares} == {16}


def test_a_length_that_does_not_divide_is_refused(dataset, manifest):
    with pytest.raises(UsageError, match=r"divides the dataset's 64, found 48"):
        SubRows(str(dataset), manifest, "train", 48)


def test_rows_of_another_objective_are_not_cut(dataset, manifest):
    spans = dataclasses.replace(manifest, objective="span_corruption")
    with pytest.raises(UsageError, match="Only causal rows can be cut"):
        SubRows(str(dataset), spans, "train", 32)


def test_sizes_below_one_are_refused():
    with pytest.raises(UsageError, match="global_batch_size of 1 or more"):
        DataConfig(global_batch_size=0)


def test_a_corrupted_row_is_an_error_in_the_thread_that_asked(
    dataset, manifest, tmp_path
):
    copy = tmp_path / "dataset"
    shutil.copytree(dataset, copy)
    shard = copy / manifest.splits["train"].shards[1].name
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 0x10
    shard.write_bytes(bytes(data))
    rows = training_rows(copy, manifest)
    with pytest.raises(WorkError, match=shard.name):
        list(rows.blocks(0, [20, 20, 20]))


def test_a_truncated_shard_is_refused_before_anything_is_read(
    dataset, manifest, tmp_path
):
    copy = tmp_path / "dataset"
    shutil.copytree(dataset, copy)
    shard = copy / manifest.splits["train"].shards[0].name
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(UsageError, match=shard.name):
        training_rows(copy, manifest)
