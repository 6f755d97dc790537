# SPDX-License-Identifier: Apache-2.0
"""Cuts texts before and behind numbers, for files that ask for it.

    "ab 12c"  ->  "ab " | "1" | "2" | "c"

SmolLM, Granite and StarCoder cut so before words are, one digit a piece.
"""

import numpy as np

from preprocessing.foundation.compiled import compiled
from preprocessing.tokenizer.added_matches import TokenSegments, character_at
from preprocessing.tokenizer.pre_tokenizing import NumberCut, digits_of

_ENDLESS = np.iinfo(np.int64).max


class NumberCutter:
    """Cuts texts at their numbers."""

    def __init__(self, numbers: NumberCut) -> None:
        """Asks `tokenizers` what a digit is."""
        self._most = numbers.digits or _ENDLESS
        self._classes = np.zeros(0x110000, np.uint8)
        self._classes[sorted(digits_of(numbers))] = 1

    def cut(
        self, data: np.ndarray, edges: np.ndarray, tokens: np.ndarray
    ) -> TokenSegments:
        """Cuts texts.

        Args:
          data: uint8, valid UTF-8.
          edges: of the texts in it, int64 [n + 1].
          tokens: int64 [n], the id of a text that is a token already, or -1.
        """
        text = data[edges[0] : edges[-1]]
        digits = np.count_nonzero((text >= 0x30) & (text < 0x3A))
        digits += np.count_nonzero(text >= 0xC0)
        starts = np.empty(2 * digits + len(edges) + 1, np.int64)
        ids = np.empty(len(starts), np.int64)
        counts = np.zeros(len(edges) - 1, np.int64)
        total = _cut(
            data, edges, tokens, self._classes, self._most, starts, ids, counts
        )
        starts[total] = edges[-1]
        return TokenSegments(starts[: total + 1], ids[:total], counts)


@compiled
def _cut(
    data: np.ndarray,
    edges: np.ndarray,
    tokens: np.ndarray,
    classes: np.ndarray,
    most: int,
    starts: np.ndarray,
    ids: np.ndarray,
    counts: np.ndarray,
) -> int:
    """Writes where each piece begins, and its id; returns how many in all.

    `counts` gets how many each text has.
    """
    total = 0
    for text in range(len(edges) - 1):
        before, begin, stop = total, edges[text], edges[text + 1]
        place, inside = begin, 0
        if tokens[text] >= 0:
            place = stop
        while place < stop:
            digit, size = character_at(data, place, stop, classes)
            if digit == 0 and inside == 0:
                place += size
                continue
            if place > begin and (digit == 0 or inside == 0 or inside == most):
                starts[total], ids[total] = begin, -1
                total += 1
                begin, inside = place, 0
            inside = inside + 1 if digit else 0
            place += size
        if begin < stop:
            starts[total], ids[total] = begin, tokens[text]
            total += 1
        counts[text] = total - before
    return total
