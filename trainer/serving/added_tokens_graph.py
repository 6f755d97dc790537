# SPDX-License-Identifier: Apache-2.0
r"""Cuts texts at their added tokens inside a TensorFlow graph, as the corpus does.

    "a  b" -> "a\0  \0b" -> text "a", token "  ", text "b"

A mark on both sides of each token makes every second part of a text a token. RE2 takes
the first of several alternatives, so the longest token is named first. Ids are found by
a hash of the token, of which all are known when the graph is built: tables would be
resources, which a stock TensorFlow Serving has trouble with.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from preprocessing.tokenizer.added_tokens import (
    WHITE_SPACE,
    Level,
    word_characters,
)
from trainer.serving.character_classes import MARK, class_of

# RE2 searches in linear time within 8 MB: 3,000 tokens of 13 bytes fit, 6,000 do not.
MOST_BYTES = 1 << 15
_BUCKETS = 1 << 62


class Parts(NamedTuple):
    """Parts of a batch of texts.

    Attributes:
        texts: string [parts].
        tokens: int32 [parts], the id of a part that is a token, -1 for text.
        splits: int64 [batch + 1], the first part of each text.
    """

    texts: tf.Tensor
    tokens: tf.Tensor
    splits: tf.Tensor


class TooManyTokens(Exception):
    """The tokens are more than a graph finds; the text says how."""


class AddedTokensGraph:
    """Finds the added tokens of one level, all of whose ids are known."""

    def __init__(self, level: Level) -> None:
        """Builds the constants; there are tokens.

        Raises:
            TooManyTokens: they are longer than `MOST_BYTES`, or two have one hash.
        """
        size = sum(len(token.pattern.encode()) for token in level)
        if size > MOST_BYTES:
            raise TooManyTokens(
                f"added tokens of {size:,} bytes in all (up to {MOST_BYTES:,} go)"
            )
        ordered = sorted(level, key=lambda token: -len(token.pattern.encode()))
        spelled = "|".join(
            "".join(rf"\x{{{ord(character):X}}}" for character in token.pattern)
            for token in ordered
        )
        self._expression = f"(?:{spelled})"
        hashes = _hash(tf.constant([token.pattern for token in ordered])).numpy()
        order = np.argsort(hashes)
        if len(np.unique(hashes)) < len(hashes):
            raise TooManyTokens("added tokens of one hash")
        self._hashes = hashes[order]
        self._level = [ordered[i] for i in order]
        self._ids = np.array([token.id for token in self._level], np.int32)

    def cut(self, parts: Parts) -> Parts:
        """Cuts those parts that are text."""
        is_text = parts.tokens < 0
        between = rf"{MARK}\0{MARK}"
        marked = tf.strings.regex_replace(parts.texts, self._expression, between)
        cut = tf.strings.split(tf.where(is_text, marked, parts.texts), MARK)
        texts, splits = cut.values, cut.row_splits
        index = tf.range(splits[-1]) - tf.gather(splits, cut.value_rowids())
        places = tf.searchsorted(tf.constant(self._hashes), _hash(texts))
        numbers = tf.where(index % 2 == 1, places, -1)
        if self._any("special") or self._any("single_word"):
            numbers = tf.where(self._dropped(cut, numbers, index), -1, numbers)
            texts, numbers, splits = _merged(cut, numbers)
        texts = self._stripped(texts, numbers)
        ids = tf.where(numbers < 0, -1, tf.gather(self._ids, tf.maximum(numbers, 0)))
        # What was a token is one part still.
        places = tf.gather(splits[:-1], tf.where(~is_text)[:, 0])
        given = tf.boolean_mask(parts.tokens, ~is_text)
        ids = tf.tensor_scatter_nd_update(ids, places[:, tf.newaxis], given)
        return Parts(texts, ids, tf.gather(splits, parts.splits))

    def _any(self, flag: str) -> bool:
        return any(getattr(token, flag) for token in self._level)

    def _has(self, flag: str, numbers: tf.Tensor) -> tf.Tensor:
        """Tells of which tokens a flag is set, bool; of text, number -1, it is not."""
        flags = [False, *(bool(getattr(token, flag)) for token in self._level)]
        return tf.gather(tf.constant(flags), numbers + 1)

    def _dropped(
        self, cut: tf.RaggedTensor, numbers: tf.Tensor, index: tf.Tensor
    ) -> tf.Tensor:
        """Tells which parts are strings of tokens and still text, bool [parts].

        Args:
            cut: texts and strings of tokens in turn, string [texts, (parts)].
            numbers: of the tokens, -1 for text, int32 [parts].
            index: of a part in its text, int64 [parts].
        """
        dropped = self._has("special", numbers)
        if not self._any("single_word"):
            return dropped
        word, texts = class_of(word_characters()), cut.values
        ends = tf.strings.regex_full_match(texts, f"(?s:.*){word}")
        begins = tf.strings.regex_full_match(texts, f"{word}(?s:.*)")
        # Of two tokens side by side each has the other behind an empty text.
        empty = texts == ""
        last = index + 2 >= tf.gather(cut.row_lengths(), cut.value_rowids())
        left = _shifted(ends, 1) | (
            _shifted(empty, 1) & _shifted(ends, 2) & (index > 1)
        )
        right = _shifted(begins, -1)
        right |= _shifted(empty, -1) & _shifted(begins, -2) & ~last
        return dropped | (self._has("single_word", numbers) & (left | right))

    def _stripped(self, texts: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        """Takes white space from texts beside tokens that strip it."""
        is_text, blank = numbers < 0, class_of(WHITE_SPACE)
        if self._any("rstrip"):
            behind = is_text & _shifted(self._has("rstrip", numbers), 1)
            without = tf.strings.regex_replace(texts, f"^{blank}+", "")
            texts = tf.where(behind, without, texts)
        if self._any("lstrip"):
            before = is_text & _shifted(self._has("lstrip", numbers), -1)
            without = tf.strings.regex_replace(texts, f"{blank}+$", "")
            texts = tf.where(before, without, texts)
        return texts


def _hash(texts: tf.Tensor) -> tf.Tensor:
    """Returns an int64 for each text, the same on every machine."""
    return tf.strings.to_hash_bucket_fast(texts, _BUCKETS)


def _shifted(values: tf.Tensor, by: int) -> tf.Tensor:
    """Returns at each place what stands `by` places before it, False beyond the end."""
    if by > 0:
        return tf.concat([tf.zeros([by], tf.bool), values], 0)[:-by]
    return tf.concat([values, tf.zeros([-by], tf.bool)], 0)[-by:]


def _merged(
    cut: tf.RaggedTensor, numbers: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Joins texts that stand side by side.

    Returns:
        texts [parts], numbers [parts] and splits [texts + 1]; every second part of a
        text is a token.
    """
    rows, kept = cut.value_rowids(), tf.cast(numbers >= 0, tf.int64)
    before = tf.cumsum(kept, exclusive=True)
    before -= tf.gather(tf.gather(before, cut.row_splits[:-1]), rows)
    sizes = 2 * tf.math.unsorted_segment_sum(kept, rows, cut.nrows()) + 1
    splits = tf.concat([tf.zeros([1], tf.int64), tf.cumsum(sizes)], 0)
    part = tf.gather(splits, rows) + 2 * before + kept
    texts = tf.strings.unsorted_segment_join(cut.values, part, splits[-1])
    return texts, tf.math.unsorted_segment_max(numbers, part, splits[-1]), splits
