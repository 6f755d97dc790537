# SPDX-License-Identifier: Apache-2.0
"""Muon's steps are near orthogonal, matrix by matrix, and as large as AdamW's."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from trainer.models.decoder import DecoderConfig
from trainer.models.functional import weight_places
from trainer.models.model import PrecisionConfig, build_model, with_family
from trainer.models.parts.weights import Role, Weight, declare
from trainer.optimizers.optimizer import Optimizer, OptimizerConfig
from trainer.optimizers.update_rules.muon import orthogonalised

SHAPES = [(8, 8), (64, 24), (24, 64), (128, 128), (3, 40, 16), (1, 7)]


def update(variable: tf.Variable, gradient: np.ndarray) -> None:
    """Gives a variable one step of Muon."""
    config = OptimizerConfig(name="muon", warmup_steps=0, peak_learning_rate=0.1)
    made = Optimizer([variable], [variable.declared_weight], config, 10)
    step = tf.constant(0, tf.int64)
    factors = made.factors(
        tf.constant(True), tf.constant(1.0), made.learning_rate(step), step, step
    )
    one = tf.distribute.get_strategy()
    made.update(one, [variable], [tf.constant(gradient)], factors)


def normal(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e6])
def test_singular_values_come_near_one_whatever_the_scale(
    shape: tuple[int, ...], scale: float
) -> None:
    matrix = normal(shape) * scale
    found = np.linalg.svd(orthogonalised(tf.constant(matrix)), compute_uv=False)
    given_values = np.linalg.svd(matrix, compute_uv=False)
    share = given_values / np.linalg.norm(matrix, axis=(-2, -1))[..., None]
    # Five steps lift what is within a hundredth of the whole; random squares have less.
    lifted = found[share > 0.01]
    assert lifted.size and found.max() < 1.25 and lifted.min() > 0.65


def test_matrices_in_one_tensor_are_made_orthogonal_each_for_itself() -> None:
    # Of sizes so far apart that a norm of all would leave the small ones small.
    matrices = normal((3, 6, 4)) * np.array([1.0, 1e-4, 1e4], "float32")[:, None, None]
    together = orthogonalised(tf.constant(matrices))
    for matrix, found in zip(matrices, together, strict=True):
        alone = orthogonalised(tf.constant(matrix))
        np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-5)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 9))
def test_a_transposed_matrix_gives_the_transposed_step(
    rows: int, columns: int, seed: int
) -> None:
    matrix = normal((rows, columns), seed)
    step = orthogonalised(tf.constant(matrix))
    turned = orthogonalised(tf.constant(matrix.T))
    np.testing.assert_allclose(tf.transpose(step), turned, atol=1e-4)


def test_a_matrix_of_zeros_has_no_step() -> None:
    np.testing.assert_array_equal(orthogonalised(tf.zeros([4, 6])), np.zeros([4, 6]))


@pytest.mark.parametrize("family", ["decoder", "recurrent"])
def test_all_matrices_of_the_blocks_are_muons_and_nothing_else(family: str) -> None:
    wide = DecoderConfig(
        num_layers=2, d_model=16, num_heads=4, num_kv_heads=2, ffn_dim=24
    )
    config = with_family(wide, family)
    places = weight_places(build_model(config, 32, PrecisionConfig(), 0))
    found = {
        place.path.removeprefix("layers/1/"): place.weight.widths_of(
            place.variable.shape.as_list()
        )
        for place in places
        if place.weight.role is Role.MATRIX and not place.path.startswith("layers/0/")
    }
    if family == "decoder":
        assert found == {
            "attention/out": [16],
            "attention/qkv": [16, 8, 8],
            "mlp/down": [16],
            "mlp/gate_up": [24, 24],
        }
    else:
        assert found == {"kernel": [16] * 3, "recurrent_kernel": [16] * 3}


def test_each_experts_gate_and_up_take_a_step_of_their_own() -> None:
    weight = Weight(Role.MATRIX, widths=(6, 6))
    experts, gradient = (
        declare(tf.Variable(tf.zeros([3, 8, 12])), weight),
        normal((3, 8, 12)),
    )
    update(experts, gradient)
    for expert in range(3):
        for columns in (slice(6), slice(6, None)):
            alone = declare(tf.Variable(tf.zeros([8, 6])), Weight(Role.MATRIX))
            update(alone, gradient[expert, :, columns])
            found = experts[expert, :, columns]
            np.testing.assert_allclose(found, alone, rtol=1e-3, atol=1e-6)


def test_a_fused_weight_that_does_not_split_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"sum to 8 columns, found \(8, 4\)"):
        declare(tf.Variable(tf.zeros([8, 8])), Weight(Role.MATRIX, widths=(8, 4)))
