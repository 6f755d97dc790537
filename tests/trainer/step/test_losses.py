# SPDX-License-Identifier: Apache-2.0
"""The loss in chunks equals its formula, and so does its gradient."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from preprocessing.foundation.commands import UsageError
from trainer.models.decoder import DecoderConfig
from trainer.models.functional import called_with, weight_places
from trainer.models.model import PrecisionConfig, build_model
from trainer.step.losses import LossConfig, target_nats, token_nats, training_loss

VOCAB, WIDTH = 11, 8


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.1, 1.0, 30.0, 1000.0]))
@example(seed=681, spread=1000.0)  # few nats beside large logits
def test_nats_equal_tensorflows(seed: int, spread: float) -> None:
    random = np.random.default_rng(seed)
    logits = tf.constant(random.standard_normal([6, 11]) * spread, tf.float32)
    targets = tf.constant(random.integers(0, 11, 6), tf.int32)
    wanted = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
    nats, shares = token_nats(logits, targets)
    np.testing.assert_allclose(nats, wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(shares, tf.nn.softmax(logits), atol=1e-6)


class Case:
    """Hidden states, a matrix and weighted targets, in float64 for the reference."""

    def __init__(self, seed: int, shape: tuple[int, int] = (2, 7)) -> None:
        random = np.random.default_rng(seed)
        self.hidden = random.standard_normal([*shape, WIDTH])
        self.matrix = random.standard_normal([VOCAB, WIDTH])
        self.targets = random.integers(0, VOCAB, shape)
        self.weights = random.integers(0, 2, shape).astype(float)
        config = DecoderConfig(num_layers=1, d_model=WIDTH, num_heads=2)
        self.model = build_model(config, VOCAB, PrecisionConfig(), seed=0)
        self.places = weight_places(self.model)

    def found(self, config: LossConfig, scale: float | None, dtype: str) -> list:
        """Returns objective, loss sum, weight, and both gradients."""
        hidden = tf.cast(self.hidden, dtype)
        values = [tf.convert_to_tensor(p.variable) for p in self.places]
        at = [p.path for p in self.places].index("vocabulary/embedding")
        values[at] = tf.cast(self.matrix, tf.float32)
        factor = None if scale is None else tf.constant(scale)
        with tf.GradientTape() as tape, called_with(self.places, values):
            tape.watch([hidden, values[at]])
            objective, loss_sum, weight = training_loss(
                self.model,
                hidden,
                tf.constant(self.targets, tf.int32),
                tf.constant(self.weights, tf.float32),
                config,
                factor,
            )
        gradients = tape.gradient(objective, [hidden, values[at]])
        return [objective, loss_sum, weight, *gradients]

    def wanted(self, config: LossConfig, scale: float) -> list:
        """Returns the same from the formula, by hand in float64."""
        logits = self.hidden @ self.matrix.T
        top = logits.max(-1, keepdims=True)
        lse = (top + np.log(np.exp(logits - top).sum(-1, keepdims=True)))[..., 0]
        hot = np.eye(VOCAB)[self.targets]
        nats = lse - (logits * hot).sum(-1)
        s, z = config.label_smoothing, config.z_loss
        each = (1 - s) * nats + s * (lse - logits.mean(-1)) + z * lse**2
        shares = np.exp(logits - lse[..., None])
        down = shares * (1 + 2 * z * lse)[..., None] - (1 - s) * hot - s / VOCAB
        down *= self.weights[..., None] * scale
        return [
            scale * (each * self.weights).sum(),
            (nats * self.weights).sum(),
            self.weights.sum(),
            down @ self.matrix,
            np.einsum("btv,btd->vd", down, self.hidden),
        ]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    chunk=st.sampled_from([1, 3, 7, 14, 100]),
    smoothing=st.sampled_from([0.0, 0.1]),
    z_loss=st.sampled_from([0.0, 1e-2]),
    scale=st.sampled_from([None, 4.0]),
)
def test_loss_and_gradients_equal_their_formula(
    seed: int, chunk: int, smoothing: float, z_loss: float, scale: float | None
) -> None:
    case, config = Case(seed), LossConfig(smoothing, z_loss, chunk)
    found = case.found(config, scale, "float32")
    for one, two in zip(found, case.wanted(config, scale or 1.0), strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("chunk", [4, 100])
def test_bfloat16_is_close(chunk: int) -> None:
    case, config = Case(3), LossConfig(0.1, 1e-3, chunk)
    found = case.found(config, None, "bfloat16")
    for one, two in zip(found, case.wanted(config, 1.0), strict=True):
        np.testing.assert_allclose(tf.cast(one, "float32"), two, rtol=0.05, atol=0.2)


def test_chunks_compile_under_xla() -> None:
    case, config = Case(5), LossConfig(0.1, 1e-2, 4)
    compiled = tf.function(
        lambda: case.found(config, 2.0, "float32"), jit_compile=True, autograph=False
    )
    for one, two in zip(compiled(), case.wanted(config, 2.0), strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("chunk", [3, 7, 100])
def test_nats_of_every_target_come_in_order_whatever_the_chunk(chunk: int) -> None:
    case = Case(7)
    hidden = tf.constant(case.hidden, tf.float32)
    nats = target_nats(case.model, hidden, tf.constant(case.targets, tf.int32), chunk)
    logits = tf.reshape(case.model.logits(hidden), [-1, VOCAB])
    wanted = tf.nn.sparse_softmax_cross_entropy_with_logits(
        case.targets.ravel(), logits
    )
    np.testing.assert_allclose(nats, wanted, rtol=1e-5, atol=1e-5)


def test_no_tensor_of_a_step_holds_the_logits_of_a_whole_batch() -> None:
    case = Case(9, shape=(8, 16))

    @tf.function(autograph=False)
    def traced() -> list:
        return case.found(LossConfig(chunk=16), None, "float32")

    largest = 8 * 16 * VOCAB
    graphs = [traced.get_concrete_function().graph]
    graphs += [f.graph for f in graphs[0]._functions.values() if hasattr(f, "graph")]
    sizes = [
        output.shape.num_elements()
        for graph in graphs
        for operation in graph.get_operations()
        for output in operation.outputs
        if output.shape.is_fully_defined()
    ]
    assert largest not in sizes and max(sizes) >= 16 * VOCAB


@pytest.mark.parametrize(
    ("name", "value"), [("label_smoothing", 1.0), ("z_loss", -1.0), ("chunk", 0)]
)
def test_settings_without_meaning_are_refused(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"loss\.{name}"):
        replace(LossConfig(), **{name: value})
