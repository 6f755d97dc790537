# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.models.test_families import build, read, tokens
from trainer.models.functional import weight_places
from trainer.models.parts.weights import Role
from trainer.models.stored_weights import Int8Weight, StoredWeights

LEARNED = "learned positions, layer norms, biases"


def test_int8_is_within_half_a_step_of_each_output_channel() -> None:
    """Of a matrix a column, of a table a row; zeros stay zeros."""
    value = tf.random.stateless_normal([3, 8, 5], [1, 2]) * [1.0, 30.0, 0.0, 1e-6, 2.0]
    for axis in (-1, -2):
        kept = Int8Weight(value, axis)
        largest = np.abs(value.numpy()).max(axis=axis, keepdims=True)
        off = np.abs(kept.value().numpy() - value.numpy())
        assert (off <= largest / 127 * 0.5001).all()
        assert kept.numbers.dtype == tf.int8
        assert np.abs(kept.numbers.numpy()).max() == 127
        assert kept.scales.shape == largest.shape


def narrowed(value: np.ndarray, kind: str, axis: int) -> np.ndarray:
    """Returns what is left of a weight, in numpy."""
    if kind == "bfloat16":
        return value.astype(tf.bfloat16.as_numpy_dtype).astype(np.float32)
    scales = np.abs(value).max(axis=axis, keepdims=True) / np.float32(127)
    scales[scales == 0] = 1
    return np.rint(value / scales).astype(np.float32) * scales


@pytest.mark.parametrize("kind", ["bfloat16", "int8"])
@pytest.mark.parametrize("name", ["decoder", "recurrent", LEARNED])
def test_a_model_computes_with_the_narrow_weights_and_keeps_its_own(
    name: str, kind: str
) -> None:
    model, other = build(name), build(name)
    whole = read(model, tokens())
    for place in weight_places(other):
        role = place.weight.role
        if role not in (Role.NORM, Role.BIAS):
            axis = -2 if role is Role.MATRIX else -1
            place.variable.assign(narrowed(place.variable.numpy(), kind, axis))
    with StoredWeights(model, kind).called():
        found = read(model, tokens())
    np.testing.assert_allclose(found, read(other, tokens()), atol=2e-5)
    assert np.abs(found - whole).max() > 1e-4
    np.testing.assert_array_equal(read(model, tokens()), whole)


@pytest.mark.parametrize("kind", ["bfloat16", "int8"])
def test_scales_and_biases_stay_and_the_models_own_weights_are_no_part_of_it(
    kind: str,
) -> None:
    model = build(LEARNED)
    stored = StoredWeights(model, kind)
    own = {variable.ref() for variable in model.variables}
    shared = {v.ref() for v in stored.variables} & own
    few = [p for p in weight_places(model) if p.weight.role in (Role.NORM, Role.BIAS)]
    assert shared == {place.variable.ref() for place in few}
    sizes = [v.dtype.size * v.shape.num_elements() for v in stored.variables]
    whole = sum(4 * v.shape.num_elements() for v in model.variables)
    assert sum(sizes) < whole * (0.6 if kind == "bfloat16" else 0.4)
