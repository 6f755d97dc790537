# SPDX-License-Identifier: Apache-2.0
"""The cache of keys and values: what queries see of it, and how new ones get there.

TensorFlow's scatter into a tensor copies all of it first, also in a loop that uses the
old one no more: of 32 rows of 192 positions that was 20 of a step's 37 ms. Who says
that a state is its own has the new ones written where they stand instead.

Shape suffixes are those of `attention.py`.
"""

from dataclasses import dataclass

import tensorflow as tf

from trainer.models.parts.chunked_attention import HIDDEN
from trainer.models.parts.layers import dimensions


@dataclass(frozen=True)
class Places:
    """Where fresh keys and values go.

    Attributes:
        columns: int32 `[B, T]`, of each row.
        in_place: whether the cache that is written to may be lost by it.
    """

    columns: tf.Tensor
    in_place: bool

    def write(self, cache_BKSH: tf.Tensor, new_BKTH: tf.Tensor) -> tf.Tensor:
        """Returns the cache with fresh entries in their columns."""
        batch, kv_heads, size, width = dimensions(cache_BKSH)
        rows = tf.reshape(tf.range(batch * kv_heads), [batch, kv_heads, 1])
        places_BKT = rows * size + self.columns[:, None, :]
        flat, new = (tf.reshape(x, [-1, width]) for x in (cache_BKSH, new_BKTH))
        places = tf.reshape(places_BKT, [-1])
        if self.in_place:
            # The kernel writes into the memory of x: TensorFlow's words, "mutative".
            flat = tf.raw_ops.InplaceUpdate(x=flat, i=places, v=new)
        else:
            flat = tf.tensor_scatter_nd_update(flat, places[:, None], new)
        return tf.reshape(flat, [batch, kv_heads, size, width])


def cache_mask(
    positions_BT: tf.Tensor, capacity: tf.Tensor, window: int | None = None
) -> tf.Tensor:
    """Returns `[B, 1, 1, T, S]`: 0 for the columns up to each query's own."""
    columns = tf.range(capacity)
    seen = columns <= positions_BT[:, :, None]
    if window is not None:
        seen &= columns > positions_BT[:, :, None] - window
    return tf.where(seen, 0.0, HIDDEN)[:, None, None]
