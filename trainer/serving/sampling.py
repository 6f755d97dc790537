# SPDX-License-Identifier: Apache-2.0
"""Chooses one token per row from logits, with every parameter a tensor per row.

    logits ─┬─ argmax ─────────────────────────────── rows with temperature <= 0
            └─ / temperature ─ top_k, top_p ─ + Gumbel ─ argmax ── the other rows

The noise of a candidate is a pure function of (the row's seed, step, token id), so a
row's sample never depends on its neighbours in the batch, nor on how it was reached.
"""

from typing import NamedTuple

import tensorflow as tf

# Candidates ranked for top_k and top_p. A full sort of a 16 k vocabulary halves
# decoding speed on a CPU; a nucleus wider than this is cut to its 256 likeliest.
MAX_CANDIDATES = 256

# SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
# OOPSLA 2014): increment and the two multipliers of its finaliser.
_INCREMENT = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


class Sampling(NamedTuple):
    """How each row is continued; every field is a `[batch]` tensor.

    Attributes:
        max_new_tokens: int32, the most ids to generate.
        temperature: float32; 0 or less is greedy.
        top_k: int32, sample among the k likeliest; 0 or less sets no limit.
        top_p: float32, sample among the fewest ids whose mass reaches p; 1 sets none.
        seed: int64, the row's own.
    """

    max_new_tokens: tf.Tensor
    temperature: tf.Tensor
    top_k: tf.Tensor
    top_p: tf.Tensor
    seed: tf.Tensor


def sample(logits: tf.Tensor, sampling: Sampling, step: tf.Tensor) -> tf.Tensor:
    """Returns int32 ids `[batch]` chosen from float32 `logits` `[batch, vocab]`.

    `step` is the int32 number of ids the row has generated so far. `top_k` and
    `top_p` beyond `MAX_CANDIDATES` ids act as that many; with neither set the whole
    vocabulary takes part.
    """
    return tf.cond(
        tf.reduce_any(sampling.temperature > 0),
        lambda: _sample_some(logits, sampling, step),
        lambda: tf.argmax(logits, axis=-1, output_type=tf.int32),
    )


def _sample_some(logits: tf.Tensor, sampling: Sampling, step: tf.Tensor) -> tf.Tensor:
    greedy = sampling.temperature <= 0
    scaled = logits / tf.where(greedy, 1.0, sampling.temperature)[:, None]
    limited = _sample_limited(scaled, sampling, step)
    unlimited = (sampling.top_k <= 0) & (sampling.top_p >= 1) & ~greedy
    # Both branches give one id the same noise, so which rows share the batch, and
    # hence which branch runs, changes no row's answer.
    chosen = tf.cond(
        tf.reduce_any(unlimited),
        lambda: tf.where(
            unlimited, _sample_unlimited(scaled, sampling.seed, step), limited
        ),
        lambda: limited,
    )
    return tf.where(greedy, tf.argmax(logits, axis=-1, output_type=tf.int32), chosen)


def _sample_limited(
    scaled: tf.Tensor, sampling: Sampling, step: tf.Tensor
) -> tf.Tensor:
    """Samples among the candidates that top_k and top_p leave."""
    candidates = min(MAX_CANDIDATES, int(scaled.shape[-1]))
    values, ids = tf.math.top_k(scaled, candidates)
    total = tf.reduce_logsumexp(scaled, axis=-1, keepdims=True)
    mass_before = tf.cumsum(tf.exp(values - total), axis=-1, exclusive=True)
    rank = tf.range(candidates)[None]
    top_k = tf.where(sampling.top_k > 0, sampling.top_k, candidates)[:, None]
    keep = (rank < top_k) & ((mass_before < sampling.top_p[:, None]) | (rank == 0))
    noisy = values + gumbel(sampling.seed, step, ids)
    best = tf.argmax(tf.where(keep, noisy, scaled.dtype.min), axis=-1)
    return tf.gather(ids, best, batch_dims=1)


def _sample_unlimited(scaled: tf.Tensor, seed: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """Samples from the whole vocabulary."""
    ids = tf.range(int(scaled.shape[-1]))[None]
    return tf.argmax(scaled + gumbel(seed, step, ids), axis=-1, output_type=tf.int32)


def gumbel(seed: tf.Tensor, step: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Returns standard Gumbel noise, float32 `[batch, n]`, for `ids` `[batch|1, n]`.

    A stateless op of TensorFlow takes one seed for a whole tensor, so the bits come
    from SplitMix64 instead: about ten elementwise ops, one stream per row and step.
    """
    increment = tf.constant(_INCREMENT, tf.uint64)
    stream = _mix(tf.bitcast(seed, tf.uint64) + increment)
    stream = _mix(stream + tf.cast(step, tf.uint64))
    bits = _mix(stream[:, None] + increment * tf.cast(ids + 1, tf.uint64))
    # 23 bits and a half: the largest float below 1 is reached, 1 itself never.
    high = tf.cast(tf.bitwise.right_shift(bits, _word(41)), tf.float32)
    uniform = (high + 0.5) * 2.0**-23
    return -tf.math.log(-tf.math.log(uniform))


def _mix(x: tf.Tensor) -> tf.Tensor:
    x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _word(30)))
    x = x * _word(_MULTIPLIERS[0])
    x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _word(27)))
    x = x * _word(_MULTIPLIERS[1])
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _word(31)))


def _word(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint64)
