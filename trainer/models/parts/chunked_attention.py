# SPDX-License-Identifier: Apache-2.0
"""Attention in chunks with its own gradient: memory linear in the length.

The scores of a chunk of queries and a chunk of keys are computed, used and forgotten.
With s the scores of a query, M a running maximum and S a running sum (Milakov and
Gimelshein 2018, arXiv 1805.02867; over chunks, Rabe and Staats 2021, arXiv 2112.05682):

    M' = max(M, max s)      p = exp(s - M')
    S' = S exp(M - M') + sum p      O' = O exp(M - M') + p v

and the result is O / S. The gradient keeps the result and L = M + log S of each query
alone, and computes p = exp(s - L) again (Dao 2023, arXiv 2307.08691, algorithm 2).
With dO the gradient of the result and D = sum(dO * O):

    dv = p' dO      ds = p (dO v' - D)      dq = ds k      dk = ds' q

Shape suffixes beyond those of `attention.py`: C chunk, X = G * C queries of one
key/value head, I chunks of a row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from trainer.compute.fusion import compiled_whole
from trainer.models.parts.layers import dimensions

# A hidden score, or added to one: exp underflows to 0, and no row can turn into NaN.
HIDDEN = -1e9


@dataclass(frozen=True)
class Segments:
    """The attention mask of packed rows, as segments and not as a matrix.

    Attributes:
        ids: int32 `[batch, length]`, one run of equal ids per segment; static length.
        prefix: bool `[batch, length]`, keys that their whole segment sees, or None.
        chunk: longest chunk; a row is cut into equal ones.
        window: positions that a query sees, its own counted; None is all.
        cap: c of c tanh(score / c); None caps none.
    """

    ids: tf.Tensor
    prefix: tf.Tensor | None
    chunk: int
    window: int | None = None
    cap: float | None = None


class _Chunks(NamedTuple):
    """The rows' ids and prefixes, cut: `[I, B, C]`; first and last key chunk, `[I]`.

    The last two are None where every chunk of queries goes through all of the keys.
    """

    ids: tf.Tensor
    prefix: tf.Tensor | None
    first: tf.Tensor | None
    last: tf.Tensor | None
    window: int | None
    cap: float | None

    def keys_of(self, i: tf.Tensor) -> tuple[int | tf.Tensor, int | tf.Tensor]:
        """Returns the first and last chunk of keys that queries of chunk i go to."""
        if self.first is None or self.last is None:
            return 0, self.ids.shape[0] - 1
        return self.first[i], self.last[i]


def chunked_attention(
    q_BTAH: tf.Tensor, k_BTKH: tf.Tensor, v_BTKH: tf.Tensor, segments: Segments
) -> tf.Tensor:
    """Mixes the values each query may see; returns `[B, T, A, H]`.

    A query sees the keys of its own segment up to itself, and all of its prefix. The
    queries come scaled. Statistics are float32, products in the inputs' type. Chunks
    of keys that no query of a chunk can see are never computed, so packed rows of
    short documents cost little more than their documents.
    """
    length, kv_heads, width = dimensions(k_BTKH)[1:]
    count = -(-length // segments.chunk)
    size = -(-length // count)
    group = dimensions(q_BTAH)[2] // kv_heads

    def cut(x_BTXH: tf.Tensor, heads: int) -> tf.Tensor:
        """Returns `[I, B, K, heads * C, H]`."""
        x = tf.pad(x_BTXH, [[0, 0], [0, count * size - length], [0, 0], [0, 0]])
        x = tf.reshape(x, [-1, count, size, kv_heads, heads, width])
        x = tf.transpose(x, [1, 0, 3, 4, 2, 5])
        return tf.reshape(x, [count, -1, kv_heads, heads * size, width])

    chunks = _cut_segments(segments, count, size)
    mixed = _attend(chunks, cut(q_BTAH, group), cut(k_BTKH, 1), cut(v_BTKH, 1))
    mixed = tf.reshape(mixed, [count, -1, kv_heads, group, size, width])
    mixed = tf.transpose(mixed, [1, 0, 4, 2, 3, 5])
    mixed = tf.reshape(mixed, [-1, count * size, kv_heads * group, width])
    return mixed[:, :length]


def _cut_segments(segments: Segments, count: int, size: int) -> _Chunks:
    """Cuts ids and prefixes, and finds which chunks of keys each of queries sees."""
    length = segments.ids.shape[1]
    missing = [[0, 0], [0, count * size - length]]
    # Added positions are a segment of their own, so no query of the row sees them.
    ids_BT = tf.pad(segments.ids, missing, constant_values=-1)

    def cut(x_BT: tf.Tensor) -> tf.Tensor:
        return tf.transpose(tf.reshape(x_BT, [-1, count, size]), [1, 0, 2])

    # A segment is one run, so the first key a chunk sees is the first of the segment
    # of its first query; the last is its own last, or where a prefix is seen from
    # before, the last of the segment of its last query.
    if compiled_whole() and tf.config.list_physical_devices("GPU"):
        # A loop of unknown length has the host wait for the GPU at every turn.
        prefix = segments.prefix
        if prefix is not None:
            prefix = cut(tf.pad(prefix, missing))
        return _Chunks(cut(ids_BT), prefix, None, None, segments.window, segments.cap)
    starts_BIT = ids_BT[:, None, :] == ids_BT[:, ::size, None]
    first = tf.reduce_min(tf.argmax(starts_BIT, axis=-1, output_type=tf.int32), 0)
    first, last = first // size, tf.range(count)
    if segments.window is not None:
        first = tf.maximum(first, (last * size - segments.window + 1) // size)
    prefix = segments.prefix
    if prefix is not None:
        ends_BIT = (ids_BT[:, None, :] == ids_BT[:, size - 1 :: size, None])[..., ::-1]
        behind = tf.reduce_min(tf.argmax(ends_BIT, axis=-1, output_type=tf.int32), 0)
        last = (count * size - 1 - behind) // size
        prefix = cut(tf.pad(prefix, missing))
    return _Chunks(cut(ids_BT), prefix, first, last, segments.window, segments.cap)


def _attend(
    chunks: _Chunks, q_IBKXH: tf.Tensor, k_IBKCH: tf.Tensor, v_IBKCH: tf.Tensor
) -> tf.Tensor:
    """Returns what each chunk of queries mixed, `[I, B, K, X, H]`."""

    @tf.custom_gradient
    def attend(
        q: tf.Tensor, k: tf.Tensor, v: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], list[tf.Tensor]]]:
        mixed, log_sums = _forward(chunks, q, k, v)

        def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
            return _backward(chunks, (q, k, v), mixed, log_sums, upstream)

        return mixed, gradient

    return attend(q_IBKXH, k_IBKCH, v_IBKCH)


def _scores(
    chunks: _Chunks, i: tf.Tensor, j: tf.Tensor, q_BKXH: tf.Tensor, k_BKCH: tf.Tensor
) -> tf.Tensor:
    """Returns float32 `[B, K, X, C]`, `HIDDEN` where i may not see j."""
    size, kv_heads = k_BKCH.shape[2], k_BKCH.shape[1]
    columns = tf.range(size)
    ahead = (i * size + columns)[:, None] - (j * size + columns)[None, :]
    seen = ahead >= 0
    if chunks.prefix is not None:
        seen |= chunks.prefix[j][:, None, :]
    if chunks.window is not None:
        seen &= tf.abs(ahead) < chunks.window
    seen &= chunks.ids[i][:, :, None] == chunks.ids[j][:, None, :]
    scores = tf.cast(tf.matmul(q_BKXH, k_BKCH, transpose_b=True), tf.float32)
    if chunks.cap is not None:
        scores = chunks.cap * tf.tanh(scores / chunks.cap)
    queries = q_BKXH.shape[2]
    scores = tf.reshape(scores, [-1, kv_heads, queries // size, size, size])
    # Chosen, not added to: on a CPU, XLA fuses the sum of a product and a mask into
    # loops that take 170 times as long.
    scores = tf.where(seen[:, None, None], scores, HIDDEN)
    return tf.reshape(scores, [-1, kv_heads, queries, size])


def _forward(
    chunks: _Chunks, q_IBKXH: tf.Tensor, k_IBKCH: tf.Tensor, v_IBKCH: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns what was mixed and float32 log-sums of exponentials `[I, B, K, X, 1]`."""
    count, dtype = q_IBKXH.shape[0], q_IBKXH.dtype
    wide, thin = q_IBKXH.shape[1:], [*q_IBKXH.shape[1:4], 1]
    start = tf.zeros_like(q_IBKXH[0], tf.float32)

    def queries(
        i: tf.Tensor, mixed: tf.TensorArray, log_sums: tf.TensorArray
    ) -> list[tf.Tensor | tf.TensorArray]:
        q_BKXH = q_IBKXH[i]

        def keys(
            j: tf.Tensor, top: tf.Tensor, total: tf.Tensor, out: tf.Tensor
        ) -> list[tf.Tensor]:
            scores = _scores(chunks, i, j, q_BKXH, k_IBKCH[j])
            new = tf.maximum(top, tf.reduce_max(scores, axis=-1, keepdims=True))
            probs, fade = tf.exp(scores - new), tf.exp(top - new)
            total = total * fade + tf.reduce_sum(probs, axis=-1, keepdims=True)
            product = tf.matmul(tf.cast(probs, dtype), v_IBKCH[j])
            return [j + 1, new, total, out * fade + tf.cast(product, tf.float32)]

        zero = start[..., :1]
        first, last = chunks.keys_of(i)
        _, top, total, out = tf.while_loop(
            lambda j, *_: j <= last,
            keys,
            [first, zero + tf.float32.min, zero, start],
            parallel_iterations=1,
        )
        mixed = mixed.write(i, tf.cast(out / total, dtype))
        return [i + 1, mixed, log_sums.write(i, top + tf.math.log(total))]

    _, mixed, log_sums = tf.while_loop(
        lambda i, *_: i < count,
        queries,
        [
            tf.constant(0),
            tf.TensorArray(dtype, count, element_shape=wide),
            tf.TensorArray(tf.float32, count, element_shape=thin),
        ],
        # By default ten chunks would hold their scores at once: at a length of 4,096
        # a step of the preset 14m took 3.2 GB in place of 1.7.
        parallel_iterations=1,
    )
    return mixed.stack(), log_sums.stack()


