# SPDX-License-Identifier: Apache-2.0
"""Rows that say what is read and what is predicted, against numpy by segment."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.contracts.records import RecordFormat
from preprocessing.contracts.row_segments import row_segments
from preprocessing.foundation.commands import UsageError
from preprocessing.packing.packing import best_fit, pack
from trainer.compute.compilation import Compilation
from trainer.data.batch import unpack_rows
from trainer.models.decoder import DecoderConfig
from trainer.models.model import PrecisionConfig, build_model
from trainer.models.parts.attention import segment_mask
from trainer.models.recurrent import RecurrentConfig
from trainer.optimizers.optimizer import OptimizerConfig
from trainer.release.servable import check_servable
from trainer.run.config import RunConfig, resolved
from trainer.step.guard import GuardConfig
from trainer.step.layout import Layout
from trainer.step.losses import LossConfig, training_loss
from trainer.step.train_step import ReplicaStep, make_train_loop, make_train_state

LENGTH, VOCAB = 16, 40
KINDS = pytest.mark.parametrize("kind", ["prefix", "loss_mask"])
SIZES = st.lists(
    st.tuples(st.integers(1, 7), st.integers(1, 9)), min_size=1, max_size=9
)


def packed(kind: str, sizes: list[tuple[int, int]], rows: int | None = None) -> dict:
    """Returns rows of examples with so many inputs and targets each."""
    layout = RecordFormat(LENGTH, VOCAB, **{kind: True})
    prefix = np.array([size[0] for size in sizes])
    lengths = prefix + np.array([size[1] for size in sizes])
    ids = np.random.default_rng(len(sizes)).integers(0, VOCAB, lengths.sum())
    blocks = pack(ids, lengths, layout, best_fit, 0, 0, prefix)
    (block,) = blocks
    return {name: x[:rows].astype(np.int32) for name, x in block.features.items()}


def segments_of(features: dict) -> list:
    return [
        segment
        for row in range(len(features["tokens"]))
        for segment in row_segments(
            {
                name: x[row].astype(np.uint8 if name == "loss_mask" else x.dtype)
                for name, x in features.items()
            }
        )
    ]


def batch_of(features: dict):
    return unpack_rows({name: tf.constant(x) for name, x in features.items()})


@KINDS
@settings(max_examples=50, deadline=None)
@given(sizes=SIZES)
def test_the_weighted_targets_are_those_after_the_inputs(
    kind: str, sizes: list[tuple[int, int]]
) -> None:
    features = packed(kind, sizes)
    batch, wanted = batch_of(features), []
    for segment in segments_of(features):
        pairs = list(zip(segment.ids[:-1], segment.ids[1:], strict=True))
        wanted += pairs[len(segment.inputs) - 1 :]
    counted = batch.weights.numpy() == 1
    found = zip(batch.inputs[counted], batch.targets[counted], strict=True)
    assert [(int(a), int(b)) for a, b in found] == wanted
    assert len(wanted) == sum(size[1] for size in sizes)


@settings(max_examples=50, deadline=None)
@given(sizes=SIZES)
def test_a_query_sees_its_past_and_its_segments_prefix_and_nothing_else(
    sizes: list[tuple[int, int]],
) -> None:
    batch = batch_of(packed("prefix", sizes))
    assert batch.prefix is not None
    mask = segment_mask(batch.segment_ids, batch.prefix).numpy()[:, 0, 0] == 0
    segments, prefix = batch.segment_ids.numpy(), batch.prefix.numpy()
    for row in range(len(segments)):
        for query in range(LENGTH):
            for key in range(LENGTH):
                same = segments[row, query] == segments[row, key]
                seen = same and (key <= query or prefix[row, key])
                assert mask[row, query, key] == seen


def small_decoder():
    config = DecoderConfig(num_layers=2, d_model=16, num_heads=2)
    return build_model(config, VOCAB, PrecisionConfig(), seed=0)


@KINDS
def test_the_loss_of_packed_rows_is_that_of_each_example_alone(kind: str) -> None:
    features, model = packed(kind, [(3, 4), (1, 1), (5, 9), (7, 2), (2, 6)]), None
    model = small_decoder()
    batch = batch_of(features)
    hidden = model(
        batch.inputs, batch.segment_ids, batch.positions, prefix=batch.prefix
    )
    _, loss_sum, weight = training_loss(
        model, hidden, batch.targets, batch.weights, LossConfig()
    )
    total = count = 0.0
    for segment in segments_of(features):
        ids = segment.ids[None].astype(np.int32)
        positions = np.arange(ids.shape[1] - 1, dtype=np.int32)[None]
        prefix = tf.constant(positions < len(segment.inputs))
        hidden = model(
            ids[:, :-1],
            np.ones_like(positions),
            positions,
            prefix=prefix if kind == "prefix" else None,
        )
        logs = tf.nn.log_softmax(model.logits(hidden)[0]).numpy()
        for place in range(len(segment.inputs), ids.shape[1]):
            total -= float(logs[place - 1, ids[0, place]])
            count += 1
    assert float(weight) == count == 22
    assert float(loss_sum) == pytest.approx(total, rel=1e-5)


def test_an_input_sees_later_inputs_but_no_target() -> None:
    features = packed("prefix", [(6, 5)], 1)
    model, states = small_decoder(), []
    for change in (None, 4, 7):  # an input, a target
        tokens = features["tokens"].copy()
        if change is not None:
            tokens[0, change] = (tokens[0, change] + 1) % VOCAB
        batch = batch_of({**features, "tokens": tokens})
        states.append(
            model(
                batch.inputs, batch.segment_ids, batch.positions, prefix=batch.prefix
            ).numpy()[0]
        )
    same, later_input, later_target = states
    assert (np.abs(same[:4] - later_input[:4]).max(axis=1) > 1e-6).all()
    np.testing.assert_array_equal(same[:7], later_target[:7])


@pytest.mark.slow
@KINDS
def test_a_step_weighs_the_targets_alone_and_learns_them(kind: str) -> None:
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    features = packed(kind, [(3, 9), (5, 9), (7, 6), (2, 9)], 4)
    rows = {name: np.stack([x] * 20) for name, x in features.items()}
    with strategy.scope():
        model = small_decoder()
        config = OptimizerConfig(warmup_steps=1, peak_learning_rate=0.01)
        state = make_train_state(model, config, GuardConfig(), 40)
    step = ReplicaStep(
        state, strategy, Layout(4, 2, 1), LossConfig(), 0, Compilation.NONE
    )
    train = make_train_loop(step, strategy)
    metrics = train(rows, 20)
    assert metrics.weight_sum.numpy().tolist() == [33.0] * 20
    losses = metrics.loss_sum.numpy() / 33
    assert losses[0] == pytest.approx(math.log(VOCAB), rel=0.1)
    assert losses[-1] < 0.8 * losses[0]


def marked(manifest, objective: str, layout: RecordFormat):
    return dataclasses.replace(
        manifest,
        objective=objective,
        features=layout.features(),
        record_bytes=layout.record_bytes,
    )


def test_datasets_no_family_can_train_on_are_refused(manifest) -> None:
    prefix = marked(manifest, "prefix", RecordFormat(64, 300, prefix=True))
    recurrent = RunConfig(model=RecurrentConfig())
    with pytest.raises(UsageError, match="reads prefix_lengths"):
        resolved(recurrent, [prefix])
    resolved(RunConfig(), [prefix])
    with pytest.raises(UsageError, match="from left to right"):
        check_servable(prefix)
    apart = marked(manifest, "pairs", RecordFormat(64, 300, target_length=64))
    with pytest.raises(UsageError, match="with --layout decoder"):
        resolved(RunConfig(), [apart])
