# SPDX-License-Identifier: Apache-2.0
"""The log-likelihood of whole documents, inside the graph.

A document is read as the training data holds it: [BOS] ids EOS, cut into windows that
advance by the sequence length with one id of overlap, each window on its own. Every id
but the very first is a target once, EOS included; -log_likelihood / ln 2 / num_bytes is
therefore the document's bits per byte, the figure quern-evaluate gives for a split.
"""

from typing import NamedTuple

import tensorflow as tf

from trainer.models.language_model import LanguageModel


class Score(NamedTuple):
    """What a model makes of a batch of documents.

    Attributes:
        log_likelihood: float32 `[batch]`, natural logarithm, over the targets.
        num_tokens: int32 `[batch]`, targets.
        num_bytes: int32 `[batch]`, UTF-8 bytes of the targets; special ids have none.
    """

    log_likelihood: tf.Tensor
    num_tokens: tf.Tensor
    num_bytes: tf.Tensor


def score(
    model: LanguageModel,
    documents: tf.RaggedTensor,
    sequence_length: int,
    token_bytes: tf.Tensor,
) -> Score:
    """Scores `documents` (int32 ids `[batch, None]`, BOS and EOS in place).

    `token_bytes` is int32 `[vocab]`, how many bytes each id stands for. Windows are
    taken one at a time: logits are `[window, vocab]` float32 and the dearest tensor.
    """
    starts, ends, owners = _windows(documents, sequence_length)
    ids = documents.flat_values

    def score_window(bounds: tuple[tf.Tensor, tf.Tensor]) -> Score:
        start, end = bounds
        inputs, targets = ids[start : end - 1], ids[start + 1 : end]
        ones = tf.ones_like(inputs)
        positions = tf.range(tf.size(inputs))
        hidden = model(inputs[None], ones[None], positions[None])
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=targets, logits=model.logits(hidden)[0]
        )
        return Score(
            -tf.reduce_sum(nats),
            tf.size(targets),
            tf.reduce_sum(tf.gather(token_bytes, targets)),
        )

    signature = Score(
        tf.TensorSpec([], tf.float32),
        tf.TensorSpec([], tf.int32),
        tf.TensorSpec([], tf.int32),
    )
    windows = tf.map_fn(
        score_window,
        (starts, ends),
        fn_output_signature=signature,
        parallel_iterations=1,
    )
    batch = documents.nrows()
    return Score(*(tf.math.unsorted_segment_sum(w, owners, batch) for w in windows))


def _windows(
    documents: tf.RaggedTensor, sequence_length: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns each window's first id, its end, and the document it belongs to."""
    splits = tf.cast(documents.row_splits, tf.int32)
    targets = tf.maximum(splits[1:] - splits[:-1] - 1, 0)
    counts = (targets + sequence_length - 1) // sequence_length
    owners = tf.repeat(tf.range(tf.size(counts)), counts)
    before = tf.cumsum(counts, exclusive=True)
    number = tf.range(tf.reduce_sum(counts)) - tf.gather(before, owners)
    starts = tf.gather(splits[:-1], owners) + number * sequence_length
    ends = tf.minimum(starts + sequence_length + 1, tf.gather(splits[1:], owners))
    return starts, ends, owners
