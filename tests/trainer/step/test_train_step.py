# SPDX-License-Identifier: Apache-2.0
"""A loop of steps: cut anywhere, accumulated, skipped, compiled."""

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.foundation.commands import UsageError
from trainer.compute.compilation import Compilation
from trainer.models.decoder import DecoderConfig
from trainer.models.model import PrecisionConfig, build_model, with_family
from trainer.optimizers.optimizer import Optimizer, OptimizerConfig
from trainer.step.guard import NO_TARGETS, NOT_FINITE, OVERFLOW, GuardConfig
from trainer.step.layout import Layout
from trainer.step.losses import LossConfig
from trainer.step.step_metrics import StepMetrics
from trainer.step.train_step import (
    ReplicaStep,
    make_train_loop,
    make_train_state,
)

pytestmark = pytest.mark.slow

LENGTH, VOCAB, BATCH = 12, 20, 4


def setup(
    family: str = "decoder",
    micro: int = BATCH,
    dropout: float = 0.0,
    compute: str = "float32",
    xla: str = "none",
    lanes: int = 1,
    seed: int = 5,
    **optimizer: float,
) -> tuple:
    """Returns (train loop, model, optimizer) on the default device."""
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        decoder = DecoderConfig(num_layers=1, d_model=16, num_heads=2, dropout=dropout)
        config = with_family(decoder, family)
        model = build_model(config, VOCAB, PrecisionConfig(compute=compute), seed=0)
        settings = OptimizerConfig(warmup_steps=2, **optimizer)
        state = make_train_state(model, settings, GuardConfig(), 10)
    layout = Layout(BATCH, micro, 1, lanes)
    step = ReplicaStep(state, strategy, layout, LossConfig(), seed, Compilation(xla))
    return make_train_loop(step, strategy), model, state.optimizer


