# SPDX-License-Identifier: Apache-2.0
"""Rows on their way to the step: cut, or refused."""

import dataclasses
import itertools
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation.commands import UsageError
from trainer.data.input_pipeline import DataConfig, SubRows, cut_rows, segments_inside


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


@given(
    lengths=st.lists(st.integers(1, 9), max_size=12),
    start=st.integers(0, 20),
    length=st.integers(1, 8),
)
@settings(max_examples=80, deadline=None)
def test_segments_inside_a_window_are_those_it_has_ids_of(lengths, start, length):
    owners = np.repeat(np.arange(len(lengths)), lengths)
    padded = np.array([*lengths, 0, 0], np.int64)
    found = segments_inside(padded, start, length)
    assert list(found) == np.unique(owners[start : start + length + 1]).tolist()


def test_a_dataset_read_in_quarters_trains_on_the_same_pairs(dataset, manifest):
    whole = SubRows(str(dataset), manifest, "train", 64)
    quarters = SubRows(str(dataset), manifest, "train", 16)
    assert quarters.num_rows == 4 * whole.num_rows
    assert targets_of(quarters.read(np.arange(quarters.num_rows))) == targets_of(
        whole.read(np.arange(whole.num_rows))
    )


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


def test_a_truncated_shard_is_refused_before_anything_is_read(
    dataset, manifest, tmp_path
):
    copy = tmp_path / "dataset"
    shutil.copytree(dataset, copy)
    shard = copy / manifest.splits["train"].shards[0].name
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(UsageError, match=shard.name):
        SubRows(str(copy), manifest, "train", 32)
