# SPDX-License-Identifier: Apache-2.0
"""Chooses one token per row from logits, with every parameter a tensor per row.

    logits ─ penalty ─┬─ argmax ──────────────────────────── rows with temperature <= 0
                      └─ / temperature ─ top_k, top_p, min_p ─ + Gumbel ─ argmax

The noise of a candidate is a pure function of (the row's seed, step, token id), so a
row's sample never depends on its neighbours in the batch, nor on how it was reached.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

# Candidates that are ranked without sorting the vocabulary, which halves decoding speed
# on a CPU with 16 k ids. A row whose choice does not lie among them is sorted whole.
_CANDIDATES = 256
# Smaller temperatures read as 0 where denormal numbers do, and the others' quotients
# differ from greedy's choice only in logits that float32 tells apart next to 0.
_COLDEST = float(np.finfo(np.float32).tiny)

# SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
# OOPSLA 2014): increment and the two multipliers of its finaliser.
_INCREMENT = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)

# A float32 stands for numbers this close to it: one of ten equal ids has a mass of 0.1,
# and float32's 0.1 is a little more.
_SAME_SHARE = 1 - 2.0**-24
# Of the unit interval, what float32 tells from its ends.
_SMALLEST_PART, _LARGEST_PART = 2.0**-65, 1 - 2.0**-24


class Sampling(NamedTuple):
    """How each row is continued; every field is a `[batch]` tensor.

    The order is that of Hugging Face's processors: the logits are divided by the
    temperature, `top_k` cuts, `top_p` is a share of what `top_k` left, and `min_p` cuts
    last. Of equal logits the lower ids stand first, as for greedy's choice.

    Attributes:
        max_new_tokens: int32, the most ids to generate.
        temperature: float32; 0 or less is greedy.
        top_k: int32, sample among the k likeliest; 0 or less sets no limit, nor does
            the vocabulary's size or more.
        top_p: float32, sample among the fewest ids whose mass reaches p; 1 or more
            sets no limit, 0 or less leaves the likeliest id.
        seed: int64, the row's own.
        min_p: float32, sample among the ids of at least that share of the likeliest
            id's likelihood; 0 or less sets no limit; None sets none for any row.
        repetition_penalty: float32, above 0; see `penalised`. 1 leaves logits as they
            are; None those of every row.
    """

    max_new_tokens: tf.Tensor
    temperature: tf.Tensor
    top_k: tf.Tensor
    top_p: tf.Tensor
    seed: tf.Tensor
    min_p: tf.Tensor | None = None
    repetition_penalty: tf.Tensor | None = None


class _Limits(NamedTuple):
    """What rows are sampled among, one entry a row."""

    top_k: tf.Tensor  # int32, from 1 to the vocabulary's size
    top_p: tf.Tensor  # float64
    lowest: tf.Tensor  # float32, the least logarithm of a share that min_p leaves
    temperature: tf.Tensor  # float32, above 0
    seed: tf.Tensor  # int64
    step: tf.Tensor  # int32


def checked(
    sampling: Sampling, rows: tf.Tensor, also: Mapping[str, tf.Tensor] | None = None
) -> Sampling:
    """Returns `sampling`, which is refused unless it suits `rows` prompts, int32.

    Args:
        sampling: the parameters.
        rows: how many prompts there are.
        also: what else has to have a value for each.

    Raises:
        tf.errors.InvalidArgumentError: a parameter has not one value for each prompt,
            or is NaN; when the graph runs.
    """
    given = {k: field for k, field in sampling._asdict().items() if field is not None}
    sized = {**given, **(also or {})}
    found = {name: tf.size(field) for name, field in sized.items()}
    told = [part for name, size in found.items() for part in (f"{name}:", size)]
    unequal = tf.reduce_any(tf.stack(list(found.values())) != rows)
    checks = [
        tf.debugging.Assert(
            ~unequal,
            ["wanted one value of every input for each of the prompts:", rows, *told],
        )
    ]
    for name in [name for name, field in given.items() if field.dtype.is_floating]:
        nan = tf.reduce_any(tf.math.is_nan(given[name]))
        wish = f"wanted a {name} for every row, found NaN. Send a number"
        checks.append(tf.debugging.Assert(~nan, [wish]))
    if sampling.repetition_penalty is not None:
        above = tf.reduce_all(sampling.repetition_penalty > 0)
        wish = "wanted a repetition_penalty above 0 for every row, found less. Send 1"
        checks.append(tf.debugging.Assert(above, [wish]))
    with tf.control_dependencies([check for check in checks if check is not None]):
        return Sampling(**{name: tf.identity(field) for name, field in given.items()})


def penalised(logits: tf.Tensor, seen: tf.Tensor, penalty: tf.Tensor) -> tf.Tensor:
    """Makes ids less likely that a row has seen: logits divided, below 0 multiplied.

    That is what CTRL (Keskar et al. 2019, arXiv 1909.05858) and Hugging Face's
    `RepetitionPenaltyLogitsProcessor` do, over the prompt and what was generated.

    Args:
        logits: float32 `[batch, vocab]`.
        seen: bool `[batch, vocab]`.
        penalty: float32 `[batch]`.
    """

    def apply() -> tf.Tensor:
        by = penalty[:, None]
        return tf.where(seen, tf.where(logits < 0, logits * by, logits / by), logits)

    return tf.cond(tf.reduce_any(penalty != 1), apply, lambda: logits)


def sample(logits: tf.Tensor, sampling: Sampling, step: tf.Tensor) -> tf.Tensor:
    """Returns int32 ids `[batch]` chosen from float32 `logits` `[batch, vocab]`.

    `step` is int32, a number or `[batch]`: ids the row has generated so far. No
    parameter is NaN, and every logit is finite.
    """
    best = tf.argmax(logits, axis=-1, output_type=tf.int32)

    def some() -> tf.Tensor:
        min_p = sampling.min_p
        chosen = _sampler(int(logits.shape[-1]))(
            logits,
            best,
            sampling.temperature,
            sampling.top_k,
            sampling.top_p,
            tf.zeros_like(sampling.temperature) if min_p is None else min_p,
            sampling.seed,
            tf.broadcast_to(step, tf.shape(sampling.seed)),
        )
        return tf.ensure_shape(chosen, best.shape)

    return tf.cond(tf.reduce_any(sampling.temperature >= _COLDEST), some, lambda: best)


@functools.cache
def _sampler(vocab: int) -> Callable[..., tf.Tensor]:
    """Returns `_sample_some` for a vocabulary, traced once for all graphs.

    A release has it ten times, which took 15 of 57 s to write a small one, under a
    profiler. Runtimes put its operations where it is called.
    """
    kinds = tf.float32, tf.int32, tf.float32, tf.float32, tf.int64, tf.int32
    rows = [tf.TensorSpec([None], kind) for kind in (tf.int32, *kinds)]
    taken = [tf.TensorSpec([None, vocab], tf.float32), *rows]
    return tf.function(_sample_some, autograph=False, input_signature=taken)


def _sample_some(
    logits: tf.Tensor,
    best: tf.Tensor,
    temperature: tf.Tensor,
    top_k: tf.Tensor,
    top_p: tf.Tensor,
    min_p: tf.Tensor,
    seed: tf.Tensor,
    step: tf.Tensor,
) -> tf.Tensor:
    """Samples where the temperature asks for it; the other rows keep `best`."""
    warm, vocab = temperature >= _COLDEST, int(logits.shape[-1])
    # Less the maximum, since quotients of tiny temperatures would pass float32.
    below = logits - tf.reduce_max(logits, axis=-1, keepdims=True)
    within = (top_k > 0) & (top_k < vocab)
    limits = _Limits(
        tf.where(within, top_k, vocab),
        tf.cast(top_p, tf.float64),
        # Above 1 not even the likeliest id would be left.
        tf.math.log(tf.clip_by_value(min_p, 0.0, 1.0)),
        tf.where(warm, temperature, 1.0),
        seed,
        step,
    )
    limited = warm & (within | (top_p < 1))
    # One id has the same noise in every branch, and each row goes the way that its own
    # values say: which rows share the batch changes no row's answer.
    chosen = tf.cond(
        tf.reduce_any(warm & ~limited),
        lambda: tf.where(warm, _sample_unlimited(below, limits), best),
        lambda: best,
    )
    return tf.cond(
        tf.reduce_any(limited),
        lambda: _put(chosen, limited, _sample_limited(below, limited, limits)),
        lambda: chosen,
    )


def _sample_limited(below: tf.Tensor, limited: tf.Tensor, limits: _Limits) -> tf.Tensor:
    """Samples the rows that `limited` names, among what top_k and top_p leave.

    `below` are the logits less their maximum. Masses are float64: summed in float32, a
    nucleus that reaches into a flat tail would end some ids off.
    """
    below = tf.boolean_mask(below, limited)
    limits = _of(limits, limited)
    vocab = int(below.shape[-1])
    if vocab <= _CANDIDATES:
        values, ids = tf.math.top_k(below, vocab)
        return _sample_ranked(values, ids, limits)
    values, ids = tf.math.top_k(below, _CANDIDATES)
    mass = tf.reduce_sum(_masses(values, limits), axis=-1)
    # Half a millisecond for 16 rows of 16 k ids, which top_k alone does not need.
    whole = tf.cond(
        tf.reduce_any(limits.top_k == vocab),
        lambda: tf.reduce_sum(_masses(below, limits), axis=-1),
        lambda: mass,
    )
    short = (limits.top_k < vocab) | (mass < limits.top_p * whole)
    wide = (limits.top_k > _CANDIDATES) & short
    chosen = _sample_ranked(values, ids, limits, whole)

    def sort_wide() -> tf.Tensor:
        values, ids = tf.math.top_k(tf.boolean_mask(below, wide), vocab)
        sampled = _sample_ranked(values, ids, _of(limits, wide))
        return _put(chosen, wide, sampled)

    return tf.cond(tf.reduce_any(wide), sort_wide, lambda: chosen)


def _sample_ranked(
    values: tf.Tensor,
    ids: tf.Tensor,
    limits: _Limits,
    whole: tf.Tensor | float = 0.0,
) -> tf.Tensor:
    """Samples among ranked candidates, their `values` and `ids` `[batch, n]`.

    Ranked by logits, since quotients of large temperatures tie. `whole` is the
    vocabulary's mass, for rows whose `top_k` is more than n.
    """
    count = int(values.shape[-1])
    rank = tf.range(count)[None]
    among = rank < limits.top_k[:, None]
    mass = tf.where(among, _masses(values, limits), 0.0)
    before = tf.cumsum(mass, axis=-1, exclusive=True)
    total = tf.where(limits.top_k <= count, before[:, -1] + mass[:, -1], whole)
    wanted = limits.top_p * total * _SAME_SHARE
    keep = (rank == 0) | (before < wanted[:, None]) | (limits.top_p >= 1)[:, None]
    quotients = values / limits.temperature[:, None]
    keep &= quotients >= limits.lowest[:, None]
    noisy = quotients + gumbel(limits.seed, limits.step, ids)
    best = tf.argmax(tf.where(keep & among, noisy, values.dtype.min), axis=-1)
    return tf.gather(ids, best, batch_dims=1)


def _sample_unlimited(below: tf.Tensor, limits: _Limits) -> tf.Tensor:
    """Samples from all of the vocabulary that min_p leaves."""
    ids = tf.range(int(below.shape[-1]))[None]
    quotients = below / limits.temperature[:, None]
    noisy = quotients + gumbel(limits.seed, limits.step, ids)
    noisy = tf.where(quotients >= limits.lowest[:, None], noisy, below.dtype.min)
    return tf.argmax(noisy, axis=-1, output_type=tf.int32)


def _masses(below: tf.Tensor, limits: _Limits) -> tf.Tensor:
    """Returns the likelihoods, float64, as shares of the likeliest id's."""
    quotients = tf.cast(below / limits.temperature[:, None], tf.float64)
    return tf.exp(quotients)


