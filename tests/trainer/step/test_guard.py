# SPDX-License-Identifier: Apache-2.0
"""Which updates are skipped: infinities, spikes, overflows, and nothing else."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation.commands import UsageError
from trainer.step.guard import (
    NO_TARGETS,
    NOT_FINITE,
    OVERFLOW,
    SPIKE,
    GradientGuard,
    GuardConfig,
    faults,
    next_scale,
)


def judged(guard: GradientGuard, norms: list[float]) -> list[int]:
    """Returns the codes of steps with these gradient norms, one after another."""
    strategy = tf.distribute.get_strategy()
    codes = []
    for norm in norms:
        verdict = guard.judge(
            tf.constant(1.0),
            tf.constant(8.0),
            tf.constant(norm, tf.float32),
            guard.remembered(),
        )
        assert bool(verdict.accepted) == (float(verdict.code) == 0.0)
        guard.update(strategy, verdict)
        codes.append(int(verdict.code))
    return codes


def noise(count: int, seed: int = 0) -> list[float]:
    return (1.0 + 0.1 * np.random.default_rng(seed).standard_normal(count)).tolist()


def test_a_norm_beyond_six_sigma_of_128_steps_is_a_spike() -> None:
    norms = noise(128)
    mean, sigma = np.mean(norms), np.std(norms, ddof=1)
    limit = max(mean + 6 * sigma, 2 * mean)
    for norm, code in ((limit * 1.001, SPIKE), (limit * 0.999, 0)):
        guard = GradientGuard(GuardConfig(), "float32")
        assert judged(guard, norms) == [0] * 128
        assert judged(guard, [norm]) == [code]


@pytest.mark.parametrize("count", [4, 8, 11])
def test_six_sigma_are_those_of_the_window_as_a_sample(count: int) -> None:
    norms = [float(number) for number in range(1, count + 1)]
    seen = norms[-8:]
    limit = np.mean(seen) + 6 * np.std(seen, ddof=1)
    assert limit > 2 * np.mean(seen)
    for norm, code in ((limit * 1.001, SPIKE), (limit * 0.999, 0)):
        guard = GradientGuard(GuardConfig(window=8), "float32")
        assert judged(guard, [*norms, norm]) == [0] * count + [code]


def test_half_a_window_of_an_odd_size_is_rounded_up() -> None:
    for count, code in ((2, 0), (3, SPIKE)):
        guard = GradientGuard(GuardConfig(window=5), "float32")
        assert judged(guard, [*[1.0] * count, 50.0])[-1] == code


def test_nothing_is_a_spike_before_half_a_window_is_full() -> None:
    guard = GradientGuard(GuardConfig(), "float32")
    assert judged(guard, [*noise(63), 50.0]) == [0] * 64
    guard = GradientGuard(GuardConfig(), "float32")
    assert judged(guard, [*noise(64), 50.0]) == [0] * 64 + [SPIKE]


def test_a_lasting_change_of_scale_is_accepted_in_time() -> None:
    codes = judged(GradientGuard(GuardConfig(), "float32"), [*noise(128), *[5.0] * 40])
    assert codes[128] == SPIKE and codes[-1] == 0
    assert set(codes[128:]) == {SPIKE, 0}


def test_what_is_not_finite_is_skipped_and_not_remembered() -> None:
    guard = GradientGuard(GuardConfig(), "float32")
    codes = judged(guard, [1.0, float("nan"), float("inf"), 2.0])
    assert codes == [0, NOT_FINITE, NOT_FINITE, 0]
    assert int(guard.seen) == 2
    assert guard.norms.numpy()[:3].tolist() == [1.0, 2.0, 0.0]


def test_a_loss_that_is_not_finite_is_skipped_whatever_its_gradient() -> None:
    guard = GradientGuard(GuardConfig(), "float32")
    for loss in (float("inf"), float("nan")):
        numbers = [tf.constant(loss), tf.constant(8.0), tf.constant(1.0)]
        verdict = guard.judge(*numbers, guard.remembered())
        assert int(verdict.code) == NOT_FINITE and not bool(verdict.accepted)


def test_a_step_that_is_not_finite_blinds_the_next_to_no_spike() -> None:
    guard = GradientGuard(GuardConfig(window=8), "float32")
    norms = [*noise(8), float("nan"), 50.0]
    assert judged(guard, norms) == [0] * 8 + [NOT_FINITE, SPIKE]


def test_an_overflow_is_the_scale_s_until_that_is_one() -> None:
    guard = GradientGuard(GuardConfig(), "float16")
    guard.loss_scale.assign(2.0)
    assert judged(guard, [float("inf")] * 2) == [OVERFLOW, NOT_FINITE]


def test_sigmas_of_zero_accept_every_finite_norm() -> None:
    guard = GradientGuard(GuardConfig(spike_sigmas=0.0), "float32")
    assert judged(guard, [*noise(128), 1e9]) == [0] * 129


def test_a_step_without_targets_is_no_fault() -> None:
    guard = GradientGuard(GuardConfig(), "float32")
    verdict = guard.judge(*[tf.constant(0.0)] * 3, guard.remembered())
    assert int(verdict.code) == NO_TARGETS
    assert faults([0, NO_TARGETS, NOT_FINITE, OVERFLOW, SPIKE]) == [2, 4]


def test_float16_halves_its_scale_after_an_overflow_and_blames_no_row() -> None:
    guard = GradientGuard(GuardConfig(), "float16")
    assert judged(guard, [1.0, float("inf"), 1.0]) == [0, OVERFLOW, 0]
    assert float(guard.loss_scale) == 2.0**14
    guard.loss_scale.assign(1.0)
    assert judged(guard, [float("inf")]) == [NOT_FINITE]


@given(st.lists(st.booleans(), max_size=30), st.integers(0, 1999))
@settings(max_examples=30, deadline=None)
def test_the_loss_scale_stays_a_power_of_two_within_its_bounds(
    overflows: list[bool], good: int
) -> None:
    scale, count = tf.constant(2.0**23), tf.constant(good, tf.int64)
    for overflowed in overflows:
        scale, count = next_scale(scale, count, tf.constant(overflowed))
        assert 1.0 <= float(scale) <= 2.0**24
        assert np.log2(float(scale)).is_integer()
        assert 0 <= int(count) < 2000


def test_the_loss_scale_doubles_after_2000_good_steps() -> None:
    scale, count = tf.constant(8.0), tf.constant(1998, tf.int64)
    scale, count = next_scale(scale, count, tf.constant(False))
    assert (float(scale), int(count)) == (8.0, 1999)
    scale, count = next_scale(scale, count, tf.constant(False))
    assert (float(scale), int(count)) == (16.0, 0)
    scale, count = next_scale(scale, count + 7, tf.constant(True))
    assert (float(scale), int(count)) == (8.0, 0)
    largest, last = tf.constant(2.0**24), tf.constant(1999, tf.int64)
    assert float(next_scale(largest, last, tf.constant(False))[0]) == 2.0**24


@pytest.mark.parametrize("name", ["spike_sigmas", "skip_budget", "max_rollbacks"])
def test_negative_settings_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"guard\.{name} of 0 or more, found -1"):
        GuardConfig(**{name: -1})
