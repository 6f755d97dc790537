# SPDX-License-Identifier: Apache-2.0
"""Packed rows become inputs and targets."""

from itertools import pairwise

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.batch import unpack_rows


def test_a_packed_row_is_shifted_by_one_and_nothing_crosses_a_segment() -> None:
    batch = unpack_rows(
        {
            "tokens": tf.constant([[10, 11, 12, 20, 21, 22, 0, 0]]),
            "segment_lengths": tf.constant([[3, 3, 0]]),
        }
    )
    assert batch.inputs.numpy().tolist() == [[10, 11, 12, 20, 21, 22, 0]]
    assert batch.targets.numpy().tolist() == [[11, 12, 20, 21, 22, 0, 0]]
    assert batch.weights.numpy().tolist() == [[1, 1, 0, 1, 1, 0, 0]]
    assert batch.segment_ids.numpy().tolist() == [[1, 1, 1, 2, 2, 2, 0]]
    assert batch.positions.numpy().tolist() == [[0, 1, 2, 0, 1, 2, 0]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(1, 5), max_size=4), min_size=1, max_size=3))
def test_every_token_but_a_segments_first_is_a_target_once(
    rows: list[list[int]],
) -> None:
    lengths = np.zeros([len(rows), 5], np.int32)
    for row, segments in zip(lengths, rows, strict=True):
        row[: len(segments)] = segments
    tokens = np.arange(len(rows) * 21, dtype=np.int32).reshape(-1, 21)
    batch = unpack_rows(
        {"tokens": tf.constant(tokens), "segment_lengths": tf.constant(lengths)}
    )
    for index, segments in enumerate(rows):
        pairs, start = [], 0
        for size in segments:
            ids = tokens[index, start : start + size]
            pairs += list(pairwise(ids))
            start += size
        counted = batch.weights[index].numpy() == 1
        inputs = batch.inputs[index].numpy()[counted]
        targets = batch.targets[index].numpy()[counted]
        assert list(zip(inputs, targets, strict=True)) == pairs
        real = [(n, p) for n, size in enumerate(segments, 1) for p in range(size)]
        real = (real + [(0, 0)] * 20)[:20]
        found = zip(batch.segment_ids[index], batch.positions[index], strict=True)
        assert [(int(n), int(p)) for n, p in found] == real
