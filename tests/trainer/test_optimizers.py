# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from preprocessing.commands import UsageError
from trainer.optimizers import Optimizer, OptimizerConfig

STEPS = 5


def config(name: str) -> OptimizerConfig:
    return OptimizerConfig(
        name=name,
        peak_learning_rate=0.05,
        warmup_steps=0,
        schedule="constant",
        weight_decay=0.3,
        beta1=0.8,
        beta2=0.9,
        epsilon=1e-3,
    )


def gradients(step: int) -> list[np.ndarray]:
    random = np.random.default_rng(step)
    shapes = [(3, 2), (4,)]
    return [random.standard_normal(shape).astype("float32") for shape in shapes]


def train(optimizer: Optimizer, variables: list, accepted: list[bool]) -> None:
    strategy = tf.distribute.get_strategy()
    for step, accept in enumerate(accepted):
        factors = optimizer.factors(tf.constant(accept))
        new = [tf.constant(g) for g in gradients(step)]
        optimizer.update(strategy, variables, new, factors)


def fresh() -> list[tf.Variable]:
    return [tf.Variable(tf.ones([3, 2])), tf.Variable(tf.ones([4]))]


@pytest.mark.parametrize("name", ["adamw", "adam"])
def test_adam_follows_its_paper(name: str) -> None:
    variables = fresh()
    optimizer = Optimizer(variables, config(name), STEPS)
    train(optimizer, variables, [True] * STEPS)
    for index, variable in enumerate(variables):
        decay = 0.3 if name == "adamw" and index == 0 else 0.0  # matrices alone
        weight = np.ones(variable.shape)
        first, second = np.zeros(variable.shape), np.zeros(variable.shape)
        for step in range(STEPS):
            gradient = gradients(step)[index].astype("float64")
            weight -= 0.05 * decay * weight
            first = 0.8 * first + 0.2 * gradient
            second = 0.9 * second + 0.1 * gradient**2
            mean = first / (1 - 0.8 ** (step + 1))
            root = np.sqrt(second / (1 - 0.9 ** (step + 1)))
            weight -= 0.05 * mean / (root + 1e-3)
        np.testing.assert_allclose(variable, weight, rtol=1e-5, atol=1e-6)


def test_sgd_takes_plain_steps_and_keeps_no_moments() -> None:
    variables = fresh()
    optimizer = Optimizer(variables, config("sgd"), STEPS)
    train(optimizer, variables, [True] * STEPS)
    for index, variable in enumerate(variables):
        total = sum(gradients(step)[index] for step in range(STEPS))
        np.testing.assert_allclose(variable, 1.0 - 0.05 * total, rtol=1e-5)
    assert optimizer.first_moments == optimizer.second_moments == []


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_a_skipped_update_advances_the_step_and_nothing_else(name: str) -> None:
    variables = fresh()
    optimizer = Optimizer(variables, config(name), STEPS)
    train(optimizer, variables, [True])
    state = [*variables, *optimizer.first_moments, *optimizer.second_moments]
    before = [v.numpy() for v in state]
    train(optimizer, variables, [False])
    for old, new in zip(before, state, strict=True):
        np.testing.assert_array_equal(old, new)
    assert (int(optimizer.step), int(optimizer.skipped)) == (2, 1)


def test_after_a_skip_adam_continues_as_if_it_had_not_been() -> None:
    ends = []
    for pause in ([], [False]):
        variables = fresh()
        optimizer = Optimizer(variables, config("adamw"), STEPS)
        train(optimizer, variables, [True, True])
        for accept in pause:
            train(optimizer, variables, [accept])
        train(optimizer, variables, [True])
        ends.append([v.numpy() for v in variables])
    np.testing.assert_array_equal(ends[0][0], ends[1][0])
    np.testing.assert_array_equal(ends[0][1], ends[1][1])


def test_a_checkpoint_names_the_state_by_attribute(tmp_path: str) -> None:
    optimizer = Optimizer(fresh(), config("adamw"), STEPS)
    path = tf.train.Checkpoint(optimizer=optimizer).write(f"{tmp_path}/state")
    names = {name for name, _ in tf.train.list_variables(path)}
    for name in ("step", "skipped", "first_moments/0", "second_moments/1"):
        assert f"optimizer/{name}/.ATTRIBUTES/VARIABLE_VALUE" in names


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"name": "adamx"}, "Did you mean adam"),
        ({"schedule": "linear"}, "optimizer.schedule"),
        ({"peak_learning_rate": 0.0}, "optimizer.peak_learning_rate"),
        ({"clip_norm": -1.0}, "optimizer.clip_norm"),
        ({"beta2": 1.0}, "optimizer.beta2"),
    ],
)
def test_settings_that_cannot_train_are_refused(values: dict, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        OptimizerConfig(**values)
