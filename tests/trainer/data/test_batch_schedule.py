# SPDX-License-Identifier: Apache-2.0
"""The rows of each step while batches grow, and the sums of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation.commands import UsageError
from trainer.data.batch_schedule import BatchSchedule
from trainer.data.input_pipeline import DataConfig

ramps = st.builds(
    lambda initial, times, steps: BatchSchedule(initial * times, initial, steps),
    initial=st.integers(1, 40),
    times=st.integers(2, 30),
    steps=st.integers(1, 200),
)


def test_a_ramp_grows_as_the_docstring_draws_it():
    schedule = BatchSchedule(8, 2, 6)
    sizes = [schedule.size(step) for step in range(9)]
    assert sizes == [2, 2, 4, 4, 6, 6, 8, 8, 8]
    assert [schedule.constant_until(step) for step in (0, 1, 2, 5, 6)] == [
        2,
        2,
        4,
        6,
        None,
    ]
    assert schedule.smallest == 2
    uneven = BatchSchedule(8, 2, 7)
    assert [uneven.size(step) for step in range(8)] == [2, 2, 2, 4, 4, 6, 6, 8]


def test_without_a_ramp_every_step_takes_the_whole_batch():
    schedule = DataConfig(global_batch_size=12).batch_schedule
    assert schedule.size(0) == schedule.size(10**9) == schedule.smallest == 12
    assert schedule.rows_before(10**11) == 12 * 10**11
    assert schedule.constant_until(0) is None


@given(schedule=ramps)
@settings(max_examples=60, deadline=None)
def test_sizes_rise_in_multiples_and_add_up_and_change_where_they_say(schedule):
    steps = range(schedule.ramp_steps + 3)
    sizes = [schedule.size(step) for step in steps]
    assert sizes == sorted(sizes)
    assert sizes[0] % schedule.initial_batch_size == 0
    assert sizes[-4] < sizes[-3] == sizes[-1] == schedule.global_batch_size
    for step in steps:
        assert schedule.rows_before(step) == sum(sizes[:step])
        until = schedule.constant_until(step)
        same = [
            other for other in steps if other >= step and sizes[other] > sizes[step]
        ]
        assert until == (same[0] if same else None)


@pytest.mark.parametrize(
    ("initial", "ramp_steps", "complaint"),
    [
        (3, 10, "divisor of it, found 3 and 8"),
        (8, 10, "below data.global_batch_size"),
        (0, 10, "divisor of it, found 0 and 8"),
        (2, 0, "together, found 2 and 0"),
        (None, 5, "together, found None and 5"),
        (2, -1, "together, found 2 and -1"),
    ],
)
def test_a_ramp_that_cannot_be_is_refused(initial, ramp_steps, complaint):
    with pytest.raises(UsageError, match=complaint):
        DataConfig(
            global_batch_size=8, initial_batch_size=initial, ramp_steps=ramp_steps
        )
