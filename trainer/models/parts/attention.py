# SPDX-License-Identifier: Apache-2.0
"""Causal grouped-query attention with rotary positions, over rows and over a cache.

Shape suffixes: B batch, T queries, S keys, N = B * T, D d_model, K key/value heads,
G query heads per key/value head, A = K * G query heads, H head_dim.
"""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from trainer.compute.fusion import fused, softmax, sum_of
from trainer.models.parts.chunked_attention import HIDDEN, Segments, chunked_attention
from trainer.models.parts.fused_attention import PackedSegments, fused_attention
from trainer.models.parts.layers import Initializer, dimensions, residual_stddev
from trainer.models.parts.rotary import Heads, rotated_heads
from trainer.models.parts.weights import Role, Weight


@dataclass(frozen=True)
class HeadSizes:
    """The heads of a layer: A query heads, K key/value heads, each H wide."""

    heads: int
    kv_heads: int
    head_dim: int

    @property
    def query_width(self) -> int:
        """Columns of all queries, and rows of the output matrix: A * H."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Columns of all keys, or of all values: K * H."""
        return self.kv_heads * self.head_dim


class Attention(tf.Module):
    """Grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245).

    Query, key and value weights are one matrix `[D, (A + 2 K) * H]`, the output's is
    `[A * H, D]`; query head a reads key/value head a // G.
    """

    def __init__(
        self, width: int, sizes: HeadSizes, depth: int, initializer: Initializer
    ) -> None:
        """Makes the weights.

        Args:
            width: D, of the residual stream.
            sizes: of the heads.
            depth: layers of the model.
            initializer: makes the weights.
        """
        super().__init__()
        self.heads, self.kv_heads = sizes.heads, sizes.kv_heads
        self.head_dim = sizes.head_dim
        widths = (sizes.query_width, sizes.kv_width, sizes.kv_width)
        self.qkv = initializer.normal(
            "qkv", [width, sum(widths)], width**-0.5, Weight(Role.MATRIX, widths)
        )
        self.out = initializer.normal(
            "out",
            [sizes.query_width, width],
            residual_stddev(sizes.query_width, depth),
            Weight(Role.MATRIX),
        )

    def __call__(
        self,
        x_ND: tf.Tensor,
        rotation: tuple[tf.Tensor, tf.Tensor],
        mask: tf.Tensor | Segments | PackedSegments,
    ) -> tf.Tensor:
        """Attends within whole rows; returns `[N, D]`.

        Args:
            x_ND: normed inputs in the compute type.
            rotation: of `rotation_table`.
            mask: the attention mask: one of `segment_mask`, or the segments it
                follows from, to go through in chunks or packed for a kernel.
        """
        if isinstance(mask, Segments | PackedSegments):
            q_BTAH, k_BTKH, v_BTKH = self._project(x_ND, rotation, heads_first=False)
            if isinstance(mask, Segments):
                mixed_BTAH = chunked_attention(q_BTAH, k_BTKH, v_BTKH, mask)
            else:
                mixed_BTAH = fused_attention(q_BTAH, k_BTKH, v_BTKH, mask)
        else:
            q_BATH, k_BKTH, v_BKTH = self._project(x_ND, rotation, heads_first=True)
            mixed_BTAH = self._attend(q_BATH, k_BKTH, v_BKTH, mask)
        return self._finish(mixed_BTAH)

    def decode(
        self,
        x_ND: tf.Tensor,
        rotation: tuple[tf.Tensor, tf.Tensor],
        mask_B11TS: tf.Tensor,
        cache: tuple[tf.Tensor, tf.Tensor],
        places_BKT3: tf.Tensor,
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        """Writes keys and values at their places in the cache, then attends to it.

        The cache is `[B, K, S, H]` twice, as the products read it: turning a cache
        kept by time costs more than scattering H numbers at a time. On 2 cores whole
        answers came 1.11 (8 prompts), 1.25 (32) and 1.25 (64) times as fast as with
        slices scattered by time (`tests.benchmarks.before_after`); in `[S, B, K, H]`
        and `[B, S, K, H]`, with a place for each row, no faster than those.
        """
        q_BATH, k_BKTH, v_BKTH = self._project(x_ND, rotation, heads_first=True)
        k_BKSH, v_BKSH = (
            tf.tensor_scatter_nd_update(old, places_BKT3, new)
            for old, new in zip(cache, (k_BKTH, v_BKTH), strict=True)
        )
        mixed_BTAH = self._attend(q_BATH, k_BKSH, v_BKSH, mask_B11TS)
        return self._finish(mixed_BTAH), (k_BKSH, v_BKSH)

    def _project(
        self, x_ND: tf.Tensor, rotation: tuple[tf.Tensor, tf.Tensor], heads_first: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns queries, turned and scaled, turned keys, and values.

        Each is `[B, heads, T, H]`, or `[B, T, heads, H]` unless `heads_first`.
        """
        length = dimensions(rotation[0])[1]
        heads = self.heads + 2 * self.kv_heads
        flat = tf.matmul(x_ND, tf.cast(self.qkv, x_ND.dtype))
        all_BTXH = tf.reshape(flat, [-1, length, heads, self.head_dim])
        scale = self.head_dim**-0.5
        layout = Heads(self.heads, self.kv_heads, scale, heads_first)
        return rotated_heads(all_BTXH, rotation, layout)

    def _attend(
        self,
        q_BATH: tf.Tensor,
        k_BKSH: tf.Tensor,
        v_BKSH: tf.Tensor,
        mask_B11TS: tf.Tensor,
    ) -> tf.Tensor:
        """Mixes values by the softmax of whole rows of scores; returns `[B, T, A, H]`.

        The queries come scaled.
        """
        kv_heads, head_dim = self.kv_heads, self.head_dim
        length, keys = dimensions(q_BATH)[2], dimensions(k_BKSH)[2]
        group = self.heads // kv_heads
        # The queries of a group stand one below the other: one product per kv head.
        q_BKXH = tf.reshape(q_BATH, [-1, kv_heads, group * length, head_dim])
        scores = tf.matmul(q_BKXH, k_BKSH, transpose_b=True)
        scores = tf.reshape(scores, [-1, kv_heads, group, length, keys])
        probs = masked_softmax(scores, mask_B11TS)
        probs = tf.reshape(probs, [-1, kv_heads, group * length, keys])
        mixed_BATH = tf.reshape(
            tf.matmul(probs, v_BKSH), [-1, self.heads, length, head_dim]
        )
        return tf.transpose(mixed_BATH, [0, 2, 1, 3])

    def _finish(self, mixed_BTAH: tf.Tensor) -> tf.Tensor:
        """Joins the heads by the output product; returns `[N, D]`."""
        mixed_ND = tf.reshape(mixed_BTAH, [-1, self.heads * self.head_dim])
        return tf.matmul(mixed_ND, tf.cast(self.out, mixed_ND.dtype))


def masked_softmax(scores: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns softmax(scores + mask) over the last axis, in the type of the scores.

    Statistics are float32. The gradient, with p the result and dp its gradient, is
    p (dp - sum of p dp), and keeps p alone.
    """

    @tf.custom_gradient
    def run(scores: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        probs = _softmax(scores, mask)
        return probs, lambda upstream: _softmax_gradient(probs, upstream)

    return run(scores)


@fused
def _softmax(scores: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    return tf.cast(softmax(tf.cast(scores, tf.float32) + mask), scores.dtype)


@fused
def _softmax_gradient(probs: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    p, dp = tf.cast(probs, tf.float32), tf.cast(upstream, tf.float32)
    return tf.cast(p * (dp - sum_of(p * dp, -1)), probs.dtype)


def segment_mask(
    segment_ids_BT: tf.Tensor, prefix_BT: tf.Tensor | None = None
) -> tf.Tensor:
    """Returns `[B, 1, 1, T, T]`: 0 where a query may see a key, else `HIDDEN`.

    A query sees the keys of its own segment up to itself, and all keys of the
    segment's prefix: the prefix LM of Raffel et al. 2020, arXiv 1910.10683, figure 4.
    """
    length = dimensions(segment_ids_BT)[1]
    same = segment_ids_BT[:, :, None] == segment_ids_BT[:, None, :]
    seen = tf.linalg.band_part(tf.ones([length, length], tf.bool), -1, 0)
    if prefix_BT is not None:
        seen |= prefix_BT[:, None, :]
    return tf.where(same & seen, 0.0, HIDDEN)[:, None, None]


def cache_mask(positions_BT: tf.Tensor, capacity: tf.Tensor) -> tf.Tensor:
    """Returns `[B, 1, 1, T, S]`: 0 for the columns up to each query's own."""
    past = tf.range(capacity) <= positions_BT[:, :, None]
    return tf.where(past, 0.0, HIDDEN)[:, None, None]


def cache_places(columns_BT: tf.Tensor, kv_heads: int) -> tf.Tensor:
    """Returns (row, head, column) of each fresh key, int32 `[B, K, T, 3]`."""
    batch, length = dimensions(columns_BT)
    axes = (
        tf.range(batch)[:, None, None],
        tf.range(kv_heads)[None, :, None],
        columns_BT[:, None, :],
    )
    shape = [batch, kv_heads, length]
    return tf.stack([tf.broadcast_to(axis, shape) for axis in axes], axis=-1)
