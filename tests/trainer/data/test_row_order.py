# SPDX-License-Identifier: Apache-2.0
"""The order of training rows: a bijection per epoch, entered anywhere."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.row_order import BLOCK_ROWS, RowOrder

sizes = st.integers(1, 5 * BLOCK_ROWS)
seeds = st.integers(0, 2**40)


@given(size=sizes, seed=seeds, epoch=st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_every_epoch_visits_every_row_exactly_once(size, seed, epoch):
    rows = RowOrder(size, seed).rows(epoch * size, size)
    assert np.array_equal(np.sort(rows), np.arange(size))


@given(
    size=st.integers(40, 3000),
    seed=seeds,
    start=st.integers(0, 9000),
    cuts=st.lists(st.integers(0, 1500), max_size=5),
)
@settings(max_examples=40, deadline=None)
def test_any_split_of_the_stream_gives_the_same_continuation(size, seed, start, cuts):
    order = RowOrder(size, seed)
    whole = order.rows(start, 1500)
    edges = [0, *sorted(cuts), 1500]
    parts = [
        order.rows(start + first, last - first)
        for first, last in itertools.pairwise(edges)
    ]
    assert np.array_equal(whole, np.concatenate(parts))


@given(size=st.integers(8, 3000), seed=seeds, batches=st.integers(1, 40))
@settings(max_examples=30, deadline=None)
def test_replicas_together_read_what_one_would(size, seed, batches):
    order = RowOrder(size, seed)
    for replicas in (1, 2, 4):
        share = 8 // replicas
        shards = [
            np.concatenate(
                [order.rows(b * 8 + r * share, share) for b in range(batches)]
            ).reshape(batches, share)
            for r in range(replicas)
        ]
        together = np.concatenate(shards, axis=1).ravel()
        assert np.array_equal(together, order.rows(0, 8 * batches))


def test_the_first_epoch_is_file_order():
    assert np.array_equal(RowOrder(3000, 7).rows(0, 3000), np.arange(3000))


def test_later_epochs_keep_blocks_together_and_the_short_one_anywhere():
    size = 4 * BLOCK_ROWS + 100
    short_places = set()
    for epoch in range(1, 12):
        blocks = RowOrder(size, 3).rows(epoch * size, size) // BLOCK_ROWS
        changes = np.flatnonzero(np.diff(blocks))
        assert len(changes) == 4
        short_places.add(int(np.flatnonzero(blocks == 4)[0]))
    assert len(short_places) > 2


@pytest.mark.parametrize("size", [500, 1024, 5000, 40_000])
def test_epochs_and_seeds_differ_and_look_shuffled(size):
    first = RowOrder(size, 1).rows(size, size)
    other_epoch = RowOrder(size, 1).rows(2 * size, size)
    other_seed = RowOrder(size, 2).rows(size, size)
    for a, b in ((first, other_epoch), (first, other_seed), (first, np.arange(size))):
        assert np.mean(a == b) < 0.02
    within = first[:BLOCK_ROWS].astype(float)
    assert abs(np.corrcoef(within, np.arange(len(within)))[0, 1]) < 0.15


def test_the_order_is_fixed_forever():
    # A change here changes what every stored run reads after it resumes.
    assert RowOrder(11, 5).rows(11, 11).tolist() == [3, 7, 2, 10, 4, 8, 0, 5, 6, 9, 1]
    assert RowOrder(10_000, 5).rows(25_000, 6).tolist() == [
        5231,
        5386,
        5744,
        5604,
        5466,
        5382,
    ]


def test_a_position_in_a_far_epoch_is_entered_at_once():
    rows = RowOrder(10**9, 0).rows(123 * 10**9 + 77, 64)
    assert len(set(rows.tolist())) == 64


def test_an_empty_order_is_refused():
    with pytest.raises(ValueError, match="at least one row"):
        RowOrder(0, 1)
