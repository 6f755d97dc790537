# SPDX-License-Identifier: Apache-2.0
"""Every optimizer against its paper in float64, with a skipped update in the middle."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.foundation.commands import UsageError
from tests.trainer.optimizers.update_references import Settings, reference
from trainer.compute.fusion import fusing
from trainer.models.parts.weights import Role, Weight
from trainer.optimizers.optimizer import (
    OPTIMIZERS,
    Optimizer,
    OptimizerConfig,
    state_size,
)
from trainer.optimizers.update_rules.factors import Factors, bias_corrections
from trainer.run.variable_names import named_variables

WEIGHTS = [
    Weight(Role.MATRIX, widths=(4, 2, 2)),
    Weight(Role.MATRIX),
    Weight(Role.NORM),
    Weight(Role.EMBEDDING),
]
# Where Muon cuts each, as the reference has it; None for what it leaves to AdamW.
CUTS = [[4, 6], [], None, None]
SHAPES = [(4, 8), (6, 4), (4,), (5, 4)]
STEPS = [True, True, False, True, True, True]
SETTINGS = Settings(rate=0.05, beta1=0.8, beta2=0.9, epsilon=1e-3, decay=0.3)
KINDS = [*OPTIMIZERS, "momentum"]
# What turns the gradients that an update is given into those it is to follow.
GRADIENT_SCALE = np.float32(0.25)


def config(kind: str, **changes) -> OptimizerConfig:
    return OptimizerConfig(
        name="sgd" if kind == "momentum" else kind,
        momentum=SETTINGS.momentum if kind == "momentum" else 0.0,
        muon_momentum=SETTINGS.momentum,
        peak_learning_rate=SETTINGS.rate,
        warmup_steps=0,
        schedule="constant",
        weight_decay=SETTINGS.decay,
        beta1=SETTINGS.beta1,
        beta2=SETTINGS.beta2,
        epsilon=SETTINGS.epsilon,
        **changes,
    )


def gradients(step: int) -> list[np.ndarray]:
    random = np.random.default_rng(step)
    return [random.standard_normal(shape).astype("float32") for shape in SHAPES]


def fresh() -> list[tf.Variable]:
    random = np.random.default_rng(99)
    return [tf.Variable(random.standard_normal(s).astype("float32")) for s in SHAPES]


def made(settings: OptimizerConfig, total: int = 10) -> tuple[list, Optimizer]:
    variables = fresh()
    return variables, Optimizer(variables, WEIGHTS, settings, total)


def next_factors(
    optimizer: Optimizer, accepted: tf.Tensor, scale: float = GRADIENT_SCALE
) -> Factors:
    """Returns the scalars of the update that the optimizer's counter is at."""
    now = tf.convert_to_tensor(optimizer.step)
    rate = optimizer.learning_rate(now)
    skipped = tf.convert_to_tensor(optimizer.skipped)
    return optimizer.factors(accepted, tf.constant(scale), rate, now, skipped)


def train(optimizer: Optimizer, variables: list, accepted: list[bool]) -> None:
    strategy = tf.distribute.get_strategy()
    for accept in accepted:
        # What a refused update brings may be anything.
        scale = GRADIENT_SCALE if accept else np.nan
        factors = next_factors(optimizer, tf.constant(accept), scale)
        used = int(optimizer.step - optimizer.skipped)
        new = [tf.constant(g / scale) for g in gradients(used)]
        optimizer.update(strategy, variables, new, factors)


