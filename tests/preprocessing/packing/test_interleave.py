# SPDX-License-Identifier: Apache-2.0
"""A mixture's counts are exact, and its order keeps every source near its share."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from preprocessing.foundation.commands import WorkError
from preprocessing.packing.interleave import draw, drawn_before, training_rows
from preprocessing.packing.mixture import MixtureConfig, MixtureSource

COUNTS = st.lists(st.integers(0, 60), min_size=1, max_size=9).filter(any)


def mixture(weights, epochs=None, rows=None, temperature=None):
    epochs = epochs or [1] * len(weights)
    return MixtureConfig(
        tuple(
            MixtureSource(f"s{number}", weight, most)
            for number, (weight, most) in enumerate(zip(weights, epochs, strict=True))
        ),
        temperature=temperature,
        rows=rows,
    )


def whole_order(counts):
    counts = np.array(counts, np.int64)
    return draw(counts, np.zeros_like(counts), int(counts.sum()))


@settings(deadline=None)  # the first draw compiles
@given(COUNTS)
def test_the_order_holds_exactly_the_rows_asked_of_each_source(counts):
    order = whole_order(counts)
    assert np.bincount(order, minlength=len(counts)).tolist() == counts


@settings(deadline=None)
@given(COUNTS)
def test_no_prefix_is_far_from_any_sources_share(counts):
    """Never a row ahead; behind by less than 1/2 + ... + 1/S, one row at S = 3."""
    order, total, sources = whole_order(counts), sum(counts), len(counts)
    ahead = 1 - Fraction(1, sources)
    behind = sum((Fraction(1, n) for n in range(2, sources + 1)), Fraction(0))
    drawn = [0] * sources
    for place, source in enumerate(order.tolist(), 1):
        drawn[source] += 1
        for count, taken in zip(counts, drawn, strict=True):
            lag = Fraction(count * place, total) - taken
            assert -ahead <= lag <= behind


@settings(deadline=None)
@given(COUNTS, st.data())
def test_any_range_is_the_slice_of_the_whole_order(counts, data):
    order = whole_order(counts)
    start = data.draw(st.integers(0, len(order)))
    end = data.draw(st.integers(start, len(order)))
    counts = np.array(counts, np.int64)
    before, after = drawn_before(counts, [start, end])
    assert np.array_equal(draw(counts, before, end - start), order[start:end])
    assert np.array_equal(after, np.bincount(order[:end], minlength=len(counts)))


def test_three_to_one_is_interleaved_evenly():
    assert whole_order([6, 2]).tolist() == [0, 0, 1, 0, 0, 0, 1, 0]


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.integers(1, 500), st.floats(0.01, 100), st.integers(1, 4)),
        min_size=1,
        max_size=6,
    )
)
def test_the_total_is_the_largest_that_no_source_runs_out_at(sources):
    rows, weights, epochs = map(list, zip(*sources, strict=True))
    config = mixture(weights, epochs)
    counts = training_rows(config, rows)
    total, exact = sum(counts), config.weights(rows)
    whole = sum(exact)
    most = [n * times for n, times in zip(rows, epochs, strict=True)]
    for count, weight, bound in zip(counts, exact, most, strict=True):
        assert abs(count - total * weight / whole) < 1
        assert count <= bound
    larger = [(total + 1) * weight / whole for weight in exact]
    assert any(share > bound for share, bound in zip(larger, most, strict=True))


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), st.integers(1, 1000))
def test_a_total_that_is_asked_for_is_met_to_the_row(weights, total):
    rows = [10**7] * len(weights)
    assert sum(training_rows(mixture(weights, rows=total), rows)) == total


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=6))
def test_temperature_one_uses_every_row_once(rows):
    config = mixture([None] * len(rows), temperature=1.0)
    assert training_rows(config, rows) == rows


@given(st.lists(st.integers(1, 10**6), min_size=2, max_size=6))
def test_a_higher_temperature_gives_the_smallest_source_no_smaller_share(rows):
    assume(len(set(rows)) > 1)
    shares = []
    for temperature in (1.0, 2.0, 8.0):
        weights = mixture([None] * len(rows), temperature=temperature).weights(rows)
        shares.append(min(weights) / sum(weights))
    assert shares == sorted(shares)


def test_seven_to_three_of_a_hundred_rows_each_ends_where_the_larger_does():
    assert training_rows(mixture([0.7, 0.3]), [100, 100]) == [99, 43]
    assert training_rows(mixture([0.7, 0.3], [2, 1]), [100, 100]) == [200, 85]


def test_too_many_rows_are_refused_by_the_source_that_lacks_them():
    with pytest.raises(WorkError, match=r"s1 has enough for 33 \(its rows 10 x 1 ep"):
        training_rows(mixture([0.7, 0.3], rows=40), [1000, 10])


def test_a_source_without_rows_is_refused():
    with pytest.raises(WorkError, match="rows of every source of the mixture, s1 has"):
        training_rows(mixture([1, 1]), [5, 0])
