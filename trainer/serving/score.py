# SPDX-License-Identifier: Apache-2.0
"""The log-likelihood of documents and of continuations, inside the graph.

A document is read as the training data holds it: [BOS] ids EOS, cut into windows that
advance by the sequence length with one id of overlap, each window on its own. Every id
but the very first is a target once, EOS included; -log_likelihood / ln 2 / num_bytes is
therefore the document's bits per byte, the figure quern-evaluate gives for a split.

A continuation is the end of such a sequence: its own ids alone are targets, and of what
stands before them as much is read as the context holds, as lm-evaluation-harness does
(`TemplateLM._encode_pair` and `HFLM._loglikelihood_tokens`, version 0.4).
"""

from typing import NamedTuple

import tensorflow as tf

from trainer.models.language_model import LanguageModel
from trainer.serving.generate import Decoding
from trainer.serving.windows import ENDLESS, GroupRead, Windows, over_groups

# Bytes of the logits `[targets, vocab]` that exist at a time: 512 targets of 16 k ids,
# 64 of 128 k, either enough to read the output matrix at the speed of a product.
_LOGITS_BYTES = 32 << 20


class Score(NamedTuple):
    """What a model makes of a batch of sequences.

    Attributes:
        log_likelihood: float32 `[batch]`, natural logarithm, over the targets.
        num_tokens: int32 `[batch]`, targets.
        num_bytes: int32 `[batch]`, UTF-8 bytes of the targets; special ids have none.
        is_greedy: bool `[batch]`, whether each target is the likeliest id there.
    """

    log_likelihood: tf.Tensor
    num_tokens: tf.Tensor
    num_bytes: tf.Tensor
    is_greedy: tf.Tensor


class Pairs(NamedTuple):
    """Prompts with what follows them.

    Attributes:
        sequences: int32 ids `[batch, None]`, the opening id in place.
        borders: int32 `[batch]`, the index of the first id that is a target.
    """

    sequences: tf.RaggedTensor
    borders: tf.Tensor


def score(
    model: LanguageModel,
    documents: tf.RaggedTensor,
    sequence_length: int,
    token_bytes: tf.Tensor,
) -> Score:
    """Scores `documents` (int32 ids `[batch, None]`, BOS and EOS in place).

    `token_bytes` is int32 `[vocab]`, how many bytes each id stands for.
    """
    borders = tf.ones([documents.nrows(tf.int32)], tf.int32)
    return score_pairs(model, Pairs(documents, borders), sequence_length, token_bytes)


def score_pairs(
    model: LanguageModel, pairs: Pairs, context: int | None, token_bytes: tf.Tensor
) -> Score:
    """Scores the ids of each sequence from its border on.

    Args:
        model: the model.
        pairs: what is read; targets that one window cannot hold lie in several, of
            which each is read on its own.
        context: inputs of a window; None where any number will do.
        token_bytes: int32 `[vocab]`, how many bytes each id stands for.
    """
    ids, owners = pairs.sequences.flat_values, pairs.sequences.value_rowids()
    batch = pairs.sequences.nrows(tf.int32)
    splits = tf.cast(pairs.sequences.row_splits, tf.int32)
    index = tf.range(tf.size(ids)) - tf.gather(splits, owners)
    counted = tf.cast(index >= tf.gather(pairs.borders, owners), tf.int32)
    sizes = counted * tf.gather(token_bytes, ids)

    def add(
        read: GroupRead, total: tuple[tf.Tensor, tf.Tensor]
    ) -> tuple[tf.Tensor, ...]:
        found = tf.where(read.counts)
        hidden = tf.gather_nd(read.hidden, found)
        targets = tf.gather(ids, tf.gather_nd(read.places, found) + 1)
        rows = tf.gather(read.windows.owners, found[:, 0])
        return _add_targets(model, hidden, targets, rows, total)

    # In float64: a long document's sum keeps the digits of its last tokens.
    total = tf.zeros([batch], tf.float64), tf.zeros([batch], tf.int32)
    windows = _windows(splits, pairs.borders, context or ENDLESS)
    nats, misses = over_groups(model, ids, windows, add, total)
    return Score(
        tf.cast(-nats, tf.float32),
        tf.math.unsorted_segment_sum(counted, owners, batch),
        tf.math.unsorted_segment_sum(sizes, owners, batch),
        misses == 0,
    )


