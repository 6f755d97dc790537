# SPDX-License-Identifier: Apache-2.0
"""Learning rates: their values, and that no schedule jumps."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.foundation.commands import UsageError
from trainer.optimizers.schedules import SCHEDULES, decay_start, learning_rate


def rate(
    step: int | np.ndarray,
    schedule: str,
    warmup_steps: int = 4,
    total_steps: int = 12,
    decay_steps: int | None = None,
) -> np.ndarray:
    value = learning_rate(
        tf.constant(step, tf.int64),
        peak=0.8,
        warmup_steps=warmup_steps,
        schedule=schedule,
        final_fraction=0.25,
        decay_steps=decay_steps,
        total_steps=total_steps,
    )
    assert value.dtype == tf.float32
    return value.numpy()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_climbs_in_equal_steps_to_the_peak(schedule: str) -> None:
    found = [rate(step, schedule) for step in range(4)]
    assert found == pytest.approx([0.2, 0.4, 0.6, 0.8])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_warm_up_the_first_step_is_at_the_peak(schedule: str) -> None:
    assert rate(0, schedule, warmup_steps=0) == pytest.approx(0.8)


def test_constant_stays_at_the_peak() -> None:
    assert [rate(step, "constant") for step in (4, 11, 500)] == pytest.approx([0.8] * 3)


def test_cosine_falls_from_the_peak_to_its_final_fraction_and_stays() -> None:
    quarter = 0.8 * (0.25 + 0.75 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert rate(4, "cosine") == pytest.approx(0.8)
    assert rate(6, "cosine") == pytest.approx(quarter)
    assert rate(8, "cosine") == pytest.approx(0.8 * (0.25 + 0.75 / 2))
    assert [rate(s, "cosine") for s in (12, 99)] == pytest.approx([0.2, 0.2])


def test_linear_falls_in_equal_steps_to_its_final_fraction_and_stays() -> None:
    found = [rate(step, "linear") for step in (4, 6, 8, 10, 12, 99)]
    assert found == pytest.approx([0.8, 0.65, 0.5, 0.35, 0.2, 0.2])


def test_inverse_sqrt_halves_when_the_step_is_four_times_as_far() -> None:
    found = [rate(step - 1, "inverse_sqrt") for step in (4, 16, 64)]
    assert found == pytest.approx([0.8, 0.4, 0.2])


def test_wsd_keeps_the_peak_and_falls_in_the_last_steps_alone() -> None:
    found = [rate(step, "wsd", decay_steps=4) for step in (5, 8, 10, 12, 99)]
    assert found == pytest.approx([0.8, 0.8, 0.5, 0.2, 0.2])
    later = rate(180, "wsd", total_steps=200), rate(190, "wsd", total_steps=200)
    assert later == pytest.approx((0.8, 0.5))  # a tenth of the run without decay_steps


@given(
    st.sampled_from(SCHEDULES),
    st.integers(0, 60),
    st.integers(1, 200),
    st.one_of(st.none(), st.integers(1, 60)),
)
def test_no_schedule_jumps_leaves_its_bounds_or_rises_after_the_warm_up(
    schedule: str, warmup: int, stable: int, decay: int | None
) -> None:
    total = warmup + stable + (decay or 0)
    rates = rate(np.arange(total + 50), schedule, warmup, total, decay)
    begins = total - warmup if schedule != "wsd" else 0
    if schedule == "wsd":
        begins = total - decay_start(total, warmup, decay)
    # The steepest point of half a cosine is pi / 2 times the line through its ends.
    fall = 0.8 * math.pi / 2 / max(begins, 1)
    if schedule == "inverse_sqrt":
        fall = 0.8 * (1 - math.sqrt(max(warmup, 1) / (max(warmup, 1) + 1)))
    steepest = max(fall, 0.8 / max(warmup, 1) if warmup else 0.0)
    assert np.abs(np.diff(rates)).max() <= steepest + 1e-6
    assert rates.max() <= 0.8 + 1e-6 and rates.min() > 0.0
    after = rates[max(warmup - 1, 0) :]
    assert after[0] == pytest.approx(0.8) and (np.diff(after) <= 1e-6).all()


def test_a_decay_that_does_not_fit_into_the_run_is_refused() -> None:
    assert decay_start(12, 4, 8) == 4
    assert decay_start(60, 59, None) == 59  # not in a tenth that the warm-up takes
    with pytest.raises(UsageError, match=r"found 4 \+ 9 > 12"):
        decay_start(12, 4, 9)