def block(steps: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    tokens = random.integers(0, VOCAB, [steps, BATCH, LENGTH + 1], np.int32)
    lengths = np.zeros([steps, BATCH, 3], np.int32)
    lengths[..., 0] = random.integers(2, 7, [steps, BATCH])
    lengths[..., 1] = random.integers(0, 6, [steps, BATCH])
    return {"tokens": tokens, "segment_lengths": lengths}


def part(features: dict[str, np.ndarray], steps: slice) -> dict[str, np.ndarray]:
    return {name: values[steps] for name, values in features.items()}


def weights(model: tf.Module) -> list[np.ndarray]:
    return [v.numpy() for v in model.trainable_variables]


@pytest.mark.smoke
@pytest.mark.parametrize(("xla", "lanes"), [("none", 1), ("parts", 1), ("parts", 2)])
@pytest.mark.parametrize("family", ["decoder", "recurrent"])
def test_a_loop_cut_anywhere_trains_the_same_model_bit_for_bit(
    family: str, xla: str, lanes: int
) -> None:
    features = block(6)
    whole, model, _ = setup(family, dropout=0.2, xla=xla, lanes=lanes)
    losses = whole(features, 6).loss_sum.numpy()
    cut, other, optimizer = setup(family, dropout=0.2, xla=xla, lanes=lanes)
    first = cut(part(features, np.s_[:4]), 4).loss_sum.numpy()
    second = cut(part(features, np.s_[4:]), 2).loss_sum.numpy()
    np.testing.assert_array_equal(losses, np.concatenate([first, second]))
    for one, two in zip(weights(model), weights(other), strict=True):
        np.testing.assert_array_equal(one, two)
    assert int(optimizer.step) == 6


@pytest.mark.parametrize("family", ["decoder", "recurrent"])
def test_accumulation_and_lanes_change_nothing_dropout_included(family: str) -> None:
    features = block(3)
    results: list[StepMetrics[tf.Tensor]] = []
    for micro, lanes in ((4, 1), (1, 1), (4, 4), (2, 2)):
        loop, _, _ = setup(family, micro=micro, dropout=0.2, lanes=lanes)
        results.append(loop(features, 3))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("xla", ["none", "parts"])
def test_a_step_that_is_not_finite_is_skipped_and_counted(xla: str) -> None:
    features = block(3)
    loop, model, optimizer = setup(xla=xla)
    loop(part(features, np.s_[:1]), 1)
    before = weights(model)
    embedding = model.vocabulary.embedding
    embedding.assign(tf.tensor_scatter_nd_update(embedding, [[3, 0]], [np.nan]))
    features["tokens"][1, 0, 0] = 3
    metrics = loop(part(features, np.s_[1:2]), 1)
    assert metrics.skipped.numpy().tolist() == [NOT_FINITE]
    assert not np.isfinite(metrics.gradient_norm.numpy()).any()
    embedding.assign(before[_index_of(model, embedding)])
    for old, new in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(old, new)
    assert np.isfinite(
        np.concatenate([m.numpy().ravel() for m in _moments(optimizer)])
    ).all()
    metrics = loop(part(features, np.s_[2:]), 1)
    assert metrics.skipped.numpy().tolist() == [0.0]
    assert (int(optimizer.step), int(optimizer.skipped)) == (3, 1)


def _index_of(model: tf.Module, variable: tf.Variable) -> int:
    return [v is variable for v in model.trainable_variables].index(True)


def _moments(optimizer: Optimizer) -> list[tf.Variable]:
    return [*optimizer.first_moments, *optimizer.second_moments]


@pytest.mark.parametrize("xla", ["none", "parts"])
def test_a_batch_without_targets_is_skipped(xla: str) -> None:
    features = block(1)
    loop, model, _ = setup(xla=xla)
    before = weights(model)
    metrics = loop(
        {**features, "segment_lengths": np.zeros([1, BATCH, 3], np.int32)}, 1
    )
    assert metrics.skipped.numpy().tolist() == [NO_TARGETS]
    assert metrics.weight_sum.numpy().tolist() == [0.0]
    for old, new in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_clipping_scales_the_whole_gradient_to_the_norm() -> None:
    features = block(1)
    changes = []
    for clip in (0.0, 0.01):
        loop, model, _ = setup(name="sgd", peak_learning_rate=1.0, clip_norm=clip)
        before = weights(model)
        norm = float(loop(features, 1).gradient_norm[0])
        pairs = zip(before, weights(model), strict=True)
        changes.append(np.concatenate([(a - b).ravel() for a, b in pairs]))
    assert norm > 0.01
    np.testing.assert_allclose(changes[0] * 0.01 / norm, changes[1], atol=1e-6)
    rate = 0.5  # first of two warm-up steps
    assert np.linalg.norm(changes[1]) == pytest.approx(rate * 0.01, rel=1e-3)


def test_a_gradient_smaller_than_the_norm_is_untouched() -> None:
    features, ends = block(2), []
    for clip in (0.0, 1e3):
        loop, model, _ = setup(name="sgd", peak_learning_rate=1.0, clip_norm=clip)
        assert (loop(features, 2).gradient_norm.numpy() < 1e3).all()
        ends.append(weights(model))
    for one, two in zip(*ends, strict=True):
        np.testing.assert_array_equal(one, two)


def test_metrics_hold_one_number_per_step_asked_for() -> None:
    features = block(5)
    loop, _, optimizer = setup(peak_learning_rate=1.0, schedule="constant")
    metrics = loop(features, 3)
    assert {x.shape.as_list()[0] for x in metrics} == {3}
    assert metrics.learning_rate.numpy().tolist() == [0.5, 1.0, 1.0]
    expected = np.maximum(features["segment_lengths"][:3] - 1, 0).sum(axis=(1, 2))
    assert metrics.weight_sum.numpy().tolist() == expected.tolist()
    assert int(optimizer.step) == 3


@pytest.mark.parametrize("family", ["decoder", "recurrent"])
def test_float16_finds_a_loss_scale_and_trains(family: str) -> None:
    features = {name: np.repeat(x, 12, axis=0) for name, x in block(1).items()}
    loop, _, _ = setup(family, compute="float16", peak_learning_rate=1e-2)
    metrics = loop(features, 12)
    codes = metrics.skipped.numpy()
    losses = metrics.loss_sum.numpy() / metrics.weight_sum.numpy()
    assert set(codes) <= {0.0, OVERFLOW} and not codes[6:].any()
    halvings = np.cumsum(codes == OVERFLOW) - (codes == OVERFLOW)
    assert metrics.loss_scale.numpy().tolist() == (2.0 ** (15 - halvings)).tolist()
    assert losses[-1] < losses[0] - 0.05
    exact, _, _ = setup(family)
    wanted = exact(features, 1)
    loss = wanted.loss_sum.numpy()[0] / wanted.weight_sum.numpy()[0]
    assert losses[0] == pytest.approx(loss, abs=5e-3)
    # Whatever the loss was scaled by, the norm is that of its own gradient.
    norm = metrics.gradient_norm.numpy()[codes == 0][0]
    assert norm == pytest.approx(float(wanted.gradient_norm[0]), rel=2e-2)


def test_dropout_falls_anew_in_every_step_and_by_the_seed() -> None:
    features = {name: np.repeat(x, 2, axis=0) for name, x in block(1).items()}
    losses = []
    for seed in (5, 6):
        loop, _, _ = setup(dropout=0.3, seed=seed, peak_learning_rate=1e-30)
        losses += loop(features, 2).loss_sum.numpy().tolist()
    assert len(set(losses)) == 4


def test_one_target_is_as_much_as_two_of_the_same() -> None:
    features, ends = block(1), []
    for rows in (1, 2):
        lengths = np.zeros_like(features["segment_lengths"])
        lengths[0, :rows, 0] = 2  # one target each
        tokens = np.repeat(features["tokens"][:, :1], BATCH, axis=1)
        loop, model, _ = setup(name="sgd", peak_learning_rate=1.0, clip_norm=0.0)
        loop({"tokens": tokens, "segment_lengths": lengths}, 1)
        ends.append(weights(model))
    for one, two in zip(*ends, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_a_batch_of_another_size_is_trained_on_by_the_same_loop() -> None:
    features = block(2)
    loop, model, _ = setup(micro=2)
    loop({name: x[:, :2] for name, x in features.items()}, 2)
    half = weights(model)
    other, model, _ = setup(micro=2)
    full = {
        name: np.concatenate([x[:, :2], x[:, :2]], 1) for name, x in features.items()
    }
    other(full, 2)
    for one, two in zip(half, weights(model), strict=True):
        np.testing.assert_allclose(one, two, atol=2e-6)  # the mean of twice the same


@pytest.mark.parametrize(
    ("batch", "micro", "replicas"), [(8, 3, 1), (8, 4, 3), (0, 1, 1)]
)
def test_a_batch_that_does_not_divide_is_refused(
    batch: int, micro: int, replicas: int
) -> None:
    with pytest.raises(UsageError, match=r"data\.global_batch_size"):
        Layout(batch, micro, replicas)
