# SPDX-License-Identifier: Apache-2.0
"""Positions that remain when ranges are left out, taken in any pieces."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.omitted_rows import runs, take

edges = st.lists(st.integers(0, 300), max_size=8, unique=True).map(sorted)
omitted_ranges = edges.map(lambda e: list(zip(e[::2], e[1::2], strict=False)))


def test_batches_skip_a_range_as_the_docstring_draws_it():
    omitted = [(3, 5)]
    ends, start = [], 0
    for wanted in ([0, 1], [2, 5], [6, 7]):
        positions, start = take(start, 2, omitted)
        assert positions.tolist() == wanted
        ends.append(start)
    assert ends == [2, 6, 8]


@given(
    omitted=omitted_ranges,
    start=st.integers(0, 320),
    counts=st.lists(st.integers(0, 60), min_size=1, max_size=6),
)
@settings(max_examples=150, deadline=None)
def test_what_is_taken_is_the_stream_with_the_ranges_removed(omitted, start, counts):
    left_out = {place for first, end in omitted for place in range(first, end)}
    remain = [place for place in range(start, 1000) if place not in left_out]
    at, pieces = start, []
    for count in counts:
        positions, at = take(at, count, omitted)
        assert len(positions) == count
        pieces += positions.tolist()
    assert pieces == remain[: sum(counts)]
    assert at == (pieces[-1] + 1 if pieces else start)


def test_a_range_far_into_the_stream_costs_nothing_to_pass():
    omitted = [(10**12, 10**15), (10**15 + 1, 10**18)]
    positions, end = take(10**12 - 1, 3, omitted)
    assert positions.tolist() == [10**12 - 1, 10**15, 10**18]
    assert end == 10**18 + 1


@given(omitted=omitted_ranges, count=st.integers(0, 400))
@settings(max_examples=50, deadline=None)
def test_runs_are_the_positions_in_as_few_pieces_as_can_be(omitted, count):
    positions, _ = take(0, count, omitted)
    found = runs(positions)
    listed = [np.arange(first, first + n) for first, n in found]
    assert np.array_equal(np.concatenate([[], *listed]), positions)
    assert len(found) <= len(omitted) + 1
