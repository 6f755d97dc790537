# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import tensorflow as tf

from trainer.schedules import learning_rate


def rate(step: int, schedule: str, warmup_steps: int = 4) -> float:
    value = learning_rate(
        tf.constant(step, tf.int64),
        peak=0.8,
        warmup_steps=warmup_steps,
        schedule=schedule,
        final_fraction=0.25,
        total_steps=12,
    )
    assert value.dtype == tf.float32
    return float(value)


def test_warm_up_climbs_in_equal_steps_to_the_peak() -> None:
    for schedule in ("constant", "cosine"):
        found = [rate(step, schedule) for step in range(4)]
        assert found == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_constant_stays_at_the_peak() -> None:
    assert [rate(step, "constant") for step in (4, 11, 500)] == pytest.approx([0.8] * 3)


def test_cosine_falls_from_the_peak_to_its_final_fraction_and_stays() -> None:
    quarter = 0.8 * (0.25 + 0.75 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert rate(4, "cosine") == pytest.approx(0.8)
    assert rate(6, "cosine") == pytest.approx(quarter)
    assert rate(8, "cosine") == pytest.approx(0.8 * (0.25 + 0.75 / 2))
    assert [rate(s, "cosine") for s in (12, 99)] == pytest.approx([0.2, 0.2])


def test_without_warm_up_the_first_step_is_at_the_peak() -> None:
    assert rate(0, "cosine", warmup_steps=0) == pytest.approx(0.8)
