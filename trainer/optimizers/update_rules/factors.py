# SPDX-License-Identifier: Apache-2.0
"""The scalars that every weight's update shares."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Factors(NamedTuple):
    """The scalars of one update, made once and equal everywhere.

    A skipped update has a gradient scale and a rate of 0 and every decay 1: that leaves
    weights and state exactly as they are, and needs no choice per element.

    Attributes:
        gradient_scale: float32, what a gradient summed over the batch is multiplied by:
            it makes the mean of it, clipped; 0 for a skipped update.
        rate: float32, the learning rate, 0 for a skipped update.
        betas: float32 `[2]`, the decay of both moments, 1 for a skipped update.
        corrections: float32 `[2]`, 1 - beta1^t and 1 - beta2^t, which are computed in
            float64, t counting the updates not skipped.
        momentum: float32, the decay of SGD's or Muon's momentum, 1 likewise.
        square_decay: float32, the decay of Adafactor's second moment, 1 likewise.
        average_share: float32, what weights add to their averages, 0 likewise.
        skipped: int64, 1 for a skipped update, else 0.
    """

    gradient_scale: tf.Tensor
    rate: tf.Tensor
    betas: tf.Tensor
    corrections: tf.Tensor
    momentum: tf.Tensor
    square_decay: tf.Tensor
    average_share: tf.Tensor
    skipped: tf.Tensor

    def mean(self, gradient: tf.Tensor) -> tf.Tensor:
        """Returns a summed gradient times its scale; zeros, even of NaN, for 0."""
        return tf.math.multiply_no_nan(gradient, self.gradient_scale)


def bias_corrections(betas: Sequence[float], updates: tf.Tensor) -> tf.Tensor:
    """Returns 1 - beta^t in float32, of moments that decay by float32's betas.

    They are computed in float64: of a beta near 1, what float32 leaves of the
    difference is mostly error.

    Args:
        betas: of `[count]` moments.
        updates: int64, t, from 1.
    """
    rounded = np.array(betas, np.float32).astype(np.float64)
    powers = tf.pow(tf.constant(rounded), tf.cast(updates, tf.float64))
    return tf.cast(1.0 - powers, tf.float32)
