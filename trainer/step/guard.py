# SPDX-License-Identifier: Apache-2.0
"""The gradient guard: skips a step, on all replicas alike, whose gradient is bad.

This is what others call skip-step. A step is skipped where its loss or gradient norm is
not finite, where no token was a target, or where the norm is a spike against the last
128 steps, as MaxText does (`skip_step_on_spikes`): beyond mean + 6 sigma of a window
that is at least half full.
The window takes spikes in too, so that a lasting change of scale is accepted once it is
no surprise any more.

The verdict is made from reduced values, hence equal everywhere. With float16 it also
drives the loss scale (Micikevicius et al. 2018, arXiv 1710.03740): halved after an
overflow, doubled after 2,000 steps without one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from preprocessing.foundation.commands import UsageError
from trainer.compute.float32 import check_zero_or_range

# What `StepVerdict.code` says; 0 is an update that was made.
NOT_FINITE, SPIKE, OVERFLOW, NO_TARGETS = 1, 2, 3, 4
_FIRST_SCALE, _LARGEST_SCALE, _GROWTH_STEPS = 2.0**15, 2.0**24, 2000
# Below twice the mean nothing is called a spike: norms may be so steady that six of
# their standard deviations are a few per cent, which clipping deals with.
_LEAST_RATIO = 2.0


@dataclass(frozen=True)
class GuardConfig:
    """When a step is skipped, and when skipping is not enough.

    Attributes:
        spike_sigmas: standard deviations above the window's mean that make a gradient
            norm a spike; 0 skips only what is not finite.
        window: steps the mean is taken over, and in which skips are counted.
        skip_budget: skipped updates allowed within `window` steps; one more rolls the
            run back to the last checkpoint and leaves out the rows at fault.
        max_rollbacks: rollbacks of a run before it ends with an error.
    """

    spike_sigmas: float = 6.0
    window: int = 128
    skip_budget: int = 8
    max_rollbacks: int = 4

    def __post_init__(self) -> None:
        for name, least in (("spike_sigmas", 0), ("window", 2), ("skip_budget", 0)):
            if getattr(self, name) < least:
                raise UsageError(
                    f"wanted guard.{name} of {least} or more, found "
                    f"{getattr(self, name)}. Raise it"
                )
        check_zero_or_range("guard.spike_sigmas", self.spike_sigmas)
        if self.max_rollbacks < 0:
            raise UsageError(
                f"wanted guard.max_rollbacks of 0 or more, found {self.max_rollbacks}. "
                "Raise it"
            )


class Remembered(NamedTuple):
    """The guard's state before a step, as tensors; see `GradientGuard`."""

    norms: tf.Tensor
    seen: tf.Tensor
    loss_scale: tf.Tensor
    good_steps: tf.Tensor


class StepVerdict(NamedTuple):
    """Whether a step is skipped, and the guard's state after it.

    Attributes:
        accepted: bool, whether weights and moments change.
        code: float32, 0 or why not.
        norms: float32 `[window]`, the window with this step in it.
        seen: int64, norms written so far.
        loss_scale: float32, of the next step.
        good_steps: int64, steps since the last overflow or growth.
    """

    accepted: tf.Tensor
    code: tf.Tensor
    norms: tf.Tensor
    seen: tf.Tensor
    loss_scale: tf.Tensor
    good_steps: tf.Tensor


