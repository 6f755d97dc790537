# SPDX-License-Identifier: Apache-2.0
"""Learning rates as pure functions of the step."""

import math

import tensorflow as tf

SCHEDULES = ("cosine", "constant")


def learning_rate(
    step: tf.Tensor,
    *,
    peak: float,
    warmup_steps: int,
    schedule: str,
    final_fraction: float,
    total_steps: int,
) -> tf.Tensor:
    """Returns the float32 learning rate of the update number `step`, from 0.

        warm-up:   peak * (step + 1) / warmup_steps      while step < warmup_steps
        constant:  peak
        cosine:    peak * (f + (1 - f) * (1 + cos(pi * progress)) / 2)

    with f = final_fraction and progress running from 0 at the end of the warm-up to 1
    at total_steps (Loshchilov and Hutter 2017, arXiv 1608.03983, without restarts).

    Args:
        step: integer scalar.
        peak: the rate at the end of the warm-up.
        warmup_steps: 0 starts at the peak.
        schedule: "cosine" or "constant".
        final_fraction: share of the peak that cosine ends at.
        total_steps: where cosine ends; it stays at its final value afterwards.
    """
    step = tf.cast(step, tf.float32)
    warmup = tf.minimum(1.0, (step + 1.0) / max(warmup_steps, 1))
    if schedule == "constant":
        return peak * warmup
    length = max(total_steps - warmup_steps, 1)
    progress = tf.clip_by_value((step - warmup_steps) / length, 0.0, 1.0)
    fall = 0.5 * (1.0 + tf.cos(math.pi * progress))
    return peak * warmup * (final_fraction + (1.0 - final_fraction) * fall)
