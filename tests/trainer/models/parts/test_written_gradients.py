# SPDX-License-Identifier: Apache-2.0
"""Gradients written by hand equal those TensorFlow finds for the formulas."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from trainer.compute.fusion import fusing
from trainer.models.parts.attention import masked_softmax
from trainer.models.parts.feed_forward import FeedForward, FeedForwardSizes
from trainer.models.parts.layer_norm import LayerNorm
from trainer.models.parts.layers import Initializer, add_bias
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


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("biased", [False, True])
def test_layer_normalisation(biased: bool, offset: float) -> None:
    norm = LayerNorm(12, EPSILON, Initializer(0), offset, biased)

    def centred(x: tf.Tensor, scale: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
        shift = bias if biased else 0.0 * bias
        return (x - mean) / tf.sqrt(variance + EPSILON) * (scale + offset) + shift

    def mine(x: tf.Tensor, scale: tf.Tensor, bias: tf.Tensor) -> LayerNorm:
        norm.scale, norm.bias = scale, bias
        return norm

    inputs = (normal(7, 12), 3.0 + 2.0 * normal(7, 12), normal(12), normal(1, 12)[0])
    alone, both = (inputs[0], *inputs[2:]), inputs
    if not biased:
        alone, both = alone[:-1], both[:-1]
    zero = [] if biased else [tf.zeros(12)]
    assert_equal(
        lambda x, *w: (mine(x, *w, *zero)(x, tf.float32),),
        lambda x, *w: (centred(x, *w, *zero),),
        *alone,
    )
    assert_equal(
        lambda x, more, *w: mine(x, *w, *zero).of_sum(x, more),
        lambda x, more, *w: (x + more, centred(x + more, *w, *zero)),
        *both,
    )


ACTIVATIONS = {
    "silu": lambda x: x * tf.sigmoid(x),
    "gelu": tf.nn.gelu,
    "gelu_tanh": lambda x: tf.nn.gelu(x, approximate=True),
    "relu": tf.nn.relu,
}


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_feed_forward_layers(activation: str, gated: bool, biased: bool) -> None:
    sizes = FeedForwardSizes(6, 5, 1, gated, activation, biased)
    layer, act = FeedForward(sizes, Initializer(0)), ACTIVATIONS[activation]

    def mine(x: tf.Tensor, up: tf.Tensor, down: tf.Tensor, *biases: tf.Tensor) -> tuple:
        setattr(layer, "gate_up" if gated else "up", up)
        layer.down = down
        if biases:
            layer.up_bias, layer.down_bias = biases
        return (layer(x),)

    def formula(
        x: tf.Tensor, up: tf.Tensor, down: tf.Tensor, *biases: tf.Tensor
    ) -> tuple:
        inner = x @ up + (biases[0] if biases else 0.0)
        if gated:
            gate, inner = tf.split(inner, 2, axis=-1)
            mixed = act(gate) * inner
        else:
            mixed = act(inner)
        return (mixed @ down + (biases[1] if biases else 0.0),)

    columns = 10 if gated else 5
    biases = [normal(columns), normal(6)] if biased else []
    assert_equal(mine, formula, normal(7, 6), normal(6, columns), normal(5, 6), *biases)


def test_a_bias_in_half_precision_gathers_its_gradient_in_float32() -> None:
    """In bfloat16 a sum of 4,096 ones stands still at 256."""
    rows, bias = tf.zeros([4096, 2], tf.bfloat16), tf.zeros([2])
    with tf.GradientTape() as tape:
        tape.watch(bias)
        total = tf.reduce_sum(tf.cast(add_bias(rows, bias), tf.float32))
    np.testing.assert_array_equal(tape.gradient(total, bias), [4096.0, 4096.0])


@pytest.mark.parametrize("columns", [0, 2, H])
@pytest.mark.parametrize("first", [False, True])
def test_heads_told_apart_and_turned(first: bool, columns: int) -> None:
    positions = tf.constant([[0, 1, 2, 3, 4], [0, 1, 0, 1, 2]])
    rotation = rotation_table(positions, columns, 100.0) if columns else None

    def turned(x: tf.Tensor) -> tf.Tensor:
        if rotation is None:
            return x
        half = columns // 2
        pairs = tf.complex(x[..., :half], x[..., half:columns]) * tf.complex(*rotation)
        parts = [tf.math.real(pairs), tf.math.imag(pairs), x[..., columns:]]
        return tf.concat(parts, axis=-1)

    def formula(x: tf.Tensor) -> tuple[tf.Tensor, ...]:
        parts = (turned(x[:, :, :A]) * 0.5, turned(x[:, :, A:-K]), x[:, :, -K:])
        return tuple(tf.transpose(p, [0, 2, 1, 3]) if first else p for p in parts)

    assert_equal(
        lambda x: rotated_heads(x, rotation, Heads(A, K, 0.5, first)),
        formula,
        normal(B, T, A + 2 * K, H),
    )


@pytest.mark.parametrize("cap", [None, 0.8])
def test_softmax_of_masked_scores(cap: float | None) -> None:
    mask = tf.where(tf.linalg.band_part(tf.ones([T, T]), -1, 0) > 0, 0.0, -1e9)
    assert_equal(
        lambda x: (masked_softmax(x, mask, cap),),
        lambda x: (tf.nn.softmax((cap * tf.tanh(x / cap) if cap else x) + mask),),
        normal(B, K, A, T, T),
    )