def pair_ids(
    prompts: tf.RaggedTensor,
    whole: tf.RaggedTensor,
    token_bytes: tf.Tensor,
    decoding: Decoding,
) -> Pairs:
    """Returns what a continuation's score is computed from.

    Prompt and continuation are encoded together, as the corpus holds such a text. Ids
    that lie within the prompt's bytes are the condition; the others are targets, and
    so is one that reaches across the border ("The wor" + "ld" is "The", " world"):
    wherever the prompt's own ids begin the whole's, those behind them.

    Args:
        prompts: int32 ids `[batch, None]` of the prompts alone, without BOS.
        whole: of prompts and continuations as one text.
        token_bytes: int32 `[vocab]`, how many bytes each id stands for.
        decoding: says what opens a sequence: BOS, or where the data had none, EOS
            before what has no condition.
    """
    sizes = tf.reduce_sum(tf.gather(token_bytes, prompts), axis=1)
    owners = whole.value_rowids()
    ends = tf.cumsum(tf.gather(token_bytes, whole.flat_values))
    before = tf.gather(tf.concat([[0], ends], 0), whole.row_splits[:-1])
    within = ends - tf.gather(before, owners) <= tf.gather(sizes, owners)
    batch = whole.nrows(tf.int32)
    known = tf.math.unsorted_segment_sum(tf.cast(within, tf.int32), owners, batch)
    opened = tf.ones_like(known)
    if decoding.bos_id is None:
        opened = tf.cast(known == 0, tf.int32)
    first = tf.fill([batch, 1], decoding.first_id)
    first = tf.RaggedTensor.from_tensor(first, lengths=tf.cast(opened, tf.int64))
    return Pairs(tf.concat([first, whole], axis=1), known + opened)


def _add_targets(
    model: LanguageModel,
    hidden: tf.Tensor,
    targets: tf.Tensor,
    rows: tf.Tensor,
    total: tuple[tf.Tensor, tf.Tensor],
) -> tuple[tf.Tensor, ...]:
    """Adds the nats of targets, and how many are not the likeliest, to their rows.

    Args:
        model: the model.
        hidden: `[targets, d_model]`, what each is told from.
        targets: int32 `[targets]`.
        rows: int32 `[targets]`, the row of each.
        total: nats float64 and misses int32, `[batch]` each.
    """
    chunk = max(_LOGITS_BYTES // (4 * model.vocab_size), 1)

    def body(
        first: tf.Tensor, nats: tf.Tensor, misses: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        last = first + chunk
        logits, wanted = model.logits(hidden[first:last]), targets[first:last]
        loss = _nats(logits, wanted)
        missed = tf.argmax(logits, axis=-1, output_type=tf.int32) != wanted
        place = rows[first:last, None]
        return (
            last,
            tf.tensor_scatter_nd_add(nats, place, tf.cast(loss, tf.float64)),
            tf.tensor_scatter_nd_add(misses, place, tf.cast(missed, tf.int32)),
        )

    return tf.while_loop(
        lambda first, *_: first < tf.size(targets),
        body,
        (tf.constant(0), *total),
        parallel_iterations=1,
    )[1:]


def _nats(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Returns -log softmax of each target's logit: `[targets]`.

    TensorFlow's own operation takes 115 ms for 512 rows of 16 k, more than the product
    that makes the logits; these take 25 ms (2 cores).
    """
    top = tf.reduce_max(logits, axis=-1)
    total = tf.reduce_sum(tf.exp(logits - top[:, None]), axis=-1)
    return tf.math.log(total) + top - tf.gather(logits, targets, batch_dims=1)


def _windows(splits: tf.Tensor, borders: tf.Tensor, length: int) -> Windows:
    """Returns windows of up to `length` inputs that hold each target once.

    The last targets of a sequence have all before them that a window holds; of more
    targets than that the first window begins one id before the border.
    """
    inputs = tf.maximum(splits[1:] - splits[:-1] - 1, 0)
    begins = tf.maximum(tf.minimum(borders - 1, inputs - length), 0)
    wanted = tf.where(borders <= inputs, inputs - begins, 0)
    # Written so that no sum passes 2^31 where a window has no end.
    counts = tf.where(wanted > 0, (wanted - 1) // length + 1, 0)
    owners = tf.repeat(tf.range(tf.size(counts)), counts)
    before = tf.cumsum(counts, exclusive=True)
    number = tf.range(tf.reduce_sum(counts)) - tf.gather(before, owners)
    offsets = tf.gather(begins, owners) + number * length
    return Windows(
        starts=tf.gather(splits, owners) + offsets,
        lengths=tf.minimum(tf.gather(inputs, owners) - offsets, length),
        skipped=tf.maximum(tf.gather(borders, owners) - 1 - offsets, 0),
        owners=owners,
    )
