# SPDX-License-Identifier: Apache-2.0
"""Rows of two sides hold every example whole, the same segment on both."""

import functools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.contracts.records import RecordFormat
from preprocessing.contracts.row_segments import row_segments
from preprocessing.packing.packing import best_fit, pack
from preprocessing.packing.pair_packing import pack_pairs


def row_of(block, row):
    return {name: values[row] for name, values in block.features.items()}


def every_segment(blocks):
    """Yields (example, inputs, targets) of each segment as rows hold it."""
    for block in blocks:
        place = 0
        for row in range(block.rows):
            for segment in row_segments(row_of(block, row)):
                example = int(block.document[place])
                assert int(block.row[place]) == row
                assert int(block.length[place]) == len(segment.ids)
                yield example, segment.inputs, segment.targets
                place += 1
        assert place == len(block.row)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 16), st.integers(1, 9)), max_size=200),
    window=st.integers(1, 64),
    seed=st.integers(0, 3),
)
def test_every_pair_is_in_exactly_one_row_and_whole(sizes, window, seed):
    layout = RecordFormat(16, 1 << 20, target_length=9)
    prefix = np.array([size[0] for size in sizes], np.int64)
    lengths = prefix + np.array([size[1] for size in sizes], np.int64)
    ids = np.arange(lengths.sum())
    blocks = list(
        pack_pairs(
            ids,
            lengths,
            prefix,
            layout,
            seed,
            pad_id=3,
            window=window,
            block_tokens=100,
        )
    )
    begins = np.cumsum(lengths) - lengths
    seen = []
    for example, inputs, targets in every_segment(blocks):
        begin = begins[example]
        both = np.concatenate([inputs, targets])
        np.testing.assert_array_equal(both, ids[begin : begin + lengths[example]])
        assert len(inputs) == prefix[example]
        seen.append(example)
    assert sorted(seen) == list(range(len(sizes)))
    for block in blocks:
        frames = layout.encode(block.features)
        for name, values in layout.decode(frames).items():
            np.testing.assert_array_equal(values, block.features[name])


def test_pairs_fill_their_rows():
    layout = RecordFormat(512, 600, target_length=114)
    rng = np.random.default_rng(0)
    prefix, targets = rng.integers(5, 400, 5000), rng.integers(2, 60, 5000)
    ids = np.zeros(int((prefix + targets).sum()), np.int64)
    blocks = pack_pairs(ids, prefix + targets, prefix, layout, 0, 0)
    rows = sum(block.rows for block in blocks)
    assert prefix.sum() / (rows * 512) > 0.97


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 9)).filter(any), max_size=120
    ),
    kind=st.sampled_from(["prefix", "loss_mask"]),
    window=st.integers(1, 64),
)
def test_a_row_of_one_sequence_says_which_ids_are_targets(sizes, kind, window):
    layout = RecordFormat(16, 1 << 20, **{kind: True})  # rows of 2^4 + 1 ids
    prefix = np.array([size[0] for size in sizes], np.int64)
    lengths = prefix + np.array([size[1] for size in sizes], np.int64)
    ids = np.arange(lengths.sum())
    begins = np.cumsum(lengths) - lengths
    planner = functools.partial(best_fit, window=window)
    blocks = list(pack(ids, lengths, layout, planner, 0, 0, prefix))
    seen = []
    for example, inputs, targets in every_segment(blocks):
        begin = begins[example]
        both = np.concatenate([inputs, targets])
        np.testing.assert_array_equal(both, ids[begin : begin + lengths[example]])
        first = prefix[example]
        if kind == "loss_mask":
            # The first id follows nothing, so it is no target whatever the prefix.
            first = min(max(first, 1), lengths[example])
        assert len(inputs) == first
        seen.append(example)
    assert sorted(seen) == list(range(len(sizes)))


def test_sources_name_the_part_of_the_mixture_of_each_segment():
    layout = RecordFormat(16, 600, sources=True)
    (block,) = pack(
        np.arange(40), np.array([10, 20, 4, 6]), layout, best_fit, 0, 0, source=7
    )
    lengths, sources = block.features["segment_lengths"], block.features["sources"]
    np.testing.assert_array_equal(sources, np.where(lengths > 0, 7, 0))
    both = RecordFormat(16, 600, target_length=9, sources=True)
    sizes, prefix = np.array([9, 14]), np.array([4, 8])
    (block,) = pack_pairs(np.arange(23), sizes, prefix, both, 0, 0, source=7)
    assert [segment.source for segment in row_segments(row_of(block, 0))] == [7]
