# SPDX-License-Identifier: Apache-2.0
"""Texts as vectors, from a model's last hidden states, inside the graph.

A text is read from its opening id on, as a prompt is. The mean runs over its own ids:
the opening id's state is the same before every text, and much larger than others in
most trained decoders. Of a text above the context nothing is left out: it is read in
windows, each on its own, and weighs by its ids. They end where the text ends, so the
last one, which the last id is read in, is as long as the context allows.
"""

from typing import NamedTuple

import tensorflow as tf

from trainer.models.language_model import LanguageModel
from trainer.serving.generate import Decoding, open_prompts
from trainer.serving.windows import ENDLESS, GroupRead, Windows, over_groups


class Embedding(NamedTuple):
    """What a model makes of a batch of texts, in two ways.

    Attributes:
        mean: float32 `[batch, d_model]`, over the ids of the text.
        last: float32 `[batch, d_model]`, the state of its last id, which has seen all
            the others.
        num_tokens: int32 `[batch]`, ids of the text.
    """

    mean: tf.Tensor
    last: tf.Tensor
    num_tokens: tf.Tensor


def embed(
    model: LanguageModel, texts: tf.RaggedTensor, decoding: Decoding
) -> Embedding:
    """Embeds `texts` (int32 ids `[batch, None]`, without BOS).

    An empty text is its opening id.
    """
    sequences = open_prompts(texts, decoding)
    batch, width = sequences.nrows(tf.int32), model.output_weights().shape[1]
    ends = tf.cast(sequences.row_splits[1:], tf.int32)
    own = tf.cast(texts.row_lengths(), tf.int32)
    opened = tf.cast(sequences.row_lengths(), tf.int32) - own

    def add(read: GroupRead, total: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        owners = read.windows.owners
        hidden = tf.cast(read.hidden, tf.float32)
        sums = tf.reduce_sum(tf.where(read.counts[..., None], hidden, 0.0), axis=1)
        last = tf.gather(hidden, read.windows.lengths - 1, batch_dims=1)
        end = read.windows.starts + read.windows.lengths == tf.gather(ends, owners)
        last = tf.where(end[:, None], last, 0.0)
        place = owners[:, None]
        return (
            tf.tensor_scatter_nd_add(total[0], place, sums),
            tf.tensor_scatter_nd_add(total[1], place, last),
        )

    nothing = tf.zeros([batch, width]), tf.zeros([batch, width])
    skipped = tf.where(own > 0, opened, 0)
    windows = _windows(sequences, skipped, decoding.context or ENDLESS)
    sums, last = over_groups(model, sequences.flat_values, windows, add, nothing)
    count = tf.cast(tf.maximum(own, 1), tf.float32)
    return Embedding(sums / count[:, None], last, own)


def _windows(sequences: tf.RaggedTensor, skipped: tf.Tensor, length: int) -> Windows:
    """Returns windows of `length` ids, the first of a sequence shorter.

    `skipped` is int32 `[batch]`, how many of a sequence's first ids do not count.
    """
    splits = tf.cast(sequences.row_splits, tf.int32)
    sizes = splits[1:] - splits[:-1]
    counts = tf.where(sizes > 0, (sizes - 1) // length + 1, 0)
    owners = tf.repeat(tf.range(tf.size(counts)), counts)
    before = tf.cumsum(counts, exclusive=True)
    number = tf.range(tf.reduce_sum(counts)) - tf.gather(before, owners)
    behind = (tf.gather(counts, owners) - 1 - number) * length
    ends = tf.gather(sizes, owners) - behind
    offsets = tf.maximum(ends - length, 0)
    return Windows(
        starts=tf.gather(splits, owners) + offsets,
        lengths=ends - offsets,
        skipped=tf.maximum(tf.gather(skipped, owners) - offsets, 0),
        owners=owners,
    )