class GradientGuard(tf.Module):
    """Decides of each step whether it is skipped, by what it remembers of the last.

    Attributes:
        norms: float32 `[window]`, finite gradient norms, the oldest overwritten.
        seen: int64, how many have been written.
        loss_scale: float32, what the loss is multiplied by before its gradient; 1 but
            for float16.
        good_steps: int64, steps since the last overflow or growth.
    """

    def __init__(self, config: GuardConfig, compute: str) -> None:
        """Makes fresh state; call it inside `strategy.scope()`."""
        super().__init__()
        self.config, self.scales = config, compute == "float16"
        self.norms = _state("norms", tf.zeros([config.window]))
        self.seen = _state("seen", tf.zeros([], tf.int64))
        first = _FIRST_SCALE if self.scales else 1.0
        self.loss_scale = _state("loss_scale", tf.constant(first))
        self.good_steps = _state("good_steps", tf.zeros([], tf.int64))

    def remembered(self) -> Remembered:
        """Reads the state; for use in replica context."""
        variables = (self.norms, self.seen, self.loss_scale, self.good_steps)
        return Remembered(*(tf.convert_to_tensor(each) for each in variables))

    def judge(
        self,
        loss_sum: tf.Tensor,
        weight_sum: tf.Tensor,
        norm: tf.Tensor,
        before: Remembered,
    ) -> StepVerdict:
        """Decides whether a step is skipped; reads no variable, so XLA may compile it.

        Args:
            loss_sum: float32, of the global batch, in nats.
            weight_sum: float32, its targets.
            norm: float32, of the mean gradient before clipping.
            before: the state, its loss scale what this step's loss was multiplied by.
        """
        loss_scale, good = before.loss_scale, before.good_steps
        finite = tf.math.is_finite(norm) & tf.math.is_finite(loss_sum)
        infinite = float(NOT_FINITE)
        if self.scales:
            infinite = tf.where(loss_scale > 1.0, float(OVERFLOW), float(NOT_FINITE))
        code = tf.where(self._spikes(norm, before), float(SPIKE), 0.0)
        code = tf.where(finite, code, infinite)
        code = tf.where(weight_sum > 0.0, code, float(NO_TARGETS))
        # A step without targets has no gradient, and a spike is a norm like others.
        counts = tf.equal(code, 0.0) | tf.equal(code, float(SPIKE))
        places = tf.range(self.config.window, dtype=tf.int64)
        here = tf.equal(places, before.seen % self.config.window) & counts
        if self.scales:
            overflowed = tf.equal(code, float(OVERFLOW))
            loss_scale, good = next_scale(loss_scale, good, overflowed)
        return StepVerdict(
            accepted=tf.equal(code, 0.0),
            code=code,
            norms=tf.where(here, norm, before.norms),
            seen=before.seen + tf.cast(counts, tf.int64),
            loss_scale=loss_scale,
            good_steps=good,
        )

    def update(self, strategy: tf.distribute.Strategy, verdict: StepVerdict) -> None:
        """Remembers a judged step, in cross-replica context."""
        for variable, value in (
            (self.norms, verdict.norms),
            (self.seen, verdict.seen),
            (self.loss_scale, verdict.loss_scale),
            (self.good_steps, verdict.good_steps),
        ):
            strategy.extended.update(variable, _assign, args=(value,), group=False)

    def _spikes(self, norm: tf.Tensor, before: Remembered) -> tf.Tensor:
        window, sigmas = self.config.window, self.config.spike_sigmas
        if not sigmas:
            return tf.constant(False)
        norms, count = before.norms, tf.minimum(before.seen, window)
        filled = tf.range(window, dtype=tf.int64) < count
        number = tf.cast(tf.maximum(count, 2), tf.float32)
        mean = tf.reduce_sum(norms) / number
        apart = tf.where(filled, tf.square(norms - mean), 0.0)
        sigma = tf.sqrt(tf.reduce_sum(apart) / (number - 1.0))
        limit = tf.maximum(mean + sigmas * sigma, _LEAST_RATIO * mean)
        return (count >= (window + 1) // 2) & (norm > limit)


def next_scale(
    scale: tf.Tensor, good_steps: tf.Tensor, overflowed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the loss scale and the count of good steps after one more step."""
    grows = good_steps + 1 >= _GROWTH_STEPS
    larger = tf.where(grows, tf.minimum(2.0 * scale, _LARGEST_SCALE), scale)
    smaller = tf.maximum(0.5 * scale, 1.0)
    zero = tf.zeros_like(good_steps)
    return (
        tf.where(overflowed, smaller, larger),
        tf.where(overflowed | grows, zero, good_steps + 1),
    )


def _assign(variable: tf.Variable, value: tf.Tensor) -> None:
    variable.assign(value, read_value=False)


def _state(name: str, value: tf.Tensor) -> tf.Variable:
    return tf.Variable(
        value,
        trainable=False,
        name=name,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def faults(codes: Iterable[float]) -> list[int]:
    """Returns the places of `codes` whose rows are to blame for a skipped update.

    An overflow is the loss scale's, and a step without targets harms nothing.
    """
    return [index for index, code in enumerate(codes) if code in (NOT_FINITE, SPIKE)]
