# SPDX-License-Identifier: Apache-2.0
"""A module's weights as tensors: what a compiled function takes instead of variables.

A function compiled by XLA cannot reach the copy of a variable that lies on another
device, and a parameter server's variable may lie in shards on several. So a step reads
each weight once, as one tensor, and calls the model on those:

    places = weight_places(model)
    values = [tf.convert_to_tensor(place.variable) for place in places]
    with called_with(places, values):
        hidden = model(…)                   # reads `values`, touches no variable
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from trainer.compute.sharded_variables import shards_of
from trainer.models.parts.weights import Weight, declared


@dataclass(frozen=True)
class WeightPlace:
    """Where a module keeps a weight.

    Attributes:
        module: the module that has it.
        name: of the attribute.
        path: what a checkpoint calls it, like `layers/0/attention/qkv`.
        variable: a variable, or one that a parameter server keeps in shards.
    """

    module: tf.Module
    name: str
    path: str
    variable: Any

    @property
    def weight(self) -> Weight:
        """What the weight is for."""
        return declared(self.variable, self.path)

    @property
    def trained(self) -> bool:
        """Whether gradients change it."""
        return bool(shards_of(self.variable)[0].trainable)


def trained_places(places: Sequence[WeightPlace]) -> list[WeightPlace]:
    """Returns the places of the weights that gradients change, in their order."""
    return [place for place in places if place.trained]


def weight_places(module: tf.Module, path: str = "") -> list[WeightPlace]:
    """Returns the weights of `module`, trained or not, in the order of `variables`.

    A weight that lies in shards is one place here, while `variables` lists its shards.
    `path` is put before the names.
    """
    places: list[WeightPlace] = []
    inner: list[tuple[str, tf.Module]] = []
    for name, value in sorted(vars(module).items()):
        if name.startswith("_"):
            continue
        if isinstance(value, tf.Module):
            inner.append((f"{path}{name}/", value))
        elif isinstance(value, list | tuple):
            modules = [item for item in value if isinstance(item, tf.Module)]
            inner += [(f"{path}{name}/{i}/", item) for i, item in enumerate(modules)]
        elif _is_weight(value):
            places.append(WeightPlace(module, name, path + name, value))
    return places + [place for at, child in inner for place in weight_places(child, at)]


def _is_weight(value: Any) -> bool:
    return any(isinstance(shard, tf.Variable) for shard in shards_of(value))


@contextlib.contextmanager
def called_with(
    places: Sequence[WeightPlace], values: Sequence[tf.Tensor]
) -> Iterator[None]:
    """Lets the modules read `values` in place of their variables until the block ends.

    Meant for the tracing of a function: the modules are changed for its time.
    """
    # Not `place.variable`: blocks may lie within one another, in any order.
    before = [vars(place.module)[place.name] for place in places]
    try:
        for place, value in zip(places, values, strict=True):
            # Not setattr, which would have a checkpoint follow the tensor.
            vars(place.module)[place.name] = value
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            vars(place.module)[place.name] = value
