# SPDX-License-Identifier: Apache-2.0
"""What every model and every optimizer must do, one suite for all of them."""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.forked import Forked
from tests.trainer.step.conformance_case import (
    FAMILIES,
    STEPS,
    SUBJECTS,
    make_subject,
    mean_loss,
    rows,
)
from trainer.compute.fusion import compiling
from trainer.models.functional import called_with
from trainer.run import checkpoints
from trainer.run.checkpoint_files import State
from trainer.run.checkpoint_writer import CheckpointWriter
from trainer.run.position import Position
from trainer.step.train_step import TrainState, make_train_loop, run_steps

pytestmark = pytest.mark.slow


def subjects(*drills: str) -> pytest.MarkDecorator:
    """Returns all subjects as parameters, those whose names begin so as drills."""
    marks = {True: [pytest.mark.drill], False: []}
    return pytest.mark.parametrize(
        "name",
        [pytest.param(name, marks=marks[name.startswith(drills)]) for name in SUBJECTS],
    )


every_subject = subjects(*FAMILIES)
# What is asked of a model alone is asked once, not again with each optimizer.
every_model = subjects(*FAMILIES, "optimizer")


@pytest.fixture(scope="module")
def one_device() -> tf.distribute.Strategy:
    return tf.distribute.OneDeviceStrategy("CPU:0")


@pytest.fixture(scope="module", autouse=True)
def replicated(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple]:
    """Starts the runs on two replicas, which take their own process, at once."""
    output = tmp_path_factory.mktemp("conformance") / "losses.npz"
    module = "tests.trainer.step.conformance_case"
    asked = {
        item.callspec.params["name"]
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    }
    process = Forked(module, [str(output), *sorted(asked)])
    yield process, output
    process.kill()


@pytest.fixture(scope="module")
def replicated_losses(replicated: tuple) -> dict[str, np.ndarray]:
    process, output = replicated
    _, errors = process.communicate()
    assert process.returncode == 0, errors[-2000:]
    return dict(np.load(output))


class Trained(NamedTuple):
    """A subject after `STEPS` steps, its losses, and a checkpoint from midway."""

    state: TrainState
    losses: np.ndarray
    checkpoints: str


@pytest.fixture(scope="module")
def trained(
    one_device: tf.distribute.Strategy, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Trained]:
    """Trains a subject, when it is first asked for."""

    @functools.cache
    def train(name: str) -> Trained:
        tf.config.experimental.enable_op_determinism()
        state, step = make_subject(name, one_device)
        loop = make_train_loop(step, one_device)
        first = mean_loss(loop(half(0), STEPS // 2))
        directory = str(tmp_path_factory.mktemp("midway"))
        writer = CheckpointWriter(directory, parts(state), lambda steps: steps)
        writer.save(State(Position(step=STEPS // 2), "", 0))
        # The step goes on while the checkpoint is written.
        second = mean_loss(loop(half(STEPS // 2), STEPS // 2))
        writer.close()
        return Trained(state, np.concatenate([first, second]), directory)

    return train


def parts(state: TrainState) -> dict[str, tf.Module]:
    return {
        "model": state.model,
        "optimizer": state.optimizer,
        "guard": state.guard,
    }


def half(first: int) -> dict[str, np.ndarray]:
    return {n: x[first : first + STEPS // 2] for n, x in rows().items()}


@every_subject
def test_a_checkpoint_taken_midway_changes_nothing_bit_for_bit(
    name: str, one_device: tf.distribute.Strategy, trained: Callable[[str], Trained]
) -> None:
    state, losses, directory = trained(name)
    other, step = make_subject(name, one_device, seed=1)
    checkpoints.restore(directory, STEPS // 2, parts(other))
    found = mean_loss(make_train_loop(step, one_device)(half(STEPS // 2), STEPS // 2))
    np.testing.assert_array_equal(found, losses[STEPS // 2 :])
    for mine, theirs in zip(state.variables, other.variables, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
    for mine, theirs in zip(
        state.evaluated.variables, other.evaluated.variables, strict=True
    ):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


@every_subject
def test_the_whole_step_compiled_by_xla_gives_the_same_losses(
    name: str, one_device: tf.distribute.Strategy, trained: Callable[[str], Trained]
) -> None:
    if SUBJECTS[name][0].dropout:
        pytest.skip("XLA draws other random numbers from the same seed")
    _, step = make_subject(name, one_device)

    @tf.function(autograph=False, jit_compile=True)
    def whole(features: dict[str, tf.Tensor]) -> tuple:
        with compiling():
            return run_steps(step, one_device, features, STEPS)

    found = mean_loss(whole({n: tf.constant(x) for n, x in rows().items()}))
    np.testing.assert_allclose(found, trained(name).losses, atol=1e-4)


@every_model
def test_bfloat16_stays_close_to_float32(
    name: str, one_device: tf.distribute.Strategy, trained: Callable[[str], Trained]
) -> None:
    _, step = make_subject(name, one_device, compute="bfloat16")
    found = mean_loss(make_train_loop(step, one_device)(rows(), STEPS))
    # Near a border bfloat16 takes another expert, of a handful in a small model.
    experts = getattr(SUBJECTS[name][0], "num_experts", 0) and name in FAMILIES
    atol = 0.1 if experts else 0.05
    np.testing.assert_allclose(found, trained(name).losses, atol=atol)


@every_model
def test_a_saved_model_gives_the_logits_of_the_trained_one(
    name: str, trained: Callable[[str], Trained], tmp_path
) -> None:
    model = trained(name).state.model

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


@every_model
def test_a_model_reads_the_tensors_it_is_called_with(
    name: str, one_device: tf.distribute.Strategy
) -> None:
    state, _ = make_subject(name, one_device)
    zeros = [tf.zeros(v.shape) for v in state.variables]
    tokens = tf.constant(rows()["tokens"][0, :, :16])
    with called_with(state.places, zeros):
        hidden = state.model(tokens, tf.ones_like(tokens), tf.zeros_like(tokens))
        assert not state.model.logits(hidden).numpy().any()
    assert any(place.variable.numpy().any() for place in state.places)


@every_subject
def test_two_replicas_train_as_one_device(
    name: str,
    replicated_losses: dict[str, np.ndarray],
    trained: Callable[[str], Trained],
) -> None:
    wanted = trained(name).losses
    np.testing.assert_allclose(replicated_losses[name], wanted, rtol=0, atol=5e-6)
    assert wanted[0] > wanted[-1]
