# SPDX-License-Identifier: Apache-2.0
"""Texts as segments that gigatoken encodes one by one, ids put together again.

    text -> added tokens -> NFC -> added tokens -> numbers -> a space before -> segments

What a file asks for before words are cut, in the order of `tokenizers`, so that the
engine's own cutter of words is left with what it knows.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import normalizers

from preprocessing.foundation.string_buffers import array_of, views
from preprocessing.tokenizer import added_tokens, contested
from preprocessing.tokenizer.byte_level import ByteLevelBPE

_SPACE = 32


class TextSegments(NamedTuple):
    """TextSegments of texts, one after the other.

    Attributes:
      data: uint8, valid UTF-8.
      edges: where each begins and ends in it, int64 [n + 1].
      tokens: the id of each, -1 for one that is to be encoded, int64 [n]; None where
        none has one.
      counts: how many each text has, int64 [texts]; None where each is one.
    """

    data: np.ndarray
    edges: np.ndarray
    tokens: np.ndarray | None
    counts: np.ndarray | None

    def together(
        self, ids: np.ndarray, lengths: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Takes ids of all segments and how many each has; returns those of texts."""
        if self.tokens is not None:
            ids, lengths = _with_tokens(ids, lengths, self.tokens)
        return ids, lengths if self.counts is None else _sums(lengths, self.counts)

    def texts_of(self, segments: np.ndarray) -> np.ndarray:
        """Returns the texts that ascending segments are of, each once, ascending."""
        if self.counts is None:
            return segments
        owners = np.repeat(np.arange(len(self.counts)), self.counts)
        return np.unique(owners[segments])


class Segmenter:
    """Cuts texts into segments.

    Attributes:
      divides: whether `long_texts` may cut texts beforehand, where it may without.
    """

    def __init__(self, bpe: ByteLevelBPE) -> None:
        """Builds what the file asks for."""
        self._matchers = _matchers(bpe)
        self._numbers = _number_cutter(bpe)
        self._prefix = bpe.cutting.add_prefix_space
        self._compose = normalizers.NFC().normalize_str
        self._nfc: contested.CodePointSet | None = None
        if bpe.normalizer == "NFC":
            self._nfc = contested.CodePointSet(contested.nfc_ranges())
        self.divides = added_tokens.divides(bpe.levels) and not self._prefix

    def cut(self, texts: pa.LargeStringArray) -> TextSegments:
        """Cuts texts without NUL."""
        if not any(self._matchers):
            data, edges = views(self._normalised(texts))
            tokens, counts = None, None
        else:
            data, edges, tokens, counts = self._cut_at_tokens(texts)
        if self._numbers is not None:
            given = np.full(len(edges) - 1, -1) if tokens is None else tokens
            edges, tokens, more = self._numbers.cut(data, edges, given)
            counts = more if counts is None else _sums(more, counts)
        if self._prefix:
            data, edges = _spaced(data, edges, tokens)
        return TextSegments(data, edges, tokens, counts)

    def _cut_at_tokens(self, texts: pa.LargeStringArray) -> TextSegments:
        data, edges = views(texts)
        tokens, counts = np.full(len(texts), -1), np.ones(len(texts), np.int64)
        for normalized, matcher in enumerate(self._matchers):
            if normalized:
                data, edges = views(self._normalised(array_of(data, edges)))
            if matcher is not None:
                edges, tokens, more = matcher.cut(data, edges, tokens)
                counts = _sums(more, counts)
        return TextSegments(data, edges, tokens, counts)

    def _normalised(self, texts: pa.LargeStringArray) -> pa.LargeStringArray:
        """Puts texts into the reference's NFC; most are already, and are kept."""
        if self._nfc is None:
            return texts
        affected = self._nfc.holders(*views(texts))
        if not len(affected):
            return texts
        values = map(self._compose, texts.take(affected).to_pylist())
        mask = np.zeros(len(texts), bool)
        mask[affected] = True
        composed = pa.array(values, pa.large_string())
        return pc.replace_with_mask(texts, mask, composed)


def _matchers(bpe: ByteLevelBPE) -> tuple[Any, Any]:
    """Returns what finds the added tokens of each level; None where there are none."""
    if not any(bpe.levels):
        return None, None
    # Imported here: numba costs half a second, and few files have such tokens.
    from preprocessing.tokenizer.added_matches import Matcher

    plain, normalized = (Matcher(level) if level else None for level in bpe.levels)
    return plain, normalized


def _number_cutter(bpe: ByteLevelBPE) -> Any:
    if bpe.cutting.numbers is None:
        return None
    from preprocessing.tokenizer.number_cuts import NumberCutter  # numba, as above

    return NumberCutter(bpe.cutting.numbers)


def _spaced(
    data: np.ndarray, edges: np.ndarray, tokens: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Puts a space before each segment without one, but for tokens and empty ones."""
    begins, filled = edges[:-1], edges[1:] > edges[:-1]
    wanted = filled & (tokens is None or tokens < 0)
    wanted[wanted] = data[begins[wanted]] != _SPACE
    shifts = np.append(0, np.cumsum(wanted))
    return np.insert(data, begins[wanted], _SPACE), edges + shifts


def _sums(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the sums of so many values each, one after the other; none make 0."""
    sums = np.append(0, np.cumsum(values))[np.append(0, np.cumsum(counts))]
    return np.diff(sums)


def _with_tokens(
    ids: np.ndarray, lengths: np.ndarray, tokens: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Puts one id in place of those of each segment that is a token.

    Args:
      ids: of all segments, one after the other.
      lengths: ids of each, int64 [segments], 1 or more for a token.
      tokens: the id of each, -1 for one that is none.
    """
    given = tokens >= 0
    if not given.any():
        return ids, lengths
    kept = np.repeat(~given, lengths)
    places = (np.cumsum(lengths) - lengths)[given]
    kept[places] = True
    ids, lengths = ids[kept], np.where(given, 1, lengths)
    ids[(np.cumsum(lengths) - lengths)[given]] = tokens[given]
    return ids, lengths
