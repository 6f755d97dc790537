# SPDX-License-Identifier: Apache-2.0
"""The gradient of the gate, written by hand, equals its formula's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.models.parts.feed_forward import FeedForward, FeedForwardSizes
from trainer.models.parts.layers import Initializer

WIDTH, INNER = 6, 5


def inputs(seed: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns `[positions, width]` values and the gradient of a result, float64."""
    random = np.random.default_rng(seed)
    shape = [7, WIDTH]
    return spread * random.standard_normal(shape), random.standard_normal(shape)


def slopes(
    function: Callable[..., Any], values: list[tf.Tensor], upstream: np.ndarray
) -> list[tf.Tensor]:
    """Returns the gradients of values, from that of `function(*values)`."""
    with tf.GradientTape() as tape:
        tape.watch(values)
        result = function(*values)
    return tape.gradient(result, values, tf.cast(upstream, result.dtype))


def plain_swiglu(x: tf.Tensor, gate_up: tf.Tensor, down: tf.Tensor) -> tf.Tensor:
    gate, up = tf.split(x @ gate_up, 2, axis=-1)
    return (gate * tf.sigmoid(gate) * up) @ down


def swiglu_and_weights(seed: int) -> tuple[Callable[..., Any], list[tf.Tensor]]:
    """Returns the layer as a function of input and weights, and float32 weights."""
    layer = FeedForward(FeedForwardSizes(WIDTH, INNER, 1), Initializer(seed))
    weights = [tf.convert_to_tensor(layer.gate_up), tf.convert_to_tensor(layer.down)]

    def function(x: tf.Tensor, gate_up: tf.Tensor, down: tf.Tensor) -> tf.Tensor:
        layer.gate_up, layer.down = gate_up, down
        return layer(x)

    return function, weights


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    # Gates up to 60: sigmoid is 0 or 1 to the last digit there.
    spread=st.sampled_from([1e-3, 1.0, 30.0]),
)
def test_gradients_equal_those_of_the_formula_in_float64(
    seed: int, spread: float
) -> None:
    function, weights = swiglu_and_weights(seed)
    x, upstream = inputs(seed, spread)
    found = slopes(function, [tf.cast(x, tf.float32), *weights], upstream)
    exact = [tf.constant(x), *(tf.cast(w, tf.float64) for w in weights)]
    for one, two in zip(found, slopes(plain_swiglu, exact, upstream), strict=True):
        largest = float(tf.reduce_max(tf.abs(two)))
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6 + 1e-5 * largest)


@pytest.mark.parametrize(("dtype", "digit"), [("bfloat16", 2**-7), ("float16", 2**-10)])
def test_a_half_gradient_is_within_some_last_digits_of_float32s(
    dtype: str, digit: float
) -> None:
    function, weights = swiglu_and_weights(4)
    x, upstream = inputs(4, 1.0)
    full = slopes(function, [tf.cast(x, tf.float32), *weights], upstream)
    half = slopes(function, [tf.cast(x, dtype), *weights], upstream)
    for one, two in zip(half, full, strict=True):
        largest = float(tf.reduce_max(tf.abs(two)))
        error = np.abs(tf.cast(one, tf.float32) - two).max()
        assert error <= 4 * digit * largest
