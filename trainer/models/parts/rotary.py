# SPDX-License-Identifier: Apache-2.0
"""Queries, keys and values out of one product, the first two turned by position.

Each pair (i, i + R/2) of a head's first R columns is turned by the angle
position * f_i, f_i = theta^(-2i/R), as Llama does (Su et al. 2021, arXiv 2104.09864);
the gradient is turned back. Computed in float32, one pass over memory each way. Shape
suffixes are those of `attention.py`, and X = A + 2 K all heads.

A model made for L positions reads more where its frequencies are stretched by s:

    linear   f / s
    llama3   f / s of fewer than `low` turns in L, f of more than `high`, between them
             what is between (Llama 3.1, Grattafiori et al. 2024, arXiv 2407.21783)
    yarn     the same ramp over the number of the pair, from `slow` to `fast` turns, and
             cosines and sines times 0.1 ln s + 1 (Peng et al. 2023, arXiv 2309.00071)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
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


@dataclass(frozen=True)
class RopeScaling:
    """How frequencies are stretched; the keys are those of `model.rope_*`.

    Attributes:
        kind: "linear", "llama3" or "yarn".
        factor: s.
        original_positions: L.
        low: turns in L below which llama3 stretches in full.
        high: turns above which it leaves a frequency.
        slow: turns below which yarn stretches in full.
        fast: turns above which it leaves a frequency.
        attention_factor: of yarn, None for its formula.
    """

    kind: str
    factor: float
    original_positions: int = 0
    low: float = 1.0
    high: float = 4.0
    slow: float = 1.0
    fast: float = 32.0
    attention_factor: float | None = None

    def stretched(self, frequencies: np.ndarray, theta: float) -> np.ndarray:
        """Returns frequencies `[R / 2]`, in radians a position, as they are used."""
        if self.kind == "linear":
            kept = np.zeros_like(frequencies)
        elif self.kind == "llama3":
            turns = self.original_positions * frequencies / (2 * math.pi)
            kept = np.clip((turns - self.low) / (self.high - self.low), 0.0, 1.0)
        else:
            kept = 1.0 - self._yarn_ramp(len(frequencies), theta)
        return frequencies * (kept + (1.0 - kept) / self.factor)

    @property
    def magnitude(self) -> float:
        """What cosines and sines are multiplied by."""
        if self.kind != "yarn":
            return 1.0
        if self.attention_factor is not None:
            return self.attention_factor
        return 0.1 * math.log(self.factor) + 1.0 if self.factor > 1.0 else 1.0

    def _yarn_ramp(self, pairs: int, theta: float) -> np.ndarray:
        """Returns how much of each pair is stretched, 0 to 1."""

        def pair_of(turns: float) -> float:
            length = self.original_positions / (turns * 2 * math.pi)
            return pairs * math.log(length) / math.log(theta)

        first = max(math.floor(pair_of(self.fast)), 0)
        last = min(math.ceil(pair_of(self.slow)), 2 * pairs - 1)
        # As the paper's code: no division by 0 where both are one pair.
        width = max(last - first, 0.001)
        return np.clip((np.arange(pairs) - first) / width, 0.0, 1.0)


def rotation_table(
    positions_BT: tf.Tensor,
    turned: int,
    theta: float,
    scaling: RopeScaling | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns float32 cosines and sines `[B, T, 1, R / 2]` of the angles.

    Args:
        positions_BT: int32.
        turned: R, columns of a head that are turned.
        theta: base of the frequencies.
        scaling: how they are stretched.
    """
    magnitude = 1.0
    if scaling is None:
        exponents = tf.range(0, turned, 2, dtype=tf.float32) / turned
        frequencies = theta**-exponents
    else:
        plain = theta ** (-np.arange(0, turned, 2) / turned)
        frequencies = tf.constant(scaling.stretched(plain, theta), tf.float32)
        magnitude = scaling.magnitude
    angles = tf.cast(positions_BT, tf.float32)[..., None] * frequencies
    angles = angles[:, :, None, :]
    cos, sin = tf.cos(angles), tf.sin(angles)
    return (cos, sin) if magnitude == 1.0 else (cos * magnitude, sin * magnitude)


