# SPDX-License-Identifier: Apache-2.0
"""Variables that parameter servers keep in shards; TensorFlow's class is not public.

TensorFlow 2.16 to 2.21 give such a weight a `variables` with its shards, by rows, and
a `shape` of the whole, and make one of a list of variables. What else tells it from a
variable is known nowhere else.
"""

from typing import Any

import tensorflow as tf


def is_sharded(node: Any) -> bool:
    """Tells a variable in shards from variables, modules and lists."""
    return hasattr(node, "variables") and hasattr(node, "shape")


def shards_of(variable: Any) -> list[tf.Variable]:
    """Returns the variables that make up a weight: itself, or its shards, by rows."""
    return list(getattr(variable, "variables", None) or [variable])


def zeros_beside(variable: Any, name: str) -> Any:
    """Makes zeros of a weight's shape that lie where it does, shard for shard.

    An update runs where its weight lies and reaches no other server; variables are
    dealt out to servers in turn, so a slot would lie anywhere.
    """
    strategy = tf.distribute.get_strategy()
    if not isinstance(strategy, tf.distribute.ParameterServerStrategy):
        return _zeros(variable, name)
    made = []
    for shard in shards_of(variable):
        with strategy.extended.colocate_vars_with(shard):
            made.append(_zeros(shard, name))
    return type(variable)(made) if is_sharded(variable) else made[0]


def _zeros(like: tf.Variable, name: str) -> tf.Variable:
    return tf.Variable(tf.zeros(like.shape, like.dtype), trainable=False, name=name)
