# SPDX-License-Identifier: Apache-2.0
"""The tokenizer inside a TensorFlow graph: text to ids and back, as in the corpus.

    prompt -> valid UTF-8 -> no NUL -> NFC -> words -> bytes as characters -> BPE
                added tokens, whole words -> their ids ------------------------^

Only core operations and `SentencepieceOp`/`SentencepieceTokenizeOp`, which a stock
TensorFlow Serving links. `tf_text.regex_split` would end a text at its first NUL.
"""

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from preprocessing.foundation.commands import UsageError
from preprocessing.tokenizer.tokenizer import Tokenizer
from trainer.serving.added_tokens_graph import AddedTokensGraph, Parts, TooManyTokens
from trainer.serving.character_classes import (
    MARK,
    WordPattern,
    number_runs,
    word_pattern,
)
from trainer.serving.nfc_graph import NfcGraph
from trainer.serving.sentencepiece_proto import (
    InexactMerges,
    model_proto,
    scored_pieces,
)
from trainer.serving.stop_graph import bytes_of

_BUCKETS = 1 << 62


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
        cutting = tokenizer.bpe.cutting
        self._numbers = (
            None if cutting.numbers is None else number_runs(cutting.numbers)
        )
        self._prefix = cutting.add_prefix_space
        self._nfc = NfcGraph() if tokenizer.normalizer == "NFC" else None
        try:
            pieces, whole = scored_pieces(tokenizer.bpe)
        except InexactMerges as error:
            raise _refusal(str(error)) from error
        self._engine = tf_text.SentencepieceTokenizer(
            model=model_proto(pieces), out_type=tf.int32
        )
        self._whole_words = WholeWords(whole) if whole else None
        self._levels = _levels(tokenizer)
        # Piece 0 is SentencePiece's unknown one, which no text yields.
        self._id_of_piece = np.array([0, *(piece.id for piece in pieces)], np.int32)
        # Not a plain list, which tf.Module would wrap, entry by entry, to track it.
        self._token_bytes = np.array([*tokenizer.token_bytes(), b""], dtype=object)

    def encode(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Encodes prompts, without BOS and EOS.

        Args:
          text: string [batch]; bytes that are not UTF-8 read as U+FFFD.

        Returns:
          int32 ids [batch, (tokens)].
        """
        text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
        text = tf.strings.regex_replace(text, r"\x00", "")
        if not any(self._levels):
            return self._encode_plain(self._normalised(text))
        size = tf.size(text, tf.int64)
        parts = Parts(text, tf.fill([size], -1), tf.range(size + 1))
        for normalised, level in enumerate(self._levels):
            if normalised:
                parts = parts._replace(texts=self._normalised(parts.texts))
            if level is not None:
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
        if self._whole_words is None:
            ids = self._merged(words.values)
        else:
            numbers = self._whole_words.find(words.values)
            ids = self._merged(tf.where(numbers >= 0, "", words.values))
            ids = tf.concat([ids, self._whole_words.ids_of(numbers)], axis=1)
        splits = tf.gather(ids.row_splits, words.row_splits)
        return tf.RaggedTensor.from_row_splits(ids.values, splits)

    def _merged(self, words: tf.Tensor) -> tf.RaggedTensor:
        """Merges the bytes of each word: int32 ids [words, (tokens)]."""
        # Each byte becomes the character of the same number.
        characters = tf.strings.unicode_transcode(words, "ISO-8859-1", "UTF-8")
        pieces = self._engine.tokenize(characters)
        return pieces.with_values(
            tf.gather(tf.constant(self._id_of_piece), pieces.values)
        )

    def decode(
        self, ids: tf.RaggedTensor, num_bytes: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Returns the texts of ids, special ones left out: string [batch].

        A model may have more ids than its tokenizer (`model.vocab_size`); the others
        have no text. Bytes that are not UTF-8 (a character cut in two) read as U+FFFD.

        Args:
          ids: int32 [batch, (tokens)].
          num_bytes: int32 [batch], the most bytes of each row's text before that; None
            takes all.
        """
        parts = ids.with_values(bytes_of(ids.values, self.token_bytes()))
        text = tf.strings.reduce_join(parts, axis=-1)
        if num_bytes is not None:
            text = tf.strings.substr(text, tf.zeros_like(num_bytes), num_bytes)
        return tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")

    def token_bytes(self) -> tf.Tensor:
        """Returns the bytes of each id: string [ids], an empty one behind the last."""
        return tf.constant(self._token_bytes)

    def _normalised(self, text: tf.Tensor) -> tf.Tensor:
        return text if self._nfc is None else self._nfc.normalise(text)

    def _words(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Cuts texts into words: string [batch, (words)]."""
        if self._numbers is not None:
            between = rf"{MARK}\0{MARK}"
            text = tf.strings.regex_replace(text, self._numbers, between)
        if self._prefix:
            first = rf"(^|{MARK})([^ {MARK}])"
            text = tf.strings.regex_replace(text, first, r"\1 \2")
        if self._pattern is not None:
            between = rf"\1{MARK}\2"
            text = tf.strings.regex_replace(text, self._pattern.run, between)
            text = tf.strings.regex_replace(text, self._pattern.word, rf"\0{MARK}")
        words = tf.strings.split(text, MARK)
        return tf.ragged.boolean_mask(words, tf.not_equal(words, ""))


class WholeWords:
    """Finds words that are one id though their merges do not give it (`ignore_merges`).

    Llama 3's file takes a word that is an entry as it is. Where merging gives the same,
    a graph need not look; others are looked up by a hash and compared, for tables would
    be resources, which a stock TensorFlow Serving has trouble with.
    """

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


def _pattern(tokenizer: Tokenizer) -> WordPattern | None:
    """Returns the pattern for the graph; None if the tokenizer cuts no words."""
    bpe = tokenizer.bpe
    if bpe.beyond_graphs is not None:
        raise _refusal(bpe.beyond_graphs)
    if bpe.pattern is None:
        return None
    return word_pattern(bpe.pattern)


def _levels(tokenizer: Tokenizer) -> list[AddedTokensGraph | None]:
    levels = tokenizer.bpe.levels
    try:
        return [AddedTokensGraph(level) if level else None for level in levels]
    except TooManyTokens as error:
        raise _refusal(str(error)) from error


def _refusal(found: str) -> UsageError:
    return UsageError(
        f"wanted a tokenizer that a TensorFlow graph can reproduce exactly, found "
        f"{found}. Prepare the data with a tokenizer from quern-tokenizer"
    )