def rotated_heads(
    product_BTXH: tf.Tensor,
    rotation: tuple[tf.Tensor, tf.Tensor] | None,
    heads: Heads,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns turned queries and keys, and values, in the product's type.

    Without a rotation nothing is turned; queries are scaled all the same.
    """
    tables = () if rotation is None else rotation

    @tf.custom_gradient
    def run(
        product_BTXH: tf.Tensor,
    ) -> tuple[tuple[tf.Tensor, ...], Callable[..., tf.Tensor]]:
        def gradient(dq: tf.Tensor, dk: tf.Tensor, dv: tf.Tensor) -> tf.Tensor:
            # The join is a copy that XLA's loops would branch in for every element.
            return tf.concat(_turned_back(dq, dk, dv, heads, *tables), axis=2)

        return _turned(product_BTXH, heads, *tables), gradient

    return run(product_BTXH)


@fused
def _turned(
    product_BTXH: tf.Tensor, heads: Heads, *rotation: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    sizes = [heads.queries, heads.keys, heads.keys]
    q_BTAH, k_BTKH, v_BTKH = tf.split(product_BTXH, sizes, axis=2)
    turned = (_turn(q_BTAH, heads.scale, *rotation), _turn(k_BTKH, 1.0, *rotation))
    q, k, v = (_swapped(x, heads.first) for x in (*turned, v_BTKH))
    return q, k, v


@fused
def _turned_back(
    dq: tf.Tensor, dk: tf.Tensor, dv: tf.Tensor, heads: Heads, *rotation: tf.Tensor
) -> list[tf.Tensor]:
    dq, dk, dv = (_swapped(x, heads.first) for x in (dq, dk, dv))
    back = (rotation[0], -rotation[1]) if rotation else ()
    return [_turn(dq, heads.scale, *back), _turn(dk, 1.0, *back), dv]


def _turn(x_BTYH: tf.Tensor, scale: float, *rotation: tf.Tensor) -> tf.Tensor:
    """Returns heads with their first columns turned, in the type they came in."""
    x = tf.cast(x_BTYH, tf.float32)
    if rotation:
        cos, sin = rotation
        pairs = cos.shape[-1]
        rest = x_BTYH.shape[-1] - 2 * pairs
        first, second, *others = tf.split(x, [pairs, pairs, *[rest] * (rest > 0)], -1)
        halves = [first * cos - second * sin, second * cos + first * sin]
        x = tf.concat([*halves, *others], axis=-1)
    return tf.cast(x * scale, x_BTYH.dtype)


def _swapped(x: tf.Tensor, swap: bool) -> tf.Tensor:
    """Swaps time and heads."""
    return tf.transpose(x, [0, 2, 1, 3]) if swap else x


def step_table(
    rotation: tuple[tf.Tensor, tf.Tensor] | None,
) -> tuple[tf.Tensor, tf.Tensor] | None:
    """Returns `[B, 1, R]` of a rotation of single positions, as `turned_step` wants it.

    Both halves of a head's columns in one product each: of the few numbers of a step,
    operations cost more than what they compute.
    """
    if rotation is None:
        return None
    cos, sin = (tf.squeeze(each, 1) for each in rotation)
    return tf.concat([cos, cos], -1), tf.concat([-sin, sin], -1)


def turned_step(
    x_BYH: tf.Tensor, table: tuple[tf.Tensor, tf.Tensor] | None
) -> tf.Tensor:
    """Returns the heads of single positions, turned, in the type they came in."""
    if table is None:
        return x_BYH
    cos, sin = table
    turned, width = cos.shape[-1], x_BYH.shape[-1]
    x = tf.cast(x_BYH, tf.float32)
    rest = []
    if turned < width:
        x, *rest = tf.split(x, [turned, width - turned], -1)
    first, second = tf.split(x, 2, -1)
    x = x * cos + tf.concat([second, first], -1) * sin
    return tf.cast(tf.concat([x, *rest], -1) if rest else x, x_BYH.dtype)
