# SPDX-License-Identifier: Apache-2.0
"""Adafactor: a matrix's second moments kept as one number a row and one a column.

Algorithms 4 to 6 of Shazeer and Stern 2018 (arXiv 1804.04235), set as T5 sets them
(Raffel et al. 2020, arXiv 1910.10683) but for the relative step, in whose place stands
the run's schedule: no first moment, update clipping at 1, a decay of 1 - t^-0.8, and
steps in proportion to the root mean square of the weight they change. The learning rate
is therefore relative: 0.01 changes a weight by about a hundredth of its size.

    v <- decay * v + (1 - decay) * (g^2 + 1e-30)      of a matrix: its row and column
                                                      means r and c, v = r c' / mean(r)
    u <- g / sqrt(v)
    w <- w - rate * max(1e-3, rms(w)) * u / max(1, rms(u))
"""

import tensorflow as tf

from trainer.optimizers.update_rules.factors import Factors

_LEAST_SQUARE = 1e-30  # epsilon 1 of the paper's section 9
_LEAST_SCALE = 1e-3  # epsilon 2: weights that start at zero must be able to leave it
_CLIP = 1.0  # d


def factored_update(
    variable: tf.Variable,
    gradient: tf.Tensor,
    factors: Factors,
    rows: tf.Variable,
    columns: tf.Variable,
) -> None:
    """Updates a matrix `[..., R, C]`.

    Args:
        variable: w.
        gradient: g, summed over the batch.
        factors: rate and square_decay.
        rows: r, means over each row, `[..., R]`.
        columns: c, means over each column, `[..., C]`.
    """
    gradient = factors.mean(gradient)
    square = tf.square(gradient) + _LEAST_SQUARE
    new_rows = _decayed(rows, tf.reduce_mean(square, axis=-1), factors)
    new_columns = _decayed(columns, tf.reduce_mean(square, axis=-2), factors)
    mean = tf.reduce_mean(new_rows, axis=-1, keepdims=True)
    # Not the root of r c' / mean(r): the product of two small means would be zero.
    by_row = tf.math.rsqrt(new_rows / mean)[..., :, None]
    by_column = tf.math.rsqrt(new_columns)[..., None, :]
    rows.assign(new_rows, read_value=False)
    columns.assign(new_columns, read_value=False)
    _step(variable, gradient * by_row * by_column, factors)


def unfactored_update(
    variable: tf.Variable, gradient: tf.Tensor, factors: Factors, second: tf.Variable
) -> None:
    """Updates a weight that is no matrix.

    Args:
        variable: w.
        gradient: g, summed over the batch.
        factors: rate and square_decay.
        second: v, of the weight's shape.
    """
    gradient = factors.mean(gradient)
    new = _decayed(second, tf.square(gradient) + _LEAST_SQUARE, factors)
    second.assign(new, read_value=False)
    _step(variable, gradient * tf.math.rsqrt(new), factors)


def _decayed(old: tf.Variable, new: tf.Tensor, factors: Factors) -> tf.Tensor:
    return factors.square_decay * old + (1.0 - factors.square_decay) * new


def _step(variable: tf.Variable, update: tf.Tensor, factors: Factors) -> None:
    scale = factors.rate * tf.maximum(_LEAST_SCALE, _root_mean_square(variable))
    scale /= tf.maximum(1.0, _root_mean_square(update) / _CLIP)
    # Before the first update that is not skipped, v is 0 and so is the rate.
    scale = tf.where(factors.rate > 0.0, scale, 0.0)
    variable.assign_sub(tf.math.multiply_no_nan(update, scale), read_value=False)


def _root_mean_square(tensor: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(tf.reduce_mean(tf.square(tensor)))
