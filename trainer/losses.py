# SPDX-License-Identifier: Apache-2.0
"""The training loss, as a sum and a weight until one division by the global weight."""

import tensorflow as tf

from trainer.models.language_model import LanguageModel


def cross_entropy(
    model: LanguageModel, hidden: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Sums the cross-entropy of the next token.

    Args:
        model: turns hidden states into logits.
        hidden: `[batch, length, d_model]`.
        targets: ids, int32 `[batch, length]`.
        weights: float32 `[batch, length]`, 0 where the target does not count.

    Returns:
        Nats summed over the weighted targets, and the sum of the weights: float32
        scalars. Their quotient over a whole batch, whatever it was split into, is the
        loss; the mean of quotients is not.
    """
    logits = model.logits(tf.reshape(hidden, [-1, hidden.shape[-1]]))
    nats = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.reshape(targets, [-1]), logits=logits
    )
    return tf.reduce_sum(nats * tf.reshape(weights, [-1])), tf.reduce_sum(weights)
