# SPDX-License-Identifier: Apache-2.0
"""Gopher's repetition rules: documents that say the same again and again are rejected.

Rae et al. 2021 (arXiv 2112.11446, table A1), with the readings of datatrove 0.10: the
first of several equal spans is not a duplicate, shares of characters are of all the
text's characters, and a repeated n-gram is read past, so that none is counted twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from preprocessing.rules.checks import Check, first_failures, most, share
from preprocessing.rules.measures import lines, words
from preprocessing.rules.measures.repeats import (
    REPEATED_GRAMS,
    TOP_GRAMS,
    count_repeated,
    repeated_grams,
    top_grams,
)
from preprocessing.rules.measures.views import Spans, View, characters_of
from preprocessing.rules.measures.words import Words
from preprocessing.rules.verdicts import Failure, Judged


@dataclass(frozen=True)
class RepetitionThresholds:
    """When a document is rejected, in the order in which it is checked.

    Attributes:
        max_duplicate_paragraphs: a larger share of paragraphs came before.
        max_duplicate_paragraph_characters: they have a larger share of characters.
        max_duplicate_lines: a larger share of lines came before.
        max_duplicate_line_characters: they have a larger share of characters.
        max_top_2_gram: the most frequent two words have a larger share of characters.
        max_top_3_gram: three words.
        max_top_4_gram: four words.
        max_repeated_5_grams: five words that came before have a larger share of them.
        max_repeated_6_grams: six words.
        max_repeated_7_grams: seven words.
        max_repeated_8_grams: eight words.
        max_repeated_9_grams: nine words.
        max_repeated_10_grams: ten words.
    """

    WORDS: ClassVar[Mapping[str, str]] = {
        "max_duplicate_paragraphs": "share of repeated paragraphs",
        "max_duplicate_paragraph_characters": "share of text in repeated paragraphs",
        "max_duplicate_lines": "share of repeated lines",
        "max_duplicate_line_characters": "share of text in repeated lines",
        "max_top_2_gram": "share of text in the most frequent two words",
        "max_top_3_gram": "share of text in the most frequent three words",
        "max_top_4_gram": "share of text in the most frequent four words",
        "max_repeated_5_grams": "share of text in repeated runs of five words",
        "max_repeated_6_grams": "share of text in repeated runs of six words",
        "max_repeated_7_grams": "share of text in repeated runs of seven words",
        "max_repeated_8_grams": "share of text in repeated runs of eight words",
        "max_repeated_9_grams": "share of text in repeated runs of nine words",
        "max_repeated_10_grams": "share of text in repeated runs of ten words",
    }
    max_duplicate_paragraphs: float
    max_duplicate_paragraph_characters: float
    max_duplicate_lines: float
    max_duplicate_line_characters: float
    max_top_2_gram: float
    max_top_3_gram: float
    max_top_4_gram: float
    max_repeated_5_grams: float
    max_repeated_6_grams: float
    max_repeated_7_grams: float
    max_repeated_8_grams: float
    max_repeated_9_grams: float
    max_repeated_10_grams: float


GOPHER = RepetitionThresholds(
    max_duplicate_paragraphs=0.3,
    max_duplicate_paragraph_characters=0.2,
    max_duplicate_lines=0.3,
    max_duplicate_line_characters=0.2,
    max_top_2_gram=0.2,
    max_top_3_gram=0.18,
    max_top_4_gram=0.16,
    max_repeated_5_grams=0.15,
    max_repeated_6_grams=0.14,
    max_repeated_7_grams=0.13,
    max_repeated_8_grams=0.12,
    max_repeated_9_grams=0.11,
    max_repeated_10_grams=0.1,
)


@dataclass(frozen=True)
class RepetitionMeasures:
    """What is counted in each document; int64 [n] unless said otherwise.

    Attributes:
        characters: in all.
        paragraphs: all of them.
        repeated_paragraphs: those that came before, and their characters, [2, n].
        lines: all of them.
        repeated_lines: those that came before, and their characters, [2, n].
        tops: characters of the most frequent 2-, 3- and 4-gram, [n, 3].
        repeated: characters of repeated 5- to 10-grams, [n, 6].
    """

    characters: np.ndarray
    paragraphs: np.ndarray
    repeated_paragraphs: np.ndarray
    lines: np.ndarray
    repeated_lines: np.ndarray
    tops: np.ndarray
    repeated: np.ndarray


def judge(texts: pa.LargeStringArray, thresholds: RepetitionThresholds) -> Judged:
    """Judges texts [n]; very long ones by their beginning, see `views.view`."""
    seen, found = words.of_batch(texts)
    cut, blocks = lines.feed_lines(seen), lines.paragraphs(seen)
    measured = measure(seen, found, cut, blocks)
    return Judged(texts, failures(measured, thresholds))


def measure(seen: View, found: Words, cut: Spans, blocks: Spans) -> RepetitionMeasures:
    """Returns the counts of n documents, given their words, lines and paragraphs."""
    return RepetitionMeasures(
        characters=characters_of(seen),
        paragraphs=blocks.counts,
        repeated_paragraphs=np.stack(count_repeated(seen, blocks)),
        lines=cut.counts,
        repeated_lines=np.stack(count_repeated(seen, cut)),
        tops=top_grams(seen, found),
        repeated=repeated_grams(seen, found),
    )


def failures(
    measured: RepetitionMeasures, thresholds: RepetitionThresholds
) -> list[Failure]:
    """Returns for each document that fails the first check that it fails.

    An empty document fails a check that has no threshold to set, "empty".
    """
    characters = measured.characters
    blocks, block_characters = measured.repeated_paragraphs
    cut, line_characters = measured.repeated_lines
    shares = {
        "max_duplicate_paragraphs": share(blocks, measured.paragraphs),
        "max_duplicate_paragraph_characters": share(block_characters, characters),
        "max_duplicate_lines": share(cut, measured.lines),
        "max_duplicate_line_characters": share(line_characters, characters),
    }
    for n, top in zip(TOP_GRAMS, measured.tops.T, strict=True):
        shares[f"max_top_{n}_gram"] = share(top, characters)
    for n, repeated in zip(REPEATED_GRAMS, measured.repeated.T, strict=True):
        shares[f"max_repeated_{n}_grams"] = share(repeated, characters)
    checks = [most(thresholds, name, values) for name, values in shares.items()]
    empty = Check("empty", 1, characters, characters < 1, "characters")
    return first_failures([empty, *checks])
