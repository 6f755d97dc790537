# SPDX-License-Identifier: Apache-2.0
"""The GRU against its formula in numpy."""

import numpy as np
import tensorflow as tf

from trainer.models.parts.layers import Initializer
from trainer.models.recurrent import GRU


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def gru_by_hand(
    layer: GRU, x: np.ndarray, reset: np.ndarray, state: np.ndarray
) -> np.ndarray:
    """Runs the formula of `trainer/models/recurrent.py` gate by gate."""
    w_z, w_r, w_n = np.split(layer.kernel.numpy(), 3, axis=1)
    u_z, u_r, u_n = np.split(layer.recurrent_kernel.numpy(), 3, axis=1)
    b_z, b_r, b_n = np.split(layer.bias.numpy(), 3)
    c_z, c_r, c_n = np.split(layer.recurrent_bias.numpy(), 3)
    states = []
    for time in range(x.shape[1]):
        now, state = x[:, time], np.where(reset[:, time, None], 0.0, state)
        z = sigmoid(now @ w_z + b_z + state @ u_z + c_z)
        r = sigmoid(now @ w_r + b_r + state @ u_r + c_r)
        n = np.tanh(now @ w_n + b_n + r * (state @ u_n + c_n))
        state = z * state + (1.0 - z) * n
        states.append(state)
    return np.stack(states, axis=1)


def test_the_gru_follows_its_formula() -> None:
    random = np.random.default_rng(0)
    layer = GRU(5, Initializer(0))
    for bias in (layer.bias, layer.recurrent_bias):
        bias.assign(random.standard_normal(15))
    x = random.standard_normal([3, 7, 5]).astype("float32")
    start = random.standard_normal([3, 5]).astype("float32")
    reset = random.random([3, 7]) < 0.3
    assert reset.any() and not reset.all()
    states = layer(tf.constant(x), tf.constant(reset), tf.constant(start))
    np.testing.assert_allclose(states, gru_by_hand(layer, x, reset, start), atol=1e-5)
