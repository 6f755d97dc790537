# SPDX-License-Identifier: Apache-2.0
"""Weights as tensors: every weight has its place, and gets it back."""

import pytest
import tensorflow as tf

from trainer.models.decoder import DecoderConfig
from trainer.models.functional import called_with, weight_places
from trainer.models.model import PrecisionConfig, build_model, with_family
from trainer.run.variable_names import named_variables


def model(family: str) -> tf.Module:
    shape = with_family(
        DecoderConfig(num_layers=2, d_model=16, tie_embeddings=False), family
    )
    return build_model(shape, 20, PrecisionConfig(), seed=0)


@pytest.mark.parametrize("family", ["decoder", "recurrent"])
def test_places_are_the_trainable_variables_by_their_checkpoints_names(
    family: str,
) -> None:
    made = model(family)
    places = weight_places(made)
    trained = made.trainable_variables
    assert [id(p.variable) for p in places] == [id(v) for v in trained]
    named = named_variables({"model": made})
    assert {f"model/{p.path}": id(p.variable) for p in places} == {
        name: id(variable) for name, variable in named.items()
    }


def test_variables_are_back_even_after_an_error() -> None:
    made = model("decoder")
    places = weight_places(made)
    zeros = [tf.zeros(place.variable.shape) for place in places]
    with pytest.raises(ZeroDivisionError), called_with(places, zeros):
        assert made.norm.scale is zeros[[p.path for p in places].index("norm/scale")]
        raise ZeroDivisionError
    again = weight_places(made)
    assert [id(p.variable) for p in again] == [id(p.variable) for p in places]
