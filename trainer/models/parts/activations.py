# SPDX-License-Identifier: Apache-2.0
"""Activations of feed-forward layers, each with its slope, in float32.

silu        x s(x), s the logistic function
gelu        x P(x), P the normal distribution (Hendrycks and Gimpel 2016,
arXiv 1606.08415)
gelu_tanh   the same by 0.5 (1 + tanh(c (x + 0.044715 x^3))), c = sqrt(2 / pi)
relu        max(x, 0)
"""

import math

import tensorflow as tf

_C = math.sqrt(2.0 / math.pi)
_CUBE = 0.044715


def activated(x: tf.Tensor, name: str) -> tf.Tensor:
    """Returns the activation of float32 `x`."""
    if name == "silu":
        return tf.nn.silu(x)
    if name == "gelu":
        return x * _normal_share(x)
    if name == "gelu_tanh":
        return 0.5 * x * (1.0 + _tanh(x))
    return tf.nn.relu(x)


def activated_and_slope(x: tf.Tensor, name: str) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the activation of float32 `x` and its derivative."""
    if name == "silu":
        share = tf.sigmoid(x)
        return x * share, share + tf.raw_ops.SigmoidGrad(y=share, dy=x)
    if name == "gelu":
        share = _normal_share(x)
        density = tf.exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))
        return x * share, share + x * density
    if name == "gelu_tanh":
        t = _tanh(x)
        inner = _C * (1.0 + 3.0 * _CUBE * x * x)
        share = 0.5 * (1.0 + t)
        return x * share, share + 0.5 * x * (1.0 - t * t) * inner
    return tf.nn.relu(x), tf.cast(x > 0.0, x.dtype)


def _normal_share(x: tf.Tensor) -> tf.Tensor:
    return 0.5 * (1.0 + tf.math.erf(x * math.sqrt(0.5)))


def _tanh(x: tf.Tensor) -> tf.Tensor:
    return tf.tanh(_C * (x + _CUBE * x * x * x))
