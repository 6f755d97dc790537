# SPDX-License-Identifier: Apache-2.0
"""Queries, keys and values out of one product, the first two turned by position.

Each pair (i, i + H/2) of a head is turned by the angle position * theta^(-2i/H), as
Llama does (Su et al. 2021, arXiv 2104.09864); the gradient is turned back. Computed in
float32, one pass over memory each way. Shape suffixes are those of `attention.py`, and
X = A + 2 K all heads.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from trainer.compute.fusion import fused


class Heads(NamedTuple):
    """How the heads of the product are told apart and handed on.

    Attributes:
        queries: A, the first of them; they come multiplied by `scale`.
        keys: K, which follow; the last K are the values.
        scale: of the scores.
        first: whether results are `[B, heads, T, H]`, else `[B, T, heads, H]`.
    """

    queries: int
    keys: int
    scale: float
    first: bool


def rotation_table(
    positions_BT: tf.Tensor, head_dim: int, theta: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns float32 cosines and sines `[B, T, 1, H / 2]` of the angles."""
    exponents = tf.range(0, head_dim, 2, dtype=tf.float32) / head_dim
    angles = tf.cast(positions_BT, tf.float32)[..., None] * theta**-exponents
    angles = angles[:, :, None, :]
    return tf.cos(angles), tf.sin(angles)


def rotated_heads(
    product_BTXH: tf.Tensor, rotation: tuple[tf.Tensor, tf.Tensor], heads: Heads
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns turned queries and keys, and values, in the product's type."""
    cos, sin = rotation

    @tf.custom_gradient
    def run(
        product_BTXH: tf.Tensor,
    ) -> tuple[tuple[tf.Tensor, ...], Callable[..., tf.Tensor]]:
        def gradient(dq: tf.Tensor, dk: tf.Tensor, dv: tf.Tensor) -> tf.Tensor:
            # The join is a copy that XLA's loops would branch in for every element.
            return tf.concat(_turned_back(dq, dk, dv, cos, sin, heads), axis=2)

        return _turned(product_BTXH, cos, sin, heads), gradient

    return run(product_BTXH)


@fused
def _turned(
    product_BTXH: tf.Tensor, cos: tf.Tensor, sin: tf.Tensor, heads: Heads
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    sizes = [heads.queries, heads.keys, heads.keys]
    q_BTAH, k_BTKH, v_BTKH = tf.split(product_BTXH, sizes, axis=2)
    turned = (_turn(q_BTAH, cos, sin, heads.scale), _turn(k_BTKH, cos, sin, 1.0))
    q, k, v = (_swapped(x, heads.first) for x in (*turned, v_BTKH))
    return q, k, v


@fused
def _turned_back(
    dq: tf.Tensor,
    dk: tf.Tensor,
    dv: tf.Tensor,
    cos: tf.Tensor,
    sin: tf.Tensor,
    heads: Heads,
) -> list[tf.Tensor]:
    dq, dk, dv = (_swapped(x, heads.first) for x in (dq, dk, dv))
    return [_turn(dq, cos, -sin, heads.scale), _turn(dk, cos, -sin, 1.0), dv]


def _turn(x_BTYH: tf.Tensor, cos: tf.Tensor, sin: tf.Tensor, scale: float) -> tf.Tensor:
    first, second = tf.split(tf.cast(x_BTYH, tf.float32), 2, axis=-1)
    halves = [first * cos - second * sin, second * cos + first * sin]
    return tf.cast(tf.concat(halves, axis=-1) * scale, x_BTYH.dtype)


def _swapped(x: tf.Tensor, swap: bool) -> tf.Tensor:
    """Swaps time and heads."""
    return tf.transpose(x, [0, 2, 1, 3]) if swap else x
