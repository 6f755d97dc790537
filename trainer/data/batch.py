# SPDX-License-Identifier: Apache-2.0
"""Packed rows become inputs and targets: the only place where the two meet."""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf


class Batch(NamedTuple):
    """Inputs and targets of a model; tensors are `[batch, length]`.

    Attributes:
        inputs: int32 ids.
        targets: int32 ids that follow them.
        weights: float32, 1 where the target counts.
        segment_ids: int32, from 1 in each row; 0 is padding.
        positions: int32, from 0 in each segment; 0 in padding.
        prefix: bool, where an input is seen by its whole segment; None where none is.
        max_segments: most segments of a row, padding counted as one; None if unknown.
    """

    inputs: tf.Tensor
    targets: tf.Tensor
    weights: tf.Tensor
    segment_ids: tf.Tensor
    positions: tf.Tensor
    prefix: tf.Tensor | None
    max_segments: int | None


def unpack_rows(features: Mapping[str, tf.Tensor]) -> Batch:
    """Shifts packed rows by one.

        tokens           a b c d e f 0 0     segment_lengths  3 3 0
        inputs           a b c d e f 0       segment_ids      1 1 1 2 2 2 0
        targets          b c d e f 0 0       positions        0 1 2 0 1 2 0
        weights          1 1 0 1 1 0 0

    The first id of a segment is no target of the segment before it, nor is padding.
    With prefix_lengths, the ids of a prefix are no targets either; with loss_mask,
    only ids whose bit is set are.

    Args:
        features: int32: tokens `[batch, length + 1]`, segment_lengths
            `[batch, max_segments]`, zero padded; prefix_lengths likewise, and
            loss_mask `[batch, ceil((length + 1) / 8)]`, where the dataset has them.
    """
    tokens, segment_lengths = features["tokens"], features["segment_lengths"]
    columns, most = tf.range(tf.shape(tokens)[1]), segment_lengths.shape[1]
    ends = tf.cumsum(segment_lengths, axis=1)
    starts = ends - segment_lengths
    queries = tf.tile(columns[None, :], [tf.shape(tokens)[0], 1])
    closed = tf.searchsorted(ends, queries, side="right")
    real = columns[None, :] < ends[:, -1:]
    segment_ids = tf.where(real, closed + 1, 0)
    place = tf.minimum(closed, tf.shape(starts)[1] - 1)
    start = tf.gather(starts, place, batch_dims=1)
    positions = tf.where(real, columns[None, :] - start, 0)
    counts = real[:, 1:] & (segment_ids[:, 1:] == segment_ids[:, :-1])
    prefix = None
    if "prefix_lengths" in features:
        lengths = tf.gather(features["prefix_lengths"], place, batch_dims=1)
        prefix = real & (positions < lengths)
        counts &= ~prefix[:, 1:]
    if "loss_mask" in features:
        counts &= _unpacked(features["loss_mask"], columns)[:, 1:]
    return Batch(
        inputs=tokens[:, :-1],
        targets=tokens[:, 1:],
        weights=tf.cast(counts, tf.float32),
        segment_ids=segment_ids[:, :-1],
        positions=positions[:, :-1],
        prefix=None if prefix is None else prefix[:, :-1],
        max_segments=None if most is None else most + 1,
    )


def _unpacked(mask: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Returns bit c of each row's bytes, lowest first, bool `[batch, columns]`."""
    bytes_of_columns = tf.gather(mask, columns // 8, axis=1)
    return tf.bitwise.right_shift(bytes_of_columns, columns[None, :] % 8) % 2 == 1
