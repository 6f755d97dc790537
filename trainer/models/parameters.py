# SPDX-License-Identifier: Apache-2.0
"""How many parameters a model has, and what its products cost, by their roles."""

import math
from collections.abc import Container

import tensorflow as tf

from trainer.models.functional import WeightPlace, trained_places, weight_places
from trainer.models.parts.weights import Role


def num_parameters(model: tf.Module) -> int:
    """Returns the number of trainable scalars."""
    return sum(scalars(place) for place in trained_places(weight_places(model)))


def active_parameters(model: tf.Module) -> int:
    """Returns how many of those a token is computed with, if it chooses experts."""
    places = trained_places(weight_places(model))
    return sum(round(scalars(place) * place.weight.active) for place in places)


def product_flops(model: tf.Module, roles: Container[Role]) -> float:
    """Returns the operations that a token costs in products, forward and backward.

    Two operations a multiply-add and three products a weight: one forward, two
    backward, of which one makes the weight's own gradient and is left out where it is
    not trained. Of experts as many count as a token is sent to.

    Args:
        model: any module.
        roles: of the weights that enter products.
    """
    return sum(
        (6 if place.trained else 4) * scalars(place) * place.weight.active
        for place in weight_places(model)
        if place.weight.role in roles
    )


def scalars(place: WeightPlace) -> int:
    """Returns how many numbers a weight holds."""
    return math.prod(place.variable.shape.as_list())