def _of(limits: _Limits, mask: tf.Tensor) -> _Limits:
    """Returns the limits of the masked rows."""
    return _Limits(*(tf.boolean_mask(field, mask) for field in limits))


def _put(values: tf.Tensor, mask: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Returns `values` `[batch]` with the masked ones replaced, in their order."""
    return tf.tensor_scatter_nd_update(values, tf.where(mask), chosen)


def gumbel(seed: tf.Tensor, step: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """Returns standard Gumbel noise, float32 `[batch, n]`, for `ids` `[batch|1, n]`.

    A stateless op of TensorFlow takes one seed for a whole tensor, so the bits come
    from SplitMix64 instead: about ten elementwise ops, one stream per row and step.
    """
    increment = tf.constant(_INCREMENT, tf.uint64)
    stream = _mix(tf.bitcast(seed, tf.uint64) + increment)
    stream = _mix(stream + tf.cast(step, tf.uint64))
    bits = _mix(stream[:, None] + increment * tf.cast(ids + 1, tf.uint64))
    # -log(-log(1 - v)): the rarest noise, of the ids that are chosen against the odds,
    # belongs to the smallest v, where floats are densest. Of v = 1 there is no noise.
    mirrored = tf.bitwise.bitwise_xor(bits, _word(2**64 - 1))
    v = tf.cast(mirrored, tf.float32) * 2.0**-64 + _SMALLEST_PART
    return -tf.math.log(-tf.math.log1p(-tf.minimum(v, _LARGEST_PART)))


def _mix(x: tf.Tensor) -> tf.Tensor:
    x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _word(30)))
    x = x * _word(_MULTIPLIERS[0])
    x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _word(27)))
    x = x * _word(_MULTIPLIERS[1])
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _word(31)))


def _word(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint64)
