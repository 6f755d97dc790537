# SPDX-License-Identifier: Apache-2.0
"""A layer of experts is its formula, token by token, whichever way it is computed."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.compute.compilation import Compilation
from trainer.compute.fusion import compiling
from trainer.models.functional import called_with, weight_places
from trainer.models.parts.experts import Experts, ExpertsSizes, balance
from trainer.models.parts.grouped_products import (
    Groups,
    block_rows,
    count_blocks,
    group_rows,
)
from trainer.models.parts.layers import Initializer

WIDTH, INNER = 6, 5
NAMES = ("down", "gate_up", "router")
ways = pytest.mark.parametrize("blocks", [False, True], ids=["slices", "blocks"])


def formula(
    x: np.ndarray, weights: dict[str, np.ndarray], chosen: int, normalise: bool
) -> np.ndarray:
    """Returns what Mixtral's experts give, one token after another, in float64."""
    powers = np.exp(x @ weights["router"])
    shares = powers / powers.sum(axis=1, keepdims=True)
    y = np.zeros_like(x)
    for row, token in enumerate(x):
        best = np.argsort(-shares[row], kind="stable")[:chosen]
        total = shares[row, best].sum() if normalise else 1.0
        for expert in best:
            gate, up = np.split(token @ weights["gate_up"][expert], 2)
            mixed = gate / (1.0 + np.exp(-gate)) * up
            y[row] += shares[row, expert] / total * (mixed @ weights["down"][expert])
    return y


def layer(experts: int, chosen: int, normalise: bool = True) -> Experts:
    """Returns a layer whose choices are clear-cut."""
    sizes = ExpertsSizes(WIDTH, INNER, 1, experts, chosen, normalise=normalise)
    made = Experts(sizes, Initializer(0))
    made.router.assign(made.router * 50.0)
    return made


def grouped(choices: list[int], experts: int, blocks: bool) -> Groups:
    ids = tf.constant(choices, tf.int32)
    if not blocks:
        return group_rows(ids, experts)
    with compiling():
        return group_rows(ids, experts)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


@pytest.mark.parametrize(
    "xla", ["none", "parts", pytest.param("whole", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    ("tokens", "experts", "chosen", "normalise"),
    [(40, 4, 2, True), (23, 8, 3, False), (1, 16, 16, True)],
)
def test_results_and_gradients_are_those_of_the_formula_in_float64(
    tokens: int, experts: int, chosen: int, normalise: bool, xla: str
) -> None:
    made = layer(experts, chosen, normalise)
    places = sorted(weight_places(made), key=lambda place: place.path)
    weights = [place.variable.numpy() for place in places]
    x, upstream = normal(tokens, WIDTH), normal(WIDTH, tokens).T

    def run(x: tf.Tensor, *weights: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape, called_with(places, weights):
            tape.watch([x, *weights])
            y, _ = made(x)
        into = tape.gradient(y, [x, *weights], tf.constant(upstream, tf.float32))
        return [y, *into]

    compiled = tf.function(Compilation(xla).alone(run), autograph=False)
    y, *gradients = compiled(tf.constant(x, tf.float32), *map(tf.constant, weights))
    exact = [x, *(weight.astype("float64") for weight in weights)]

    def computed(values: list[np.ndarray]) -> np.ndarray:
        named = dict(zip(NAMES, values[1:], strict=True))
        return formula(values[0], named, chosen, normalise)

    np.testing.assert_allclose(y, computed(exact), atol=2e-6)
    for at, gradient in enumerate(gradients):
        direction, sums = normal(*exact[at].shape), []
        for step in (1e-6, -1e-6):
            moved = list(exact)
            moved[at] = exact[at] + step * direction
            sums.append(np.sum(computed(moved) * upstream))
        slope = (sums[0] - sums[1]) / 2e-6
        found = np.sum(gradient * direction)
        assert abs(slope - found) < 1e-4 * max(1.0, abs(slope)), NAMES[at - 1]


@ways
@settings(max_examples=25, deadline=None)
@given(
    experts=st.integers(1, 6),
    choices=st.lists(st.integers(0, 5), min_size=1, max_size=40),
)
def test_each_row_meets_the_matrix_it_chose(
    blocks: bool, experts: int, choices: list[int]
) -> None:
    """Of matrices that nobody chose, too, and of one that all did."""
    choices = [choice % experts for choice in choices]
    groups = grouped(choices, experts, blocks)
    x, matrices = normal(len(choices), 3), normal(experts, 3, 4)
    x_grouped = tf.gather(x, groups.chosen)
    real = groups.grouped(tf.ones(len(choices), tf.float64))
    products = groups.products(x_grouped, tf.constant(matrices))
    wanted = np.stack([row @ matrices[at] for row, at in zip(x, choices, strict=True)])
    np.testing.assert_allclose(tf.gather(products, groups.places), wanted)
    upstream = tf.gather(wanted, groups.chosen) * real[:, None]
    found = groups.matrix_gradients(x_grouped, upstream)
    gradients = np.zeros_like(matrices)
    for row, at, up in zip(x, choices, wanted, strict=True):
        gradients[at] += np.outer(row, up)
    np.testing.assert_allclose(found, gradients, atol=1e-12)
    turned = groups.products(upstream, tf.constant(matrices), transpose=True)
    back = [up @ matrices[at].T for up, at in zip(wanted, choices, strict=True)]
    np.testing.assert_allclose(tf.gather(turned, groups.places), back)


@given(rows=st.integers(1, 10**6), experts=st.integers(1, 256))
def test_blocks_add_a_quarter_of_the_rows_at_most_where_there_are_many(
    rows: int, experts: int
) -> None:
    size = block_rows(rows, experts)
    grouped_rows = count_blocks(rows, size, experts) * size
    assert grouped_rows >= rows
    assert grouped_rows <= max(1.25 * rows, rows + 8 * experts)


def test_where_rows_fall_has_no_influence_on_what_a_token_gets() -> None:
    """Nothing is dropped: alone, a token is what it is among all."""
    made, x = layer(4, 2), tf.constant(normal(30, WIDTH), tf.float32)
    together, _ = made(x)
    alone = tf.concat([made(row[None])[0] for row in x], axis=0)
    np.testing.assert_allclose(together, alone, atol=1e-6)


@ways
def test_balance_is_the_published_loss_of_each_row(blocks: bool) -> None:
    """Fedus et al. 2021, as transformers takes it of a batch: here of a row."""
    experts, chosen, rows, length = 5, 2, 3, 8
    logits = normal(rows * length, experts)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    best = np.argsort(-shares, axis=1)[:, :chosen]
    counted = np.arange(length) < np.array([[8], [5], [1]])
    arguments = [tf.constant(shares, tf.float32), tf.constant(best, tf.int32)]
    if blocks:
        with compiling():
            found = balance(*arguments, tf.constant(counted)).numpy()
    else:
        found = balance(*arguments, tf.constant(counted)).numpy()
    for row in range(rows):
        own = np.arange(row * length, (row + 1) * length)[counted[row]]
        often = np.bincount(best[own].ravel(), minlength=experts) / len(own)
        wanted = experts * np.sum(often * shares[own].mean(axis=0))
        np.testing.assert_allclose(found[own].mean(), wanted, rtol=1e-5)
