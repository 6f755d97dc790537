# SPDX-License-Identifier: Apache-2.0
"""Causal grouped-query attention with rotary positions, over rows and over a cache.

Shape suffixes: B batch, T queries, S keys, N = B * T, D d_model, K key/value heads,
G query heads per key/value head, A = K * G query heads, H head_dim.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from trainer.compute.fusion import fused, softmax, sum_of
from trainer.models.parts.cache import Places
from trainer.models.parts.chunked_attention import HIDDEN, Segments, chunked_attention
from trainer.models.parts.fused_attention import PackedSegments, fused_attention
from trainer.models.parts.layers import (
    Initializer,
    add_bias,
    dimensions,
    residual_stddev,
)
from trainer.models.parts.normalisation import RMSNorm
from trainer.models.parts.rotary import Heads, rotated_heads, turned_step
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


@dataclass(frozen=True)
class AttentionSizes:
    """What an attention layer is made of.

    Attributes:
        width: D, of the residual stream.
        heads: the heads.
        depth: layers of the model, which initial weights follow from.
        bias: whether queries, keys and values have biases ("qkv"), the output as well
            ("all"), or nothing ("none").
        qk_norm: the norm of queries and keys: of each "head", the whole "layer", or
            "none".
        norm_epsilon: of that norm.
        norm_offset: added to its scales.
        scale: of the scores; None means 1 / sqrt(H).
        cap: c of c tanh(score / c); None caps none.
    """

    width: int
    heads: HeadSizes
    depth: int
    bias: str = "none"
    qk_norm: str = "none"
    norm_epsilon: float = 1e-5
    norm_offset: float = 0.0
    scale: float | None = None
    cap: float | None = None


class AttentionView(NamedTuple):
    """What a layer's queries see, and how they and keys are turned.

    Attributes:
        length: T, of the rows.
        rotation: of `rotation_table`, or where a cache is read by single positions of
            `step_table`; None turns nothing.
        mask: the attention mask: one of `segment_mask` or `cache_mask`, or the
            segments it follows from, to go through in chunks or packed for a kernel.
    """

    length: int | tf.Tensor
    rotation: tuple[tf.Tensor, tf.Tensor] | None
    mask: tf.Tensor | Segments | PackedSegments

    @property
    def one(self) -> bool:
        """Whether rows are known to be single positions."""
        return isinstance(self.length, int) and self.length == 1


class Attention(tf.Module):
    """Grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245).

    Query, key and value weights are one matrix `[D, (A + 2 K) * H]`, the output's is
    `[A * H, D]`; query head a reads key/value head a // G.
    """

    def __init__(self, sizes: AttentionSizes, initializer: Initializer) -> None:
        super().__init__()
        heads, width = sizes.heads, sizes.width
        self._sizes = sizes
        self._scale = heads.head_dim**-0.5 if sizes.scale is None else sizes.scale
        widths = (heads.query_width, heads.kv_width, heads.kv_width)
        self.qkv = initializer.normal(
            "qkv", [width, sum(widths)], width**-0.5, Weight(Role.MATRIX, widths)
        )
        self.out = initializer.normal(
            "out",
            [heads.query_width, width],
            residual_stddev(heads.query_width, sizes.depth),
            Weight(Role.MATRIX),
        )
        self.qkv_bias = self.out_bias = self.q_norm = self.k_norm = None
        bias = Weight(Role.BIAS)
        if sizes.bias != "none":
            self.qkv_bias = initializer.constant("qkv_bias", [sum(widths)], 0.0, bias)
        if sizes.bias == "all":
            self.out_bias = initializer.constant("out_bias", [width], 0.0, bias)
        if sizes.qk_norm != "none":
            whole = sizes.qk_norm == "layer"
            self.q_norm, self.k_norm = (
                RMSNorm(
                    columns if whole else heads.head_dim,
                    sizes.norm_epsilon,
                    initializer.under(name),
                    sizes.norm_offset,
                )
                for name, columns in zip(("q_norm", "k_norm"), widths, strict=False)
            )

    def __call__(self, x_ND: tf.Tensor, view: AttentionView) -> tf.Tensor:
        """Attends within whole rows; maps `[N, D]` in the compute type to the same."""
        mask = view.mask
        if isinstance(mask, Segments | PackedSegments):
            q_BTAH, k_BTKH, v_BTKH = self._project(x_ND, view, heads_first=False)
            if isinstance(mask, Segments):
                mixed_BTAH = chunked_attention(q_BTAH, k_BTKH, v_BTKH, mask)
            else:
                mixed_BTAH = fused_attention(q_BTAH, k_BTKH, v_BTKH, mask)
        else:
            q_BATH, k_BKTH, v_BKTH = self._project(x_ND, view, heads_first=True)
            mixed_BTAH = self._attend(q_BATH, k_BKTH, v_BKTH, mask)
        return self._finish(mixed_BTAH)

    def decode(
        self,
        x_ND: tf.Tensor,
        view: AttentionView,
        cache: tuple[tf.Tensor, tf.Tensor],
        places: Places,
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        """Writes keys and values at their places in the cache, then attends to it.

        The cache is `[B, K, S, H]` twice, as the products read it: turning a cache
        kept by time costs more than writing H numbers at a time. On 2 cores whole
        answers came 1.11 (8 prompts), 1.25 (32) and 1.25 (64) times as fast as with
        slices scattered by time (`tests.benchmarks.before_after`).
        """
        if view.one:
            q_BATH, k_BKTH, v_BKTH = self._project_step(x_ND, view)
        else:
            q_BATH, k_BKTH, v_BKTH = self._project(x_ND, view, heads_first=True)
        k_BKSH, v_BKSH = (
            places.write(old, new)
            for old, new in zip(cache, (k_BKTH, v_BKTH), strict=True)
        )
        mixed_BTAH = self._attend(q_BATH, k_BKSH, v_BKSH, view.mask)
        return self._finish(mixed_BTAH), (k_BKSH, v_BKSH)

    def _project(
        self, x_ND: tf.Tensor, view: AttentionView, heads_first: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns queries, turned and scaled, turned keys, and values.

        Each is `[B, heads, T, H]`, or `[B, T, heads, H]` unless `heads_first`.
        """
        sizes = self._sizes.heads
        all_BTXH = self._product(x_ND, view.length)
        layout = Heads(sizes.heads, sizes.kv_heads, self._scale, heads_first)
        return rotated_heads(all_BTXH, view.rotation, layout)

    def _project_step(
        self, x_BD: tf.Tensor, view: AttentionView
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns what `_project` does of single positions, `[B, heads, 1, H]`.

        Queries and keys are turned together, and with one position nothing has to be
        transposed.
        """
        sizes = self._sizes.heads
        turned = sizes.heads + sizes.kv_heads
        all_B1XH = self._product(x_BD, 1)
        qk_B1YH, v_B1KH = tf.split(all_B1XH, [turned, sizes.kv_heads], axis=2)
        qk_BYH = turned_step(tf.squeeze(qk_B1YH, 1), view.rotation)
        q_BAH, k_BKH = tf.split(qk_BYH, [sizes.heads, sizes.kv_heads], axis=1)
        v_BKH = tf.squeeze(v_B1KH, 1)
        scaled_BAH = tf.cast(tf.cast(q_BAH, tf.float32) * self._scale, q_BAH.dtype)
        return scaled_BAH[:, :, None], k_BKH[:, :, None], v_BKH[:, :, None]

    def _product(self, x_ND: tf.Tensor, length: int | tf.Tensor) -> tf.Tensor:
        """Returns queries, keys and values side by side, `[B, T, X, H]`."""
        sizes = self._sizes.heads
        flat = tf.matmul(x_ND, tf.cast(self.qkv, x_ND.dtype))
        flat = self._normed(add_bias(flat, self.qkv_bias))
        heads = sizes.heads + 2 * sizes.kv_heads
        return tf.reshape(flat, [-1, length, heads, sizes.head_dim])

    def _normed(self, flat_NX: tf.Tensor) -> tf.Tensor:
        """Returns the product with its queries and keys normed, if they are."""
        if self.q_norm is None or self.k_norm is None:
            return flat_NX
        sizes = self._sizes.heads
        widths = [sizes.query_width, sizes.kv_width, sizes.kv_width]
        *parts, values = tf.split(flat_NX, widths, axis=1)
        normed = []
        for norm, part in zip((self.q_norm, self.k_norm), parts, strict=True):
            rows = tf.reshape(part, [-1, norm.scale.shape[0]])
            normed.append(tf.reshape(norm(rows, part.dtype), tf.shape(part)))
        return tf.concat([*normed, values], axis=1)

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
        sizes = self._sizes.heads
        kv_heads, head_dim = sizes.kv_heads, sizes.head_dim
        length, keys = dimensions(q_BATH)[2], dimensions(k_BKSH)[2]
        group = sizes.heads // kv_heads
        # The queries of a group stand one below the other: one product per kv head.
        q_BKXH = tf.reshape(q_BATH, [-1, kv_heads, group * length, head_dim])
        product = tf.matmul
        if isinstance(length, int) and length == 1 and q_BATH.dtype == tf.float32:
            product = _row_product
        scores = product(q_BKXH, k_BKSH, transpose_b=True)
        scores = tf.reshape(scores, [-1, kv_heads, group, length, keys])
        probs = masked_softmax(scores, mask_B11TS, self._sizes.cap)
        probs = tf.reshape(probs, [-1, kv_heads, group * length, keys])
        mixed_BATH = tf.reshape(
            product(probs, v_BKSH), [-1, sizes.heads, length, head_dim]
        )
        return tf.transpose(mixed_BATH, [0, 2, 1, 3])

    def _finish(self, mixed_BTAH: tf.Tensor) -> tf.Tensor:
        """Joins the heads by the output product; returns `[N, D]`."""
        mixed_ND = tf.reshape(mixed_BTAH, [-1, self._sizes.heads.query_width])
        product = tf.matmul(mixed_ND, tf.cast(self.out, mixed_ND.dtype))
        return add_bias(product, self.out_bias)


def _row_product(
    rows: tf.Tensor, matrices: tf.Tensor, transpose_b: bool = False
) -> tf.Tensor:
    """Returns `tf.matmul` of single rows and large matrices, by TensorFlow's kernel.

    oneDNN, which takes the operation behind `tf.matmul` over, is slower at it: of 32
    rows of 192 positions a pair takes 1.5 ms by its kernel and 1.3 by this one. In
    bfloat16 it is faster.
    """
    return tf.raw_ops.BatchMatMulV3(
        x=rows, y=matrices, Tout=rows.dtype, adj_y=transpose_b
    )


def masked_softmax(
    scores: tf.Tensor, mask: tf.Tensor, cap: float | None = None
) -> tf.Tensor:
    """Returns softmax(capped scores + mask) over the last axis, in the scores' type.

    Statistics are float32. The gradient, with p the result and dp its gradient, is
    p (dp - sum of p dp), and keeps p alone. A cap c makes a score s c tanh(s / c)
    (Gemma 2, arXiv 2408.00118, section 2), of slope 1 - tanh(s / c)^2; it keeps s too.
    """

    @tf.custom_gradient
    def run(scores: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        probs = _softmax(scores, mask, cap)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            into = _softmax_gradient(probs, upstream)
            return into if cap is None else _capped_gradient(into, scores, cap)

        return probs, gradient

    return run(scores)


@fused
def _softmax(scores: tf.Tensor, mask: tf.Tensor, cap: float | None) -> tf.Tensor:
    wide = tf.cast(scores, tf.float32)
    if cap is not None:
        wide = cap * tf.tanh(wide / cap)
    return tf.cast(softmax(wide + mask), scores.dtype)


@fused
def _softmax_gradient(probs: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    p, dp = tf.cast(probs, tf.float32), tf.cast(upstream, tf.float32)
    return tf.cast(p * (dp - sum_of(p * dp, -1)), probs.dtype)


@fused
def _capped_gradient(into: tf.Tensor, scores: tf.Tensor, cap: float) -> tf.Tensor:
    slope = 1.0 - tf.square(tf.tanh(tf.cast(scores, tf.float32) / cap))
    return tf.cast(tf.cast(into, tf.float32) * slope, into.dtype)


def segment_mask(
    segment_ids_BT: tf.Tensor,
    prefix_BT: tf.Tensor | None = None,
    window: int | None = None,
) -> tf.Tensor:
    """Returns `[B, 1, 1, T, T]`: 0 where a query may see a key, else `HIDDEN`.

    A query sees the keys of its own segment up to itself, and all keys of the
    segment's prefix: the prefix LM of Raffel et al. 2020, arXiv 1910.10683, figure 4.
    Within a window it sees those less than that many positions away.
    """
    length = dimensions(segment_ids_BT)[1]
    same = segment_ids_BT[:, :, None] == segment_ids_BT[:, None, :]
    seen = tf.linalg.band_part(tf.ones([length, length], tf.bool), -1, 0)
    if prefix_BT is not None:
        seen |= prefix_BT[:, None, :]
    if window is not None:
        columns = tf.range(length)
        seen &= tf.abs(columns[:, None] - columns) < window
    return tf.where(same & seen, 0.0, HIDDEN)[:, None, None]
