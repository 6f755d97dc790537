# SPDX-License-Identifier: Apache-2.0
from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.commands import UsageError
from trainer.models.model import ModelConfig, PrecisionConfig, build_model
from trainer.optimizers import Optimizer, OptimizerConfig
from trainer.train_step import Layout, StepMetrics, make_train_loop, unpack_rows

LENGTH, VOCAB, BATCH = 12, 20, 4


def test_a_packed_row_is_shifted_by_one_and_nothing_crosses_a_segment() -> None:
    batch = unpack_rows(
        {
            "tokens": tf.constant([[10, 11, 12, 20, 21, 22, 0, 0]]),
            "segment_lengths": tf.constant([[3, 3, 0]]),
        }
    )
    assert batch.inputs.numpy().tolist() == [[10, 11, 12, 20, 21, 22, 0]]
    assert batch.targets.numpy().tolist() == [[11, 12, 20, 21, 22, 0, 0]]
    assert batch.weights.numpy().tolist() == [[1, 1, 0, 1, 1, 0, 0]]
    assert batch.segment_ids.numpy().tolist() == [[1, 1, 1, 2, 2, 2, 0]]
    assert batch.positions.numpy().tolist() == [[0, 1, 2, 0, 1, 2, 0]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(1, 5), max_size=4), min_size=1, max_size=3))
def test_every_token_but_a_segments_first_is_a_target_once(
    rows: list[list[int]],
) -> None:
    lengths = np.zeros([len(rows), 5], np.int32)
    for row, segments in zip(lengths, rows, strict=True):
        row[: len(segments)] = segments
    tokens = np.arange(len(rows) * 21, dtype=np.int32).reshape(-1, 21)
    batch = unpack_rows(
        {"tokens": tf.constant(tokens), "segment_lengths": tf.constant(lengths)}
    )
    for index, segments in enumerate(rows):
        pairs, start = [], 0
        for size in segments:
            ids = tokens[index, start : start + size]
            pairs += list(pairwise(ids))
            start += size
        counted = batch.weights[index].numpy() == 1
        inputs = batch.inputs[index].numpy()[counted]
        targets = batch.targets[index].numpy()[counted]
        assert list(zip(inputs, targets, strict=True)) == pairs
        real = [(n, p) for n, size in enumerate(segments, 1) for p in range(size)]
        real = (real + [(0, 0)] * 20)[:20]
        found = zip(batch.segment_ids[index], batch.positions[index], strict=True)
        assert [(int(n), int(p)) for n, p in found] == real


def setup(
    family: str = "decoder",
    micro: int = BATCH,
    dropout: float = 0.0,
    **optimizer: float,
) -> tuple:
    """Returns (train loop, model, optimizer) on the default device."""
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        config = ModelConfig(
            family, num_layers=1, d_model=16, num_heads=2, dropout=dropout
        )
        model = build_model(config, VOCAB, PrecisionConfig(), seed=0)
        settings = OptimizerConfig(warmup_steps=2, **optimizer)
        state = Optimizer(model.trainable_variables, settings, 10)
    loop = make_train_loop(
        model,
        state,
        strategy,
        global_batch_size=BATCH,
        micro_batch_size=micro,
        seed=5,
    )
    return loop, model, state


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
@pytest.mark.parametrize("family", ["decoder", "recurrent"])
def test_a_loop_cut_anywhere_trains_the_same_model_bit_for_bit(family: str) -> None:
    features = block(6)
    whole, model, _ = setup(family, dropout=0.2)
    losses = whole(features, 6).loss_sum.numpy()
    cut, other, optimizer = setup(family, dropout=0.2)
    first = cut(part(features, np.s_[:4]), 4).loss_sum.numpy()
    second = cut(part(features, np.s_[4:]), 2).loss_sum.numpy()
    np.testing.assert_array_equal(losses, np.concatenate([first, second]))
    for one, two in zip(weights(model), weights(other), strict=True):
        np.testing.assert_array_equal(one, two)
    assert int(optimizer.step) == 6


@pytest.mark.parametrize("family", ["decoder", "recurrent"])
def test_accumulation_changes_nothing_dropout_included(family: str) -> None:
    features = block(3)
    results: list[StepMetrics] = []
    for micro in (4, 2, 1):
        loop, _, _ = setup(family, micro=micro, dropout=0.2)
        results.append(loop(features, 3))
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_a_step_that_is_not_finite_is_skipped_and_counted() -> None:
    features = block(3)
    loop, model, optimizer = setup()
    loop(part(features, np.s_[:1]), 1)
    before = weights(model)
    embedding = model.vocabulary.embedding
    embedding.assign(tf.tensor_scatter_nd_update(embedding, [[3, 0]], [np.nan]))
    features["tokens"][1, 0, 0] = 3
    metrics = loop(part(features, np.s_[1:2]), 1)
    assert metrics.skipped.numpy().tolist() == [1.0]
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


def test_a_batch_without_targets_is_skipped() -> None:
    features = block(1)
    loop, model, _ = setup()
    before = weights(model)
    metrics = loop(
        {**features, "segment_lengths": np.zeros([1, BATCH, 3], np.int32)}, 1
    )
    assert metrics.skipped.numpy().tolist() == [1.0]
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


def test_metrics_hold_one_number_per_step_asked_for() -> None:
    features = block(5)
    loop, _, optimizer = setup(peak_learning_rate=1.0, schedule="constant")
    metrics = loop(features, 3)
    assert {x.shape.as_list()[0] for x in metrics} == {3}
    assert metrics.learning_rate.numpy().tolist() == [0.5, 1.0, 1.0]
    expected = np.maximum(features["segment_lengths"][:3] - 1, 0).sum(axis=(1, 2))
    assert metrics.weight_sum.numpy().tolist() == expected.tolist()
    assert int(optimizer.step) == 3


@pytest.mark.parametrize(
    ("batch", "micro", "replicas"), [(8, 3, 1), (8, 4, 3), (0, 1, 1)]
)
def test_a_batch_that_does_not_divide_is_refused(
    batch: int, micro: int, replicas: int
) -> None:
    with pytest.raises(UsageError, match=r"data\.global_batch_size"):
        Layout(batch, micro, replicas)
