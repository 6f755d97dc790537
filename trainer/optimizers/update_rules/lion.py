# SPDX-License-Identifier: Apache-2.0
"""Lion: the sign of a blend of momentum and gradient."""

import tensorflow as tf

from trainer.optimizers.update_rules.factors import Factors


def lion_update(
    variable: tf.Variable,
    gradient: tf.Tensor,
    factors: Factors,
    momentum: tf.Variable,
    *,
    weight_decay: float,
) -> None:
    """Applies Algorithm 2 of Chen et al. 2023 (arXiv 2302.06675) to one variable.

        c <- beta1 * m + (1 - beta1) * g
        w <- w - rate * (sign(c) + weight_decay * w)
        m <- beta2 * m + (1 - beta2) * g

    Every entry moves by the rate whatever its gradient: the paper takes a rate 3 to 10
    times smaller than AdamW's, a weight decay as many times larger, and betas of 0.9
    and 0.99.

    Args:
        variable: w.
        gradient: g, summed over the batch.
        factors: rate and betas.
        momentum: m.
        weight_decay: share of the rate taken off the weight.
    """
    beta1, beta2 = factors.betas[0], factors.betas[1]
    gradient = factors.mean(gradient)
    direction = tf.sign(beta1 * momentum + (1.0 - beta1) * gradient)
    if weight_decay:
        direction += weight_decay * variable
    moved = beta2 * momentum + (1.0 - beta2) * gradient
    variable.assign_sub(factors.rate * direction, read_value=False)
    momentum.assign(moved, read_value=False)