def _backward(
    chunks: _Chunks,
    inputs: tuple[tf.Tensor, tf.Tensor, tf.Tensor],
    mixed_IBKXH: tf.Tensor,
    log_sums_IBKX1: tf.Tensor,
    upstream_IBKXH: tf.Tensor,
) -> list[tf.Tensor]:
    """Returns the gradients of queries, keys and values, in their type."""
    q_IBKXH, k_IBKCH, v_IBKCH = inputs
    count, dtype = q_IBKXH.shape[0], q_IBKXH.dtype
    products = tf.cast(upstream_IBKXH, tf.float32) * tf.cast(mixed_IBKXH, tf.float32)
    dots_IBKX1 = tf.reduce_sum(products, axis=-1, keepdims=True)
    start = tf.zeros_like(q_IBKXH[0], tf.float32)

    def queries(
        i: tf.Tensor, dq: tf.TensorArray, dk: tf.TensorArray, dv: tf.TensorArray
    ) -> list[tf.Tensor | tf.TensorArray]:
        q_BKXH, upstream = q_IBKXH[i], upstream_IBKXH[i]
        log_sums, dots = log_sums_IBKX1[i], dots_IBKX1[i]

        def keys(
            j: tf.Tensor, dq_i: tf.Tensor, dk: tf.TensorArray, dv: tf.TensorArray
        ) -> list[tf.Tensor | tf.TensorArray]:
            k_BKCH = k_IBKCH[j]
            scores = _scores(chunks, i, j, q_BKXH, k_BKCH)
            probs = tf.exp(scores - log_sums)
            d_probs = tf.matmul(upstream, v_IBKCH[j], transpose_b=True)
            d_scores = probs * (tf.cast(d_probs, tf.float32) - dots)
            if chunks.cap is not None:
                d_scores *= 1.0 - tf.square(scores / chunks.cap)
            probs, d_scores = tf.cast(probs, dtype), tf.cast(d_scores, dtype)
            dv_j = tf.matmul(probs, upstream, transpose_a=True)
            dk_j = tf.matmul(d_scores, q_BKXH, transpose_a=True)
            dq_i += tf.cast(tf.matmul(d_scores, k_BKCH), tf.float32)
            dk = dk.write(j, dk.read(j) + tf.cast(dk_j, tf.float32))
            dv = dv.write(j, dv.read(j) + tf.cast(dv_j, tf.float32))
            return [j + 1, dq_i, dk, dv]

        first, last = chunks.keys_of(i)
        _, dq_i, dk, dv = tf.while_loop(
            lambda j, *_: j <= last,
            keys,
            [first, start, dk, dv],
            parallel_iterations=1,
        )
        return [i + 1, dq.write(i, tf.cast(dq_i, dtype)), dk, dv]

    _, *gradients = tf.while_loop(
        lambda i, *_: i < count,
        queries,
        [
            tf.constant(0),
            tf.TensorArray(dtype, count, element_shape=q_IBKXH.shape[1:]),
            _zeros(k_IBKCH),
            _zeros(v_IBKCH),
        ],
        parallel_iterations=1,
    )
    return [tf.cast(array.stack(), dtype) for array in gradients]


def _zeros(like: tf.Tensor) -> tf.TensorArray:
    """Returns float32 zeros of the slices of `like`, to be added to in turn."""
    array = tf.TensorArray(
        tf.float32,
        like.shape[0],
        element_shape=like.shape[1:],
        clear_after_read=False,
    )
    return array.unstack(tf.zeros_like(like, tf.float32))
