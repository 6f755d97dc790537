# SPDX-License-Identifier: Apache-2.0
"""Learning rates as pure functions of the step."""

import math

import tensorflow as tf

from preprocessing.foundation.commands import UsageError

SCHEDULES = ("constant", "linear", "cosine", "inverse_sqrt", "wsd")


def learning_rate(
    step: tf.Tensor,
    *,
    peak: float,
    warmup_steps: int,
    schedule: str,
    final_fraction: float,
    decay_steps: int | None,
    total_steps: int,
) -> tf.Tensor:
    """Returns the float32 learning rate of the update number `step`, from 0.

        warm-up:       peak * (step + 1) / warmup_steps      while step < warmup_steps
        constant:      peak
        linear:        peak * (f + (1 - f) * (1 - progress))
        cosine:        peak * (f + (1 - f) * (1 + cos(pi * progress)) / 2)
        inverse_sqrt:  peak * sqrt(warmup_steps / (step + 1))
        wsd:           peak, then linear over the last decay_steps

    with f = final_fraction and progress running from 0 at the end of the warm-up (of
    wsd: where the decay starts) to 1 at total_steps. Cosine is Loshchilov and Hutter
    2017 (arXiv 1608.03983) without restarts, inverse_sqrt Vaswani et al. 2017
    (arXiv 1706.03762, section 5.3), wsd warm-up-stable-decay of Hu et al. 2024
    (MiniCPM, arXiv 2404.06395).

    Args:
        step: integer scalar.
        peak: the rate at the end of the warm-up.
        warmup_steps: 0 starts at the peak.
        schedule: one of `SCHEDULES`.
        final_fraction: share of the peak that linear, cosine and wsd end at.
        decay_steps: see `decay_start`.
        total_steps: where they end; the rate stays at its final value afterwards.
    """
    step = tf.cast(step, tf.float32)
    warmup = tf.minimum(1.0, (step + 1.0) / max(warmup_steps, 1))
    if schedule == "constant":
        return peak * warmup
    if schedule == "inverse_sqrt":
        first = float(max(warmup_steps, 1))
        return peak * warmup * tf.sqrt(first / tf.maximum(step + 1.0, first))
    start = warmup_steps
    if schedule == "wsd":
        start = decay_start(total_steps, warmup_steps, decay_steps)
    length = max(total_steps - start, 1)
    progress = tf.clip_by_value((step - start) / length, 0.0, 1.0)
    if schedule == "cosine":
        fall = 0.5 * (1.0 + tf.cos(math.pi * progress))
    else:
        fall = 1.0 - progress
    return peak * warmup * (final_fraction + (1.0 - final_fraction) * fall)


def decay_start(total_steps: int, warmup_steps: int, decay_steps: int | None) -> int:
    """Returns the first step of wsd's decay.

    Args:
        total_steps: steps of the run.
        warmup_steps: steps of its warm-up.
        decay_steps: steps of its decay; None is a tenth of the run, which MiniCPM
            (section 4.3) found enough, or what the warm-up leaves.

    Raises:
        UsageError: warm-up and decay do not fit into the run.
    """
    if decay_steps is None:
        return max(total_steps - max(total_steps // 10, 1), warmup_steps)
    if warmup_steps + decay_steps > total_steps:
        raise UsageError(
            "wanted optimizer.warmup_steps + optimizer.decay_steps within "
            f"loop.total_steps, found {warmup_steps} + {decay_steps} > {total_steps}. "
            "Lower one or train longer"
        )
    return total_steps - decay_steps
