# SPDX-License-Identifier: Apache-2.0
"""What every model and every optimizer must do, one suite for all of them."""

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.conformance_case import (
    STEPS,
    SUBJECTS,
    losses,
    make_subject,
    rows,
)
from trainer import checkpoints
from trainer.checkpoint_files import State
from trainer.checkpoint_writer import CheckpointWriter
from trainer.functional import called_with
from trainer.loop import Position
from trainer.train_step import Learner, make_train_loop, run_steps

every_subject = pytest.mark.parametrize("name", SUBJECTS)


@pytest.fixture(scope="module")
def one_device() -> tf.distribute.Strategy:
    return tf.distribute.OneDeviceStrategy("CPU:0")


@pytest.fixture(scope="module", autouse=True)
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    """Starts the runs on two replicas, which take their own process, at once."""
    output = tmp_path_factory.mktemp("conformance") / "losses.npz"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.trainer.conformance_case", str(output)],
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process, output
    process.kill()


@pytest.fixture(scope="module")
def replicated_losses(replicated: tuple) -> dict[str, np.ndarray]:
    process, output = replicated
    _, errors = process.communicate()
    assert process.returncode == 0, errors[-2000:]
    return dict(np.load(output))


def parts(learner: Learner) -> dict[str, tf.Module]:
    return {
        "model": learner.model,
        "optimizer": learner.optimizer,
        "guard": learner.guard,
    }


def half(first: int) -> dict[str, np.ndarray]:
    return {n: x[first : first + STEPS // 2] for n, x in rows().items()}


@every_subject
def test_a_checkpoint_taken_midway_changes_nothing_bit_for_bit(
    name: str, one_device: tf.distribute.Strategy, tmp_path
) -> None:
    tf.config.experimental.enable_op_determinism()
    learner, step = make_subject(name, one_device)
    train = make_train_loop(step, one_device)
    train(half(0), STEPS // 2).loss_sum.numpy()
    writer = CheckpointWriter(str(tmp_path), parts(learner), lambda steps: steps)
    writer.save(State(Position(step=STEPS // 2), "", 0))
    # The step goes on while the checkpoint is written.
    wanted = train(half(STEPS // 2), STEPS // 2).loss_sum.numpy()
    writer.close()
    other, step = make_subject(name, one_device, seed=1)
    checkpoints.restore(str(tmp_path), STEPS // 2, parts(other))
    found = make_train_loop(step, one_device)(half(STEPS // 2), STEPS // 2)
    np.testing.assert_array_equal(found.loss_sum.numpy(), wanted)
    for mine, theirs in zip(learner.variables, other.variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
    for mine, theirs in zip(learner.evaluated, other.evaluated, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


@every_subject
def test_the_whole_step_compiled_by_xla_gives_the_same_losses(
    name: str, one_device: tf.distribute.Strategy
) -> None:
    if SUBJECTS[name][0].dropout:
        pytest.skip("XLA draws other random numbers from the same seed")
    _, step = make_subject(name, one_device)

    @tf.function(autograph=False, jit_compile=True)
    def whole(features: dict[str, tf.Tensor]) -> tuple:
        return run_steps(step, one_device, features, STEPS)

    metrics = whole({n: tf.constant(x) for n, x in rows().items()})
    found = metrics.loss_sum.numpy() / metrics.weight_sum.numpy()
    np.testing.assert_allclose(found, losses(name, one_device), atol=1e-4)


@every_subject
def test_bfloat16_stays_close_to_float32(
    name: str, one_device: tf.distribute.Strategy
) -> None:
    _, step = make_subject(name, one_device, compute="bfloat16")
    metrics = make_train_loop(step, one_device)(rows(), STEPS)
    found = metrics.loss_sum.numpy() / metrics.weight_sum.numpy()
    np.testing.assert_allclose(found, losses(name, one_device), atol=0.05)


@every_subject
def test_a_saved_model_gives_the_logits_of_the_trained_one(
    name: str, one_device: tf.distribute.Strategy, tmp_path
) -> None:
    learner, step = make_subject(name, one_device)
    make_train_loop(step, one_device)(rows(), STEPS).loss_sum.numpy()
    model = learner.model

    def logits(tokens: tf.Tensor) -> tf.Tensor:
        positions = tf.tile(
            tf.range(tf.shape(tokens)[1])[None], [tf.shape(tokens)[0], 1]
        )
        return model.logits(model(tokens, tf.ones_like(tokens), positions))

    saved = tf.Module()
    saved.model = model
    saved.logits = tf.function(
        logits, autograph=False, input_signature=[tf.TensorSpec([None, 16], tf.int32)]
    )
    tf.saved_model.save(saved, str(tmp_path))
    tokens = tf.constant(rows()["tokens"][0, :, :16])
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_allclose(loaded.logits(tokens), logits(tokens), atol=1e-5)


@every_subject
def test_a_model_reads_the_tensors_it_is_called_with(
    name: str, one_device: tf.distribute.Strategy
) -> None:
    learner, _ = make_subject(name, one_device)
    zeros = [tf.zeros(v.shape) for v in learner.variables]
    tokens = tf.constant(rows()["tokens"][0, :, :16])
    with called_with(learner.places, zeros):
        hidden = learner.model(tokens, tf.ones_like(tokens), tf.zeros_like(tokens))
        assert not learner.model.logits(hidden).numpy().any()
    assert any(place.variable.numpy().any() for place in learner.places)


@every_subject
def test_two_replicas_train_as_one_device(
    name: str, replicated_losses: dict[str, np.ndarray]
) -> None:
    found = replicated_losses
    np.testing.assert_allclose(
        found[f"{name}/two"], found[f"{name}/one"], rtol=0, atol=5e-6
    )
    assert found[f"{name}/one"][0] > found[f"{name}/one"][-1]
