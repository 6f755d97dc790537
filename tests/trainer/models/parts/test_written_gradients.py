# SPDX-License-Identifier: Apache-2.0
"""Gradients written by hand equal those TensorFlow finds for the formulas."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from trainer.compute.fusion import fusing
from trainer.models.parts.attention import masked_softmax
from trainer.models.parts.layers import Initializer
from trainer.models.parts.normalisation import RMSNorm
from trainer.models.parts.rotary import Heads, rotated_heads, rotation_table

EPSILON = 1e-2
B, T, A, K, H = 2, 5, 4, 2, 6


def normal(*shape: int) -> tf.Tensor:
    return tf.random.stateless_normal(shape, [len(shape), shape[-1]])


def results_and_gradients(
    function: Callable[..., tuple[tf.Tensor, ...]], *inputs: tf.Tensor
) -> list[tf.Tensor]:
    """Returns results, and gradients of a sum of them with unlike weights."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        results = function(*inputs)
        total = tf.add_n([tf.reduce_sum(normal(*y.shape) * y) for y in results])
    return [*results, *tape.gradient(total, inputs)]


def assert_equal(
    mine: Callable[..., tuple], formula: Callable[..., tuple], *inputs: tf.Tensor
) -> None:
    wanted = results_and_gradients(formula, *inputs)
    for active in (False, True):
        with fusing(active):
            found = results_and_gradients(mine, *inputs)
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-5)


@pytest.fixture
def norm() -> RMSNorm:
    made = RMSNorm(12, EPSILON, Initializer(0))
    made.scale.assign(normal(12))
    return made


def normed(x: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    mean = tf.reduce_mean(tf.square(x), axis=-1, keepdims=True)
    return x / tf.sqrt(mean + EPSILON) * scale


def with_scale(norm: RMSNorm, scale: tf.Tensor) -> RMSNorm:
    """Puts a tensor where the scale's variable was, as a step does."""
    norm.scale = scale
    return norm


def test_root_mean_square_normalisation(norm: RMSNorm) -> None:
    assert_equal(
        lambda x, scale: (with_scale(norm, scale)(x, tf.float32),),
        lambda x, scale: (normed(x, scale),),
        normal(7, 12),
        normal(12),
    )


def test_normalisation_of_a_residual_sum(norm: RMSNorm) -> None:
    assert_equal(
        lambda x, more, scale: with_scale(norm, scale).of_sum(x, more),
        lambda x, more, scale: (x + more, normed(x + more, scale)),
        normal(7, 12),
        2.0 * normal(7, 12),
        normal(12),
    )


def test_normalisation_gives_the_types_asked_for(norm: RMSNorm) -> None:
    x, more = normal(7, 12), tf.cast(normal(7, 12), tf.bfloat16)
    with tf.GradientTape() as tape:
        tape.watch([x, more])
        total, y = norm.of_sum(x, more)
    assert (total.dtype, y.dtype) == (tf.float32, tf.bfloat16)
    into = tape.gradient(y, [x, more])
    assert [g.dtype for g in into] == [tf.float32, tf.bfloat16]


@pytest.mark.parametrize("first", [False, True])
def test_heads_told_apart_and_turned(first: bool) -> None:
    positions = tf.constant([[0, 1, 2, 3, 4], [0, 1, 0, 1, 2]])
    cos, sin = rotation_table(positions, H, 100.0)
    turns = tf.complex(cos, sin)

    def turned(x: tf.Tensor) -> tf.Tensor:
        pairs = tf.complex(x[..., : H // 2], x[..., H // 2 :]) * turns
        return tf.concat([tf.math.real(pairs), tf.math.imag(pairs)], axis=-1)

    def formula(x: tf.Tensor) -> tuple[tf.Tensor, ...]:
        parts = (turned(x[:, :, :A]) * 0.5, turned(x[:, :, A:-K]), x[:, :, -K:])
        return tuple(tf.transpose(p, [0, 2, 1, 3]) if first else p for p in parts)

    assert_equal(
        lambda x: rotated_heads(x, (cos, sin), Heads(A, K, 0.5, first)),
        formula,
        normal(B, T, A + 2 * K, H),
    )


def test_softmax_of_masked_scores() -> None:
    mask = tf.where(tf.linalg.band_part(tf.ones([T, T]), -1, 0) > 0, 0.0, -1e9)
    assert_equal(
        lambda x: (masked_softmax(x, mask),),
        lambda x: (tf.nn.softmax(x + mask),),
        normal(B, K, A, T, T),
    )
