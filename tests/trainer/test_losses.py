# SPDX-License-Identifier: Apache-2.0
import numpy as np
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trainer.losses import cross_entropy, token_nats
from trainer.models.model import ModelConfig, PrecisionConfig, build_model


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.1, 1.0, 30.0, 1000.0]))
@example(seed=681, spread=1000.0)  # few nats beside large logits
def test_nats_and_their_gradient_equal_tensorflows(seed: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    logits = tf.constant(random.standard_normal([6, 11]) * spread, tf.float32)
    targets = tf.constant(random.integers(0, 11, 6), tf.int32)
    weights = tf.constant(random.random(6), tf.float32)
    found, expected = [], []
    for function, results in (
        (token_nats, found),
        (
            lambda x, y: tf.nn.sparse_softmax_cross_entropy_with_logits(y, x),
            expected,
        ),
    ):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            nats = function(logits, targets)
            total = tf.reduce_sum(nats * weights)
        results += [nats, tape.gradient(total, logits)]
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-5)


def test_sum_and_weight_count_weighted_targets_alone() -> None:
    config = ModelConfig(num_layers=1, d_model=8, num_heads=2)
    model = build_model(config, 5, PrecisionConfig(), seed=0)
    hidden = tf.constant(np.random.default_rng(0).standard_normal([2, 3, 8]), "float32")
    targets, weights = tf.constant([[1, 2, 3], [4, 0, 1]]), [[1.0, 1, 0], [0, 1, 0]]
    nats, weight = cross_entropy(model, hidden, targets, tf.constant(weights))
    shares = tf.nn.softmax(hidden @ tf.transpose(model.output_weights())).numpy()
    by_hand = -np.log([shares[0, 0, 1], shares[0, 1, 2], shares[1, 1, 0]]).sum()
    np.testing.assert_allclose(nats, by_hand, rtol=1e-5)
    assert float(weight) == 3.0
