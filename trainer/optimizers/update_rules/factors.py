# SPDX-License-Identifier: Apache-2.0
"""The scalars that every weight's update shares."""

from typing import NamedTuple

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
        powers: float32 `[2]`, beta1^t and beta2^t, t counting the updates not skipped.
        momentum: float32, the decay of SGD's or Muon's momentum, 1 likewise.
        square_decay: float32, the decay of Adafactor's second moment, 1 likewise.
        average_share: float32, what weights add to their averages, 0 likewise.
        skipped: int64, 1 for a skipped update, else 0.
    """

    gradient_scale: tf.Tensor
    rate: tf.Tensor
    betas: tf.Tensor
    powers: tf.Tensor
    momentum: tf.Tensor
    square_decay: tf.Tensor
    average_share: tf.Tensor
    skipped: tf.Tensor

    def mean(self, gradient: tf.Tensor) -> tf.Tensor:
        """Returns a summed gradient times its scale; zeros, even of NaN, for 0."""
        return tf.math.multiply_no_nan(gradient, self.gradient_scale)
