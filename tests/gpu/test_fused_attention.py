# SPDX-License-Identifier: Apache-2.0
"""Attention in one kernel of cuDNN is attention: values and gradients, packed rows."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

pytestmark = pytest.mark.slow


class Shape(NamedTuple):
    """Sizes of a case: batch, length, query heads, key heads, width, segments a row."""

    batch: int
    length: int
    heads: int
    kv_heads: int
    width: int
    segments: int


# Relative to a result's norm: products round to 2^-9 and 2^-12. On an H100 with cuDNN 9
# all were off by at most 3.2e-3 and 4e-4.
BOUNDS = {"bfloat16": 1e-2, "float16": 2e-3}
CASES = {
    "one document": (Shape(2, 256, 4, 4, 64, 1), "bfloat16"),
    "documents": (Shape(3, 512, 4, 4, 64, 7), "bfloat16"),
    "grouped heads": (Shape(2, 512, 8, 2, 64, 4), "bfloat16"),
    "wide heads in float16": (Shape(2, 512, 4, 4, 128, 9), "float16"),
}


def segment_ids(shape: Shape) -> np.ndarray:
    """Returns rows of as many segments, `[batch, length]`; every other is padded."""
    draw = np.random.default_rng(0)
    ids = np.zeros([shape.batch, shape.length], np.int32)
    for row in range(shape.batch):
        places = np.arange(1, shape.length)
        cuts = np.sort(draw.choice(places, shape.segments - 1, replace=False))
        ids[row] = np.searchsorted(cuts, np.arange(shape.length), side="right") + 1
    ids[::2, shape.length - 31 :] = 0
    return ids


def plain(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, ids: np.ndarray, upstream: np.ndarray
) -> list[np.ndarray]:
    """Returns what is mixed and the gradients of q, k and v, in float64."""
    group = q.shape[2] // k.shape[2]
    keys, values = (np.repeat(x, group, axis=2) for x in (k, v))
    scores = np.einsum("btnh,bsnh->bnts", q, keys)
    seen = np.tril(np.ones(scores.shape[-2:], bool))
    seen = seen & (ids[:, :, None] == ids[:, None, :])[:, None]
    scores = np.where(seen, scores, -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    into_shares = np.einsum("btnh,bsnh->bnts", upstream, values)
    into = shares * (into_shares - (shares * into_shares).sum(-1, keepdims=True))

    def by_key_head(x: np.ndarray) -> np.ndarray:
        return x.reshape(*x.shape[:2], -1, group, x.shape[-1]).sum(3)

    return [
        np.einsum("bnts,bsnh->btnh", shares, values),
        np.einsum("bnts,bsnh->btnh", into, keys),
        by_key_head(np.einsum("bnts,btnh->bsnh", into, q)),
        by_key_head(np.einsum("bnts,btnh->bsnh", shares, upstream)),
    ]


@pytest.mark.parametrize("name", CASES)
def test_one_kernel_mixes_what_the_formula_mixes(
    name: str, gpus: int, tell: Callable[[str], None]
) -> None:
    import tensorflow as tf

    from trainer.compute.compilation import Compilation
    from trainer.models.parts.fused_attention import (
        fits,
        fused_attention,
        pack_segments,
    )

    shape, dtype = CASES[name]
    most, ids = shape.segments + 1, segment_ids(shape)
    draw, (batch, length, heads, kv_heads, width, _) = np.random.default_rng(1), shape
    given = [
        tf.cast(draw.standard_normal([batch, length, n, width]), dtype)
        for n in (heads, kv_heads, kv_heads, heads)
    ]
    given[0] *= 2.0 * width**-0.5

    def with_gradients(*given: tf.Tensor) -> list[tf.Tensor]:
        assert fits(tf.as_dtype(dtype), width, length, most)
        *inputs, upstream = given
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            packed = pack_segments(tf.constant(ids), most)
            mixed = fused_attention(*inputs, packed)
        return [mixed, *tape.gradient(mixed, inputs, upstream)]

    found = Compilation.WHOLE.alone(with_gradients)(*given)
    q, k, v, upstream = (tf.cast(x, tf.float64).numpy() for x in given)
    apart = {}
    for what, ours, wanted in zip(
        ("mixed", "dq", "dk", "dv"), found, plain(q, k, v, ids, upstream), strict=True
    ):
        difference = tf.cast(ours, tf.float64).numpy() - wanted
        apart[what] = np.linalg.norm(difference) / np.linalg.norm(wanted)
    tell(", ".join(f"{what} within {error:.1e}" for what, error in apart.items()))
    assert max(apart.values()) < BOUNDS[dtype]
