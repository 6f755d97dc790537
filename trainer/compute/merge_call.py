# SPDX-License-Identifier: Apache-2.0
"""What all replicas do once, together: TensorFlow's `maybe_merge_call`, an internal.

`ReplicaContext.merge_call` is the public way, but it is refused by strategies without
merge calls (NCCL inside XLA). TensorFlow 2.16 to 2.21 export the one entry that serves
both as `tf.__internal__.distribute.interim.maybe_merge_call`, for Keras.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def call_merged(
    strategy: tf.distribute.Strategy,
    function: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    """Runs `function(strategy, *arguments)` once for all replicas.

    Args:
        strategy: whose replica context this is called in.
        function: updates variables.
        arguments: of this replica; the function gets the values of all.
    """
    merge = tf.__internal__.distribute.interim.maybe_merge_call
    merge(function, strategy, *arguments)
