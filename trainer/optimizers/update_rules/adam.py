# SPDX-License-Identifier: Apache-2.0
"""Adam and AdamW: two moments of every weight's gradient."""

import tensorflow as tf

from trainer.compute.fusion import fused, fuses
from trainer.optimizers.update_rules.factors import Factors


def adam_update(
    variable: tf.Variable,
    gradient: tf.Tensor,
    factors: Factors,
    first: tf.Variable,
    second: tf.Variable,
    *,
    weight_decay: float,
    epsilon: float,
) -> None:
    """Applies Algorithm 2 of AdamW (arXiv 1711.05101) to one variable.

        w <- w - rate * weight_decay * w
        m <- beta1 * m + (1 - beta1) * g
        v <- beta2 * v + (1 - beta2) * g^2
        w <- w - rate * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)

    XLA makes one pass over memory of all four where it compiles parts. (It takes and
    returns tensors. Given the variables themselves it would spare new ones, 1 % of a
    step, but two replicas on logical CPUs then learnt something else.) Elsewhere
    TensorFlow's kernel does the last three in one (written as ten operations they took
    8 % of a step). It would correct biases in float32, so it is told that there are
    none, and given Adam's second form (section 2), whose rate and epsilon hold them.

    Args:
        variable: w.
        gradient: g, summed over the batch.
        factors: rate, betas and corrections, the last at this update's t, from 1.
        first: m.
        second: v.
        weight_decay: share of the rate taken off the weight.
        epsilon: keeps the quotient finite.
    """
    if fuses():
        new = _stepped(
            tf.convert_to_tensor(variable),
            tf.convert_to_tensor(first),
            tf.convert_to_tensor(second),
            gradient,
            factors.gradient_scale,
            factors.rate,
            factors.betas,
            factors.corrections,
            weight_decay,
            epsilon,
        )
        for old, value in zip((variable, first, second), new, strict=True):
            old.assign(value, read_value=False)
        return
    if weight_decay:
        shrunk = variable * (1.0 - factors.rate * weight_decay)
        variable.assign(shrunk, read_value=False)
    root = tf.sqrt(factors.corrections[1])
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=first.handle,
        v=second.handle,
        beta1_power=0.0,
        beta2_power=0.0,
        lr=factors.rate * root / factors.corrections[0],
        beta1=factors.betas[0],
        beta2=factors.betas[1],
        epsilon=epsilon * root,
        grad=factors.mean(gradient),
    )


@fused
def _stepped(
    weight: tf.Tensor,
    first: tf.Tensor,
    second: tf.Tensor,
    gradient: tf.Tensor,
    gradient_scale: tf.Tensor,
    rate: tf.Tensor,
    betas: tf.Tensor,
    corrections: tf.Tensor,
    weight_decay: float,
    epsilon: float,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns w, m and v after the update."""
    gradient = tf.math.multiply_no_nan(gradient, gradient_scale)
    first = betas[0] * first + (1.0 - betas[0]) * gradient
    second = betas[1] * second + (1.0 - betas[1]) * tf.square(gradient)
    root = tf.sqrt(second / corrections[1]) + epsilon
    weight *= 1.0 - rate * weight_decay
    return weight - rate * (first / corrections[0]) / root, first, second