def state_of(optimizer: Optimizer) -> list[tf.Variable]:
    counters = (optimizer.step, optimizer.skipped)
    return [v for v in optimizer.variables if all(v is not c for c in counters)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_optimizer_follows_its_paper_across_a_skipped_update(kind: str) -> None:
    variables, optimizer = made(config(kind))
    starts = [v.numpy().astype("float64") for v in variables]
    train(optimizer, variables, STEPS)
    for index, (cuts, start) in enumerate(zip(CUTS, starts, strict=True)):
        used = [gradients(t)[index].astype("float64") for t in range(sum(STEPS))]
        wanted = reference(kind, SETTINGS, cuts, start, used)
        np.testing.assert_allclose(variables[index], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fuses", [False, True])
def test_a_moment_that_hardly_decays_is_corrected_by_what_float64_says(fuses) -> None:
    beta = float(np.float32(0.9999999))
    settings = dataclasses.replace(config("adam"), beta2=beta, epsilon=1e-8)
    variables, optimizer = made(settings)
    starts = [v.numpy().astype("float64") for v in variables]
    with fusing(fuses):
        train(optimizer, variables, [True] * 4)
    exact = dataclasses.replace(SETTINGS, beta2=beta, epsilon=1e-8)
    for index, start in enumerate(starts):
        used = [gradients(t)[index].astype("float64") for t in range(4)]
        wanted = reference("adam", exact, None, start, used)
        np.testing.assert_allclose(variables[index], wanted, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("updates", [1, 2, 100, 10**6, 2**40])
def test_bias_corrections_are_those_of_float64(updates: int) -> None:
    betas = [0.0, 0.9, 0.95, 0.999, 1 - 1e-6, 0.99999994]
    exact = [1 - float(np.float32(beta)) ** updates for beta in betas]
    given = bias_corrections(betas, tf.constant(updates, tf.int64))
    np.testing.assert_allclose(given, exact, rtol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before", [[], [True]])
def test_a_skipped_update_advances_the_step_and_nothing_else(
    kind: str, before: list[bool]
) -> None:
    variables, optimizer = made(config(kind, ema_decay=0.9))
    train(optimizer, variables, before)
    state = [*variables, *state_of(optimizer)]
    old = [v.numpy().tobytes() for v in state]
    train(optimizer, variables, [False])
    assert old == [v.numpy().tobytes() for v in state]
    assert int(optimizer.step) == len(before) + 1
    assert int(optimizer.skipped) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_update_is_the_same_when_xla_compiles_it(kind: str) -> None:
    ends = []
    for xla in ("none", "parts", "whole"):
        variables, optimizer = made(config(kind, ema_decay=0.9))

        @tf.function(jit_compile=xla == "whole", autograph=False)
        def step(
            optimizer: Optimizer = optimizer,
            variables: list = variables,
            fuses: bool = xla == "parts",
        ) -> None:
            strategy = tf.distribute.get_strategy()
            factors = next_factors(optimizer, tf.constant(True))
            new = [tf.constant(g / GRADIENT_SCALE) for g in gradients(0)]
            with fusing(fuses):
                optimizer.update(strategy, variables, new, factors)

        step()
        step()
        ends.append([v.numpy() for v in (*variables, *state_of(optimizer))])
    for plain, *compiled in zip(*ends, strict=True):
        for other in compiled:
            np.testing.assert_allclose(plain, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_may_be_numbered_by_its_caller(kind: str) -> None:
    changes = {"schedule": "linear", "ema_decay": 0.9}
    settings = dataclasses.replace(config(kind), **changes)
    variables, optimizer = made(settings)
    number, accepted = tf.constant(1, tf.int64), tf.constant(True)
    rate = optimizer.learning_rate(number)
    none = tf.constant(0, tf.int64)
    ahead = optimizer.factors(accepted, tf.constant(GRADIENT_SCALE), rate, number, none)
    train(optimizer, variables, [True])
    for mine, counted in zip(ahead, next_factors(optimizer, accepted), strict=True):
        np.testing.assert_array_equal(mine, counted)
    rate = optimizer.learning_rate(tf.constant(7, tf.int64))
    assert float(rate) == pytest.approx(SETTINGS.rate * (0.1 + 0.9 * 0.3))


def test_averages_follow_the_weights_with_a_decay_that_warms_up() -> None:
    variables, optimizer = made(config("sgd", ema_decay=0.25))
    average = [v.numpy().astype("float64") for v in variables]
    for decay in (1 / 10, 2 / 11, 3 / 12, 0.25, 0.25):
        train(optimizer, variables, [True])
        average = [
            decay * a + (1 - decay) * v.numpy()
            for a, v in zip(average, variables, strict=True)
        ]
        for found, wanted in zip(optimizer.averages, average, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decay_embeddings", [True, False])
@pytest.mark.parametrize("kind", ["adamw", "lion", "muon"])
def test_matrices_decay_norms_do_not_and_embeddings_as_one_likes(
    kind: str, decay_embeddings: bool
) -> None:
    settings = config(kind, decay_embeddings=decay_embeddings)
    variables, optimizer = made(settings)
    before = [v.numpy() for v in variables]
    zeros = [tf.zeros_like(v) for v in variables]
    factors = next_factors(optimizer, tf.constant(True))
    optimizer.update(tf.distribute.get_strategy(), variables, zeros, factors)
    left = 1 - SETTINGS.rate * SETTINGS.decay
    kept = [left, left, 1.0, left if decay_embeddings else 1.0]
    for old, new, share in zip(before, variables, kept, strict=True):
        np.testing.assert_allclose(new, share * old, rtol=1e-6)


@pytest.mark.parametrize("decay_embeddings", [True, False])
def test_an_output_matrix_of_its_own_decays_as_the_embedding(
    decay_embeddings: bool,
) -> None:
    settings = config("adamw", decay_embeddings=decay_embeddings)
    variable = tf.Variable(tf.ones([5, 4]))
    optimizer = Optimizer([variable], [Weight(Role.OUTPUT)], settings, 10)
    factors, none = next_factors(optimizer, tf.constant(True)), tf.zeros([5, 4])
    optimizer.update(tf.distribute.get_strategy(), [variable], [none], factors)
    left = 1 - SETTINGS.rate * SETTINGS.decay if decay_embeddings else 1.0
    np.testing.assert_allclose(variable, np.full([5, 4], left), rtol=1e-6)


def test_adafactor_moves_a_weight_of_zeros_by_a_thousandth_of_its_rate() -> None:
    variables, optimizer = made(config("adafactor"))
    for variable in variables:
        variable.assign(tf.zeros_like(variable))
    train(optimizer, variables, [True])
    for variable in variables:
        moved = np.sqrt(np.mean(variable.numpy() ** 2))
        assert moved == pytest.approx(1e-3 * SETTINGS.rate, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_the_size_of_the_state_is_known_before_it_is_made(
    kind: str, ema_decay: float
) -> None:
    settings = config(kind, ema_decay=ema_decay)
    _, optimizer = made(settings)
    made_size = sum(v.shape.num_elements() for v in state_of(optimizer))
    weights = zip(WEIGHTS, SHAPES, strict=True)
    assert state_size(settings, weights) == made_size


def test_a_matrix_of_adafactor_keeps_the_means_of_its_rows_and_columns() -> None:
    variables, optimizer = made(config("adafactor"))
    train(optimizer, variables, [True])
    square = gradients(0)[0] ** 2
    np.testing.assert_allclose(optimizer.row_moments[0], square.mean(1), rtol=1e-5)
    np.testing.assert_allclose(optimizer.column_moments[0], square.mean(0), rtol=1e-5)


STATE = {
    "adamw": ("first_moments/3", "second_moments/3"),
    "adam": ("first_moments/3", "second_moments/3"),
    "sgd": (),
    "momentum": ("first_moments/3",),
    "lion": ("first_moments/3",),
    "adafactor": ("row_moments/2", "column_moments/2", "second_moments/0"),
    "muon": ("first_moments/3", "second_moments/1"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_names_the_state_by_what_it_means(kind: str) -> None:
    _, optimizer = made(config(kind, ema_decay=0.9))
    names = set(named_variables({"optimizer": optimizer}))
    lasts = {f"optimizer/{name}" for name in (*STATE[kind], "averages/3")}
    counters = {"optimizer/step", "optimizer/skipped"}
    assert names >= lasts | counters
    full = sum(int(name.split("/")[1]) + 1 for name in (*STATE[kind], "averages/3"))
    assert len(names) == full + 2


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"name": "adamx"}, "Did you mean adam"),
        ({"schedule": "liner"}, "Did you mean linear"),
        ({"peak_learning_rate": 0.0}, "optimizer.peak_learning_rate"),
        ({"clip_norm": -1.0}, "optimizer.clip_norm"),
        ({"beta2": 1.0}, "optimizer.beta2"),
        ({"momentum": 1.0}, "optimizer.momentum"),
        ({"muon_momentum": -0.1}, "optimizer.muon_momentum"),
        ({"ema_decay": 1.0}, "optimizer.ema_decay"),
        ({"ema_decay": 1 - 1e-8}, "optimizer.ema_decay .* which is 1 in float32"),
        ({"beta2": 0.99999999}, "optimizer.beta2 .* which is 1 in float32"),
        ({"peak_learning_rate": 1e39}, "optimizer.peak_learning_rate"),
        ({"peak_learning_rate": 1e-46}, "optimizer.peak_learning_rate"),
        ({"clip_norm": 1e-46}, "optimizer.clip_norm of 0, or from"),
        ({"weight_decay": 1e4}, "weight_decay x optimizer.peak_learning_rate"),
        ({"final_fraction": 1.5}, "optimizer.final_fraction from 0 to 1"),
        ({"decay_steps": 0}, "optimizer.decay_steps"),
    ],
)
def test_settings_that_cannot_train_are_refused(values: dict, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        OptimizerConfig(**values)


def test_a_decay_longer_than_the_run_is_refused_before_the_first_step() -> None:
    settings = OptimizerConfig(schedule="wsd", warmup_steps=5, decay_steps=6)
    with pytest.raises(UsageError, match="found 5 \\+ 6 > 10"):
        made(settings)
