# SPDX-License-Identifier: Apache-2.0
"""Several datasets in one stream: by weight, without drift, entered anywhere."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation.commands import UsageError
from trainer.data.mixed_order import MixedOrder, shares
from trainer.data.row_order import BLOCK_ROWS, RowOrder

datasets = st.lists(
    st.tuples(st.integers(400, 4000), st.floats(0.05, 3.0)), min_size=2, max_size=4
)
seeds = st.integers(0, 2**40)


def order_of(mixture, seed):
    sizes, weights = zip(*mixture, strict=True)
    return MixedOrder(sizes, weights, seed)


@given(size=st.integers(300, 5000), seed=seeds, start=st.integers(0, 20_000))
@settings(max_examples=40, deadline=None)
def test_one_dataset_is_read_as_if_there_were_no_mixture(size, seed, start):
    numbers, rows = MixedOrder([size], [0.3], seed).locate(start, 700)
    assert not numbers.any()
    assert np.array_equal(rows, RowOrder(size, seed).rows(start, 700))


@given(mixture=datasets, seed=seeds, blocks=st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_at_a_blocks_end_each_dataset_is_within_a_row_of_its_share(
    mixture, seed, blocks
):
    numbers, _ = order_of(mixture, seed).locate(0, blocks * BLOCK_ROWS)
    counts = np.bincount(numbers, minlength=len(mixture))
    for count, share in zip(
        counts.tolist(), shares([w for _, w in mixture]), strict=True
    ):
        assert abs(count - blocks * BLOCK_ROWS * share) < 1


@given(
    mixture=datasets,
    seed=seeds,
    start=st.integers(0, 9000),
    cuts=st.lists(st.integers(0, 3000), max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_the_stream_is_the_same_wherever_it_is_entered_and_cut(
    mixture, seed, start, cuts
):
    order = order_of(mixture, seed)
    numbers, rows = order.locate(0, start + 3000)
    edges = [0, *sorted(cuts), 3000]
    parts = [order.locate(start + a, b - a) for a, b in itertools.pairwise(edges)]
    for whole, pieces in zip((numbers, rows), zip(*parts, strict=True), strict=True):
        assert np.array_equal(np.concatenate(pieces), whole[start:])


@given(mixture=datasets, seed=seeds)
@settings(max_examples=40, deadline=None)
def test_each_dataset_is_read_in_an_order_of_its_own_without_gap_or_repeat(
    mixture, seed
):
    numbers, rows = order_of(mixture, seed).locate(0, 5000)
    for number, (size, _) in enumerate(mixture):
        mine = rows[numbers == number]
        epochs = [mine[start : start + size] for start in range(0, len(mine), size)]
        assert np.array_equal(epochs[0], np.arange(len(epochs[0])))
        for epoch in epochs:
            assert len(np.unique(epoch)) == len(epoch)
            assert len(epoch) == size or epoch is epochs[-1]


def test_datasets_of_one_size_are_permuted_apart():
    numbers, rows = MixedOrder([2000, 2000], [1, 1], 5).locate(0, 8 * BLOCK_ROWS)
    second_epochs = [rows[numbers == number][2000:4000] for number in (0, 1)]
    assert np.mean(second_epochs[0] == second_epochs[1]) < 0.02


def test_the_datasets_alternate_all_over_a_block_and_differently_in_the_next():
    numbers, _ = MixedOrder([500, 500], [3, 1], 1).locate(0, 2 * BLOCK_ROWS)
    first, second = numbers.reshape(2, BLOCK_ROWS)
    assert (first != second).any()
    quarters = first.reshape(8, -1).mean(axis=1)
    assert first.mean() == 0.25
    assert quarters.min() > 0.1 and quarters.max() < 0.4


def test_nothing_drifts_after_a_million_million_rows():
    weights = [0.1, 0.2, 0.7]
    order = MixedOrder([10, 10**9, 10**6], weights, 0)
    numbers, rows = order.locate(10**12, 4 * BLOCK_ROWS)
    later, earlier = order.locate(10**12 + 100, 64)
    assert np.array_equal(later, numbers[100:164])
    assert np.array_equal(earlier, rows[100:164])
    assert np.allclose(np.bincount(numbers) / len(numbers), weights, atol=1e-3)


def test_weights_count_as_the_decimals_that_were_written():
    assert shares([0.1, 0.2, 0.7]) == [Fraction(n, 10) for n in (1, 2, 7)]
    assert shares([1, 2, 7]) == shares([0.1, 0.2, 0.7])


def test_the_mixture_is_fixed_forever():
    # A change here changes what every stored run reads after it resumes.
    numbers, rows = MixedOrder([7, 11], [0.6, 0.4], 5).locate(3000, 10)
    assert numbers.tolist() == [1, 0, 1, 0, 1, 1, 1, 0, 0, 0]
    assert rows.tolist() == [3, 3, 0, 0, 7, 9, 8, 1, 2, 5]


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        ([1, 0], "above 0, found 0"),
        ([1, -2], "above 0, found -2"),
        ([1, float("nan")], "above 0, found nan"),
        ([1, float("inf")], "above 0, found inf"),
        ([2000, 1], "1/1024 of their sum or more, found 0.0005"),
    ],
)
def test_weights_that_cannot_be_kept_are_refused(weights, complaint):
    with pytest.raises(UsageError, match=complaint):
        MixedOrder([5, 5], weights, 0)


def test_an_empty_dataset_is_refused():
    with pytest.raises(UsageError, match="found an empty training split"):
        MixedOrder([5, 0], [1, 1], 0)
