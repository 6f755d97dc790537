# SPDX-License-Identifier: Apache-2.0
"""A configuration that is accepted trains: its losses are finite, whatever it says."""

import dataclasses
import typing

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from preprocessing.foundation.commands import UsageError
from trainer.compute.compilation import Compilation
from trainer.models.decoder import DecoderConfig
from trainer.models.model import build_model
from trainer.optimizers.optimizer import OPTIMIZERS
from trainer.optimizers.schedules import SCHEDULES
from trainer.run.config import RunConfig, with_pairs
from trainer.step.layout import Layout
from trainer.step.train_step import ReplicaStep, make_train_state

VOCAB, LENGTH, BATCH, STEPS = 11, 6, 2, 3
BASE = dataclasses.replace(
    RunConfig(), model=DecoderConfig(num_layers=1, d_model=8, num_heads=2, ffn_dim=8)
)
# Tables whose numbers a step computes with.
TABLES = ("model", "optimizer", "loss", "guard")


def float_keys(config: RunConfig) -> list[str]:
    """Returns the keys of such tables whose values are floats."""
    return [
        f"{table}.{name}"
        for table in TABLES
        for name, kind in typing.get_type_hints(type(getattr(config, table))).items()
        if kind is float
    ]


EDGES = (0.0, 1e-46, 1e-38, 1e-20, 1e-8, 1.0, 1e3, 1e39, 1 - 1e-8, 1 - 1e-7, 0.999)
NUMBERS = st.one_of(
    st.sampled_from(EDGES),
    st.integers(-46, 39).map(lambda power: 10.0**power),
    st.integers(1, 9).map(lambda digits: 1.0 - 10.0**-digits),
    st.floats(0.0, 1.0),
)
PAIRS = st.lists(
    st.tuples(st.sampled_from(float_keys(BASE)), NUMBERS), min_size=1, max_size=3
)


def losses(config: RunConfig) -> np.ndarray:
    """Returns the losses of three steps, and of the model that they leave."""
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    random = np.random.default_rng(0)
    tokens = random.integers(0, VOCAB - 2, [BATCH, LENGTH + 1], np.int32)
    lengths = np.array([[LENGTH + 1, 0], [4, 2]], np.int32)
    features = {"tokens": tf.constant(tokens), "segment_lengths": tf.constant(lengths)}
    with strategy.scope():
        model = build_model(config.model, VOCAB, config.precision, seed=0)
        state = make_train_state(model, config.optimizer, config.guard, STEPS)
    step = ReplicaStep(
        state, strategy, Layout(BATCH, BATCH, 1), config.loss, 0, Compilation.NONE
    )
    results = [strategy.run(step, (features,)) for _ in range(STEPS + 1)]
    return np.array([float(each.loss_sum / each.weight_sum) for each in results])


@pytest.mark.slow
@given(
    PAIRS,
    st.sampled_from(OPTIMIZERS),
    st.sampled_from(SCHEDULES),
    st.sampled_from(["float32", "bfloat16"]),
    st.sampled_from([0, 2]),
)
@example([("optimizer.peak_learning_rate", 1e39)], "adamw", "constant", "float32", 0)
@example([("optimizer.beta2", 0.99999999)], "adamw", "constant", "float32", 0)
@example([("optimizer.beta2", 0.9999999)], "adam", "constant", "float32", 0)
@example([("optimizer.clip_norm", 1e39)], "adamw", "constant", "float32", 0)
@example([("optimizer.epsilon", 1e-46)], "adamw", "constant", "float32", 0)
@example([("optimizer.weight_decay", 1e39)], "adamw", "constant", "float32", 0)
@example([("model.dropout", 0.99999999)], "adamw", "constant", "float32", 0)
@example([("model.rope_theta", 0.0)], "adamw", "constant", "float32", 0)
@example([("model.norm_epsilon", 0.0)], "adamw", "constant", "float32", 0)
@example([("optimizer.peak_learning_rate", 1e3)], "sgd", "constant", "float32", 0)
@settings(max_examples=12, deadline=None, derandomize=True)
def test_what_is_accepted_has_finite_losses(pairs, name, schedule, compute, warmup):
    texts = [
        f"optimizer.name={name}",
        f"optimizer.schedule={schedule}",
        f"optimizer.warmup_steps={warmup}",
        f"precision.compute={compute}",
        *(f"{key}={value!r}" for key, value in pairs),
    ]
    try:
        config = with_pairs(BASE, texts)
        config.optimizer.check_fits(STEPS)
    except UsageError as error:
        # What is refused is named by a key that there is.
        assert any(key in str(error) for key, _ in pairs)
        return
    assert np.isfinite(losses(config)).all()
