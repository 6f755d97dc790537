# SPDX-License-Identifier: Apache-2.0
"""The tokenizer inside a TensorFlow graph: text to ids and back, as in the corpus.

    prompt -> valid UTF-8 -> no NUL -> words -> bytes as characters -> SentencePiece BPE
                                 added tokens -> their ids ---------------^

Only core operations and `SentencepieceOp`/`SentencepieceTokenizeOp`, which a stock
TensorFlow Serving links. `tf_text.regex_split` would end a text at its first NUL.
"""

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from preprocessing.foundation.commands import UsageError
from preprocessing.tokenizer.tokenizer import Tokenizer
from trainer.serving.added_tokens_graph import AddedTokensGraph, Parts, TooManyTokens
from trainer.serving.character_classes import MARK, WordPattern, word_pattern
from trainer.serving.sentencepiece_proto import (
    InexactMerges,
    model_proto,
    scored_pieces,
)


class GraphTokenizer(tf.Module):
    """Encodes and decodes exactly as `Tokenizer` does, but in the graph.

    The cost is about that of 0.5 microseconds a byte on one core, linear in the length
    of the text, whatever it holds.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Builds the graph's constants.

        Raises:
          UsageError: the graph cannot reproduce this tokenizer; it names the part.
        """
        super().__init__(name="graph_tokenizer")
        self._pattern = _pattern(tokenizer)
        try:
            pieces = scored_pieces(tokenizer.bpe)
        except InexactMerges as error:
            raise _refusal(str(error)) from error
        self._engine = tf_text.SentencepieceTokenizer(
            model=model_proto(pieces), out_type=tf.int32
        )
        self._levels = _levels(tokenizer)
        # Piece 0 is SentencePiece's unknown one, which no text yields.
        self._id_of_piece = np.array([0, *(piece.id for piece in pieces)], np.int32)
        # Not a plain list, which tf.Module would wrap, entry by entry, to track it.
        self._token_bytes = np.array(tokenizer.token_bytes(), dtype=object)

    def encode(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Encodes prompts, without BOS and EOS.

        Args:
          text: string [batch]; bytes that are not UTF-8 read as U+FFFD.

        Returns:
          int32 ids [batch, (tokens)].
        """
        text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
        text = tf.strings.regex_replace(text, r"\x00", "")
        if not self._levels:
            return self._encode_plain(text)
        size = tf.size(text, tf.int64)
        parts = Parts(text, tf.fill([size], -1), tf.range(size + 1))
        for level in self._levels:
            parts = level.cut(parts)
        is_token = parts.tokens >= 0
        plain = self._encode_plain(tf.where(is_token, "", parts.texts))
        tokens = tf.RaggedTensor.from_row_lengths(
            tf.boolean_mask(parts.tokens, is_token), tf.cast(is_token, tf.int64)
        )
        ids = tf.concat([plain, tokens], axis=1)
        splits = tf.gather(ids.row_splits, parts.splits)
        return tf.RaggedTensor.from_row_splits(ids.values, splits)

    def _encode_plain(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Encodes texts that hold no added token: int32 ids [batch, (tokens)]."""
        words = self._words(text)
        # Each byte becomes the character of the same number.
        characters = tf.strings.unicode_transcode(words.values, "ISO-8859-1", "UTF-8")
        pieces = self._engine.tokenize(characters)
        ids = tf.gather(tf.constant(self._id_of_piece), pieces.values)
        splits = tf.gather(pieces.row_splits, words.row_splits)
        return tf.RaggedTensor.from_row_splits(ids, splits)

    def decode(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """Returns the texts of ids, special ones left out: string [batch].

        Bytes that are not UTF-8 (a character cut in two) read as U+FFFD.
        """
        parts = tf.gather(tf.constant(self._token_bytes), ids)
        text = tf.strings.reduce_join(parts, axis=-1)
        return tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")

    def _words(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Cuts texts into words: string [batch, (words)]."""
        if self._pattern is not None:
            between = rf"\1{MARK}\2"
            text = tf.strings.regex_replace(text, self._pattern.run, between)
            text = tf.strings.regex_replace(text, self._pattern.word, rf"\0{MARK}")
        words = tf.strings.split(text, MARK)
        return tf.ragged.boolean_mask(words, tf.not_equal(words, ""))


def _pattern(tokenizer: Tokenizer) -> WordPattern | None:
    """Returns the pattern for the graph; None if the tokenizer cuts no words."""
    bpe = tokenizer.bpe
    if bpe.beyond_graphs is not None:
        raise _refusal(bpe.beyond_graphs)
    if bpe.pattern is None:
        return None
    pattern = word_pattern(bpe.pattern)
    if pattern is None:
        raise _refusal(f"its pre-tokenizer's pattern {bpe.pattern!r}")
    return pattern


def _levels(tokenizer: Tokenizer) -> list[AddedTokensGraph]:
    try:
        return [AddedTokensGraph(level) for level in tokenizer.bpe.levels if level]
    except TooManyTokens as error:
        raise _refusal(str(error)) from error


def _refusal(found: str) -> UsageError:
    return UsageError(
        f"wanted a tokenizer that a TensorFlow graph can reproduce exactly, found "
        f"{found}. Prepare the data with a tokenizer from quern-tokenizer"
    )
