# SPDX-License-Identifier: Apache-2.0
"""Stochastic gradient descent, plain and with momentum."""

import tensorflow as tf

from trainer.optimizers.update_rules.factors import Factors


def sgd_update(variable: tf.Variable, gradient: tf.Tensor, factors: Factors) -> None:
    """Applies w <- w - rate * g to one variable, g the mean of its gradient."""
    variable.assign_sub(factors.rate * factors.mean(gradient), read_value=False)


def momentum_update(
    variable: tf.Variable, gradient: tf.Tensor, factors: Factors, velocity: tf.Variable
) -> None:
    """Applies the heavy ball (Polyak 1964) to one variable.

        u <- momentum * u + g
        w <- w - rate * u

    The rate stands outside of u (Sutskever et al. 2013 have it inside), so that a
    falling rate acts at once.

    Args:
        variable: w.
        gradient: g, summed over the batch.
        factors: rate and momentum.
        velocity: u.
    """
    moved = factors.momentum * velocity + factors.mean(gradient)
    velocity.assign(moved, read_value=False)
    variable.assign_sub(factors.rate * moved, read_value=False)
