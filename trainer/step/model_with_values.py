# SPDX-License-Identifier: Apache-2.0
"""A model called with other values of its weights: averages of them, say."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from trainer.models.functional import WeightPlace, called_with, weight_places
from trainer.models.language_model import LanguageModel


@dataclass(frozen=True)
class ModelWithValues:
    """A model, and the variables whose values stand in for its weights.

    Attributes:
        model: made in the strategy's scope.
        places: its weights.
        variables: what stands in for them, in the same order: themselves or averages.
    """

    model: LanguageModel
    places: Sequence[WeightPlace]
    variables: Sequence[Any]

    def values(self) -> list[tf.Tensor]:
        """Reads the variables where it is called."""
        return [tf.convert_to_tensor(variable) for variable in self.variables]

    def called_with(
        self, values: Sequence[tf.Tensor]
    ) -> contextlib.AbstractContextManager[None]:
        """Has the model compute with `values` until the block ends."""
        return called_with(self.places, values)


def as_it_is(model: LanguageModel) -> ModelWithValues:
    """Returns a model that is called with its own weights."""
    places = weight_places(model)
    return ModelWithValues(model, places, [place.variable for place in places])
