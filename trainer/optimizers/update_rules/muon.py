# SPDX-License-Identifier: Apache-2.0
"""Muon: the momentum of a matrix, made orthogonal, is its step.

Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/). It is meant for the
matrices of the blocks; vocabulary, norms and biases are left to AdamW. The step is
scaled as Liu et al. 2025 do (Moonlight, arXiv 2502.16982, equation 4), to the root mean
square that AdamW's steps have: one learning rate and one weight decay serve both, and
those found for AdamW can be kept.
"""

from collections.abc import Sequence

import tensorflow as tf

from trainer.optimizers.update_rules.factors import Factors

# Of the quintic iteration: the steepest at 0 that keeps singular values in about
# [0.7, 1.2] (Jordan's post; not converging to 1 costs nothing measurable).
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_ADAM_STEP = 0.2  # root mean square of AdamW's steps, Moonlight section 2.2
_LEAST_NORM = 1e-20


def muon_update(
    variable: tf.Variable,
    gradient: tf.Tensor,
    factors: Factors,
    momentum: tf.Variable,
    *,
    widths: Sequence[int],
    weight_decay: float,
) -> None:
    """Updates one matrix `[..., rows, columns]`.

        m <- mu * m + (1 - mu) * g
        o <- orthogonalised(mu * m + (1 - mu) * g)              Nesterov's look ahead
        w <- w - rate * (0.2 * sqrt(max(rows, columns)) * o + weight_decay * w)

    Args:
        variable: w.
        gradient: g, summed over the batch.
        factors: rate and momentum (mu).
        momentum: m.
        widths: columns of each matrix that the variable holds side by side. Each is
            made orthogonal for itself: as one, the queries' step would depend on what
            the keys' gradient spans, and the larger gradient would take most of the
            step. Jordan's post reports that Muon works best with queries, keys and
            values apart.
        weight_decay: share of the rate taken off the weight.
    """
    mu = factors.momentum
    gradient = factors.mean(gradient)
    moved = mu * momentum + (1.0 - mu) * gradient
    ahead = mu * moved + (1.0 - mu) * gradient
    steps = [
        orthogonalised(matrix) * (_ADAM_STEP * max(matrix.shape[-2:]) ** 0.5)
        for matrix in tf.split(ahead, widths, axis=-1)
    ]
    step = tf.concat(steps, axis=-1)
    if weight_decay:
        step += weight_decay * variable
    momentum.assign(moved, read_value=False)
    variable.assign_sub(factors.rate * step, read_value=False)


def orthogonalised(matrix: tf.Tensor) -> tf.Tensor:
    """Brings the singular values of `[..., rows, columns]` near 1, vectors kept.

    Five steps of Newton and Schulz's iteration, on the smaller of the two Gram
    matrices: 5 * (4 * s^2 * l + 2 * s^3) operations, s and l the shorter and the
    longer side. A matrix of zeros stays one.
    """
    rows, columns = matrix.shape[-2:]
    wide = rows <= columns
    a, b, c = _QUINTIC
    norm = tf.norm(matrix, axis=(-2, -1), keepdims=True)
    x = matrix / tf.maximum(norm, _LEAST_NORM)
    for _ in range(_ITERATIONS):
        gram = tf.matmul(x, x, transpose_a=not wide, transpose_b=wide)
        polynomial = b * gram + c * tf.matmul(gram, gram)
        x = a * x + (tf.matmul(polynomial, x) if wide else tf.matmul(x, polynomial))
    return x
