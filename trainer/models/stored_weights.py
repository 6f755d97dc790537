# SPDX-License-Identifier: Apache-2.0
"""A model's weights as a release keeps them where it keeps them narrower than float32.

    bfloat16   matrices and tables rounded to the nearest
    int8       matrices and tables as whole numbers q from -127 to 127, w = q s, with
               one float32 s for each output channel: the largest |w| of it / 127

Scales and biases stay float32: they are few. What is kept is read, and widened, where a
call begins and not in its loops, so that a token costs no conversion; products are
computed in the model's compute type.
"""

import contextlib
from collections.abc import Callable

import tensorflow as tf

from trainer.models.functional import WeightPlace, called_with, weight_places
from trainer.models.parts.weights import Role

_NARROWED = frozenset({Role.MATRIX, Role.EMBEDDING, Role.POSITION, Role.OUTPUT})
_LARGEST = 127.0


class Int8Weight(tf.Module):
    """A weight as whole numbers and their scales.

    Attributes:
        numbers: int8, of the weight's shape.
        scales: float32, of its shape but for 1 along the axis that products sum over.
    """

    def __init__(self, value: tf.Tensor, axis: int) -> None:
        """Rounds a weight; `axis` is the one that products sum over."""
        super().__init__()
        largest = tf.reduce_max(tf.abs(value), axis=axis, keepdims=True)
        scales = tf.where(largest > 0.0, largest / _LARGEST, 1.0)
        self.numbers = tf.Variable(
            tf.cast(tf.round(value / scales), tf.int8), trainable=False
        )
        self.scales = tf.Variable(scales, trainable=False)

    def value(self) -> tf.Tensor:
        """Returns the weight, float32."""
        return tf.cast(self.numbers, tf.float32) * self.scales


class StoredWeights(tf.Module):
    """The weights of a model, and how it computes with them.

    Attributes:
        kept: what is stored of each weight, by its path.
    """

    def __init__(self, model: tf.Module, kind: str) -> None:
        """Converts the weights.

        Args:
            model: whose weights they are; its own stay as they are.
            kind: "bfloat16" or "int8".
        """
        super().__init__()
        places = weight_places(model)
        self.kept = {
            place.path.replace("/", "."): _converted(place, kind) for place in places
        }
        readers = [_reader(each) for each in self.kept.values()]
        # Within functions: a module saves what its attributes hold, and the model's own
        # float32 weights are no part of what is stored.
        self._values = lambda: [read() for read in readers]
        self._called_with = lambda values: called_with(places, values)

    def values(self) -> list[tf.Tensor]:
        """Reads the weights where it is called, in the order of `weight_places`."""
        return self._values()

    def called(self) -> contextlib.AbstractContextManager[None]:
        """Has the model compute with these weights until the block ends."""
        return self._called_with(self._values())


def _converted(place: WeightPlace, kind: str) -> tf.Module | tf.Variable:
    """Returns what is stored of a weight."""
    if place.weight.role not in _NARROWED:
        return place.variable
    value = tf.convert_to_tensor(place.variable)
    if kind == "bfloat16":
        return tf.Variable(tf.cast(value, tf.bfloat16), trainable=False)
    # A table has a row for each output, a matrix a column.
    return Int8Weight(value, -1 if place.weight.is_table else -2)


def _reader(kept: tf.Module | tf.Variable) -> Callable[[], tf.Tensor]:
    if isinstance(kept, Int8Weight):
        return kept.value
    return lambda: tf.convert_to_tensor(kept)
