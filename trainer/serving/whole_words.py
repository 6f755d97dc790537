# SPDX-License-Identifier: Apache-2.0
"""Words that are one id though their merges do not give it (`ignore_merges`).

Llama 3's file takes a word that is an entry as it is. Where merging gives the same, a
graph need not look; for the others it looks words up by a hash and compares, for tables
would be resources, which a stock TensorFlow Serving has trouble with.
"""

import numpy as np
import tensorflow as tf

_BUCKETS = 1 << 62


class WholeWords:
    """Finds words among those whose ids are known."""

    def __init__(self, ids: dict[bytes, int]) -> None:
        """Takes the id of each word; there are words, none with NUL.

        Words of one hash lie side by side, and as many are compared as share one.
        """
        words = np.array([*ids], dtype=object)
        hashes = _hash(tf.constant(words)).numpy()
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._words = hashes[order], words[order]
        self._ids = np.array([*ids.values()], np.int32)[order]
        self._most = int(np.unique(hashes, return_counts=True)[1].max())

    def find(self, words: tf.Tensor) -> tf.Tensor:
        """Returns the number of each word, int32 [words], -1 for one not known."""
        first = tf.searchsorted(tf.constant(self._hashes), _hash(words))
        numbers = tf.fill(tf.shape(words), -1)
        for place in range(self._most):
            number = tf.minimum(first + place, len(self._words) - 1)
            same = tf.gather(tf.constant(self._words), number) == words
            numbers = tf.where(same, number, numbers)
        return numbers

    def ids_of(self, numbers: tf.Tensor) -> tf.RaggedTensor:
        """Returns the ids of numbers: int32 [words, (one or none)]."""
        known = numbers >= 0
        ids = tf.gather(tf.constant(self._ids), tf.boolean_mask(numbers, known))
        return tf.RaggedTensor.from_row_lengths(ids, tf.cast(known, tf.int64))


def _hash(words: tf.Tensor) -> tf.Tensor:
    """Returns an int64 for each word, the same on every machine."""
    return tf.strings.to_hash_bucket_fast(words, _BUCKETS)
