# SPDX-License-Identifier: Apache-2.0
"""The rule for speed bars: medians of quotients, and what decides nothing says so."""

import itertools

import pytest

from tests.benchmarks.turns import LEAST_TURNS, MOST_TURNS, Comparison, in_turns, spread


def test_a_machine_that_slows_both_sides_alike_changes_no_quotient():
    swings = [1.0, 0.5, 0.7, 1.3, 0.6, 0.9, 1.1, 0.5, 1.2]
    found = Comparison([120 * s for s in swings], [100 * s for s in swings])
    assert found.quartiles == pytest.approx((1.2, 1.2, 1.2))
    assert found.decided
    assert str(found) == "1.20 times (quartiles 1.20 and 1.20, 9 turns)"


@pytest.mark.parametrize(
    ("quotients", "decided"),
    [
        ([1.0, 1.1, 1.2, 1.3, 1.4], True),  # apart by 0.2, the median claims 0.2
        ([1.0, 1.05, 1.15, 1.3, 1.4], False),
        ([0.5, 0.6, 0.7, 0.8, 0.9], True),
        ([0.7, 0.8, 1.0, 1.2, 1.3], False),
    ],
)
def test_quartiles_further_apart_than_the_margin_decide_nothing(quotients, decided):
    found = Comparison(quotients, [1.0] * len(quotients))
    assert found.decided == decided
    assert str(found).endswith("not decided here") == (not decided)


def test_turns_alternate_and_end_at_nine_where_these_decide():
    order = []
    found = in_turns(lambda: order.append("A") or 3.0, lambda: order.append("B") or 2.0)
    assert order == ["A", "B"] * LEAST_TURNS
    assert found.quartiles == (1.5, 1.5, 1.5)


def test_turns_are_added_until_they_decide_or_are_too_many():
    noise = itertools.cycle([0.5, 2.0])
    found = in_turns(lambda: next(noise), lambda: 1.0)
    assert len(found.ours) == MOST_TURNS and not found.decided
    calming = itertools.chain([0.5, 2.0] * 4, itertools.repeat(1.5))
    found = in_turns(lambda: next(calming), lambda: 1.0)
    assert LEAST_TURNS < len(found.ours) < MOST_TURNS and found.decided


def test_time_that_is_over_ends_turns_after_a_whole_one():
    order = []
    found = in_turns(
        lambda: order.append("A") or 3.0,
        lambda: order.append("B") or 2.0,
        late=lambda: len(order) >= 3,
    )
    assert order == ["A", "B"] * 2 and len(found.ours) == 2


def test_a_figure_alone_is_told_with_its_quartiles():
    assert spread([1000.0, 1200.0, 1400.0]) == "1,200 (1,100 to 1,300)"
    assert spread([1.0, 2.0], ".1f") == "1.5 (1.2 to 1.8)"
