# SPDX-License-Identifier: Apache-2.0
"""Penalties of a model are minimised with the loss, and add up as it does."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from trainer.compute.compilation import Compilation
from trainer.data.batch import unpack_rows
from trainer.models.decoder import DecoderConfig
from trainer.models.functional import weight_places
from trainer.models.model import PrecisionConfig, build_model
from trainer.step.gradients import LocalSums, Seeds
from trainer.step.layout import Layout
from trainer.step.losses import LossConfig

VOCAB, ROWS = 16, 4
PENALISED = DecoderConfig(
    num_layers=2,
    d_model=16,
    num_heads=2,
    ffn_dim=24,
    num_experts=4,
    expert_dim=12,
    balance_loss=0.5,
    router_z_loss=0.25,
)
FREE = dataclasses.replace(PENALISED, balance_loss=0.0, router_z_loss=0.0)


def rows() -> dict[str, tf.Tensor]:
    lengths = np.array([[9, 3, 0], [4, 0, 0], [5, 5, 2], [1, 11, 0]], np.int32)
    tokens = np.random.default_rng(1).integers(0, VOCAB, [ROWS, 13])
    return {
        "tokens": tf.constant(tokens, tf.int32),
        "segment_lengths": tf.constant(lengths),
    }


@functools.cache
def sums(
    config: DecoderConfig,
    size: int = ROWS,
    lanes: int = 1,
    xla: str = "none",
    scale: float | None = None,
) -> list[np.ndarray]:
    """Returns [weight, loss, *gradients] of the rows in micro-batches of `size`."""
    model = build_model(config, VOCAB, PrecisionConfig(), seed=0)
    places = weight_places(model)
    layout = Layout(ROWS, size, 1, lanes)
    local = LocalSums(model, places, layout, LossConfig(), Compilation(xla))
    seed = tf.constant([1, 2]) if config.dropout else None
    factor = None if scale is None else tf.constant(scale)

    @tf.function(autograph=False)
    def run() -> list[tf.Tensor]:
        values = [tf.convert_to_tensor(place.variable) for place in places]
        return local(values, rows(), Seeds(seed, tf.constant(0), factor))

    return [tensor.numpy() for tensor in run()]


def assert_same(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    for mine, theirs in zip(one, other, strict=True):
        # By the largest entry: others are differences of entries of its size.
        size = max(1.0, np.abs(theirs).max())
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5 * size)


def penalty_gradients(config: DecoderConfig) -> list[np.ndarray]:
    """Returns gradients of the penalties, weighed as the targets are."""
    model = build_model(config, VOCAB, PrecisionConfig(), seed=0)
    variables = [place.variable for place in weight_places(model)]
    batch = unpack_rows(rows())
    with tf.GradientTape() as tape:
        _, penalty = model.with_penalty(
            batch.inputs, batch.segment_ids, batch.positions
        )
        total = tf.reduce_sum(batch.weights * penalty)
    found = tape.gradient(total, variables, unconnected_gradients="zero")
    return [tf.convert_to_tensor(x).numpy() for x in found]


def test_gradients_are_those_of_the_loss_and_of_the_penalty() -> None:
    free, found = sums(FREE), sums(PENALISED)
    # What is reported is the cross-entropy alone.
    np.testing.assert_array_equal(free[:2], found[:2])
    more = penalty_gradients(PENALISED)
    assert max(np.abs(x).max() for x in more) > 0.05
    assert_same(found[2:], [a + b for a, b in zip(free[2:], more, strict=True)])


@pytest.mark.parametrize(("size", "lanes"), [(1, 1), (2, 1), (4, 2)])
def test_micro_batches_and_lanes_add_up_to_the_whole(size: int, lanes: int) -> None:
    assert_same(sums(PENALISED, size, lanes), sums(PENALISED))


@pytest.mark.parametrize(
    "xla", ["parts", pytest.param("whole", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("remat", ["none", "full"])
def test_layers_computed_again_and_xla_change_nothing(remat: str, xla: str) -> None:
    again = dataclasses.replace(PENALISED, remat=remat)
    assert_same(sums(again), sums(PENALISED))
    assert_same(sums(again, xla=xla), sums(PENALISED))


@pytest.mark.slow
def test_layers_computed_again_draw_the_same_dropout() -> None:
    dropped = dataclasses.replace(PENALISED, dropout=0.3)
    assert_same(sums(dataclasses.replace(dropped, remat="full")), sums(dropped))
    assert np.abs(sums(dropped)[1] - sums(PENALISED)[1]) > 0.01


def test_the_scale_of_a_loss_scales_its_penalty_too() -> None:
    plain, scaled = sums(PENALISED), sums(PENALISED, scale=8.0)
    assert_same([x / 8.0 for x in scaled[2:]], plain[2:])


@pytest.mark.parametrize("layers", [1, 3])
def test_a_router_that_tells_nothing_apart_costs_the_same_in_any_depth(
    layers: int,
) -> None:
    config = dataclasses.replace(PENALISED, num_layers=layers)
    model = build_model(config, VOCAB, PrecisionConfig(), seed=0)
    for block in model.layers:
        block.mlp.router.assign(tf.zeros_like(block.mlp.router))
    batch = unpack_rows(rows())
    _, penalty = model.with_penalty(batch.inputs, batch.segment_ids, batch.positions)
    # The balance of two experts a token is 2, the denominator of zeros is 4.
    wanted = 0.5 * 2 + 0.25 * np.log(4.0) ** 2
    np.testing.assert_allclose(penalty, np.full([ROWS, 12], wanted), rtol=1e-5)
