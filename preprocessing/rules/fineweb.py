# SPDX-License-Identifier: Apache-2.0
"""FineWeb's own rules: pages that are lists, menus or repeated lines are rejected.

Penedo et al. 2024 (arXiv 2406.17557, section 3.5), with the thresholds and readings of
datatrove 0.10, whose share of repeated characters (0.01) is a tenth of the paper's.
Lines are what stands between line feeds and is not blank.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pyarrow as pa

from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.compiled import compiled
from preprocessing.rules.checks import Check, first_failures, least, most, share
from preprocessing.rules.measures import characters, lines, words
from preprocessing.rules.measures.characters import TERMINAL
from preprocessing.rules.measures.repeats import count_repeated
from preprocessing.rules.measures.views import (
    Spans,
    View,
    character,
    characters_of,
    count_characters,
    previous,
)
from preprocessing.rules.verdicts import Failure, Judged

_FEED = 10


@dataclass(frozen=True)
class FineWebThresholds:
    """When a document is rejected, in the order in which it is checked.

    Attributes:
        min_ended_lines: a smaller share of lines that end in one of end_marks.
        max_short_lines: a larger share of lines of at most short_line characters.
        max_duplicate_line_characters: lines that came before have a larger share of
            the characters that are not line feeds.
        max_feeds: more line feeds for each word.
        short_line: characters.
        keep_unended: 1 keeps documents none of whose lines ends so, 0 does not.
        end_marks: characters; none for those that end a sentence in any script.
    """

    WORDS: ClassVar[Mapping[str, str]] = {
        "min_ended_lines": "share of lines that end a sentence",
        "max_short_lines": "share of short lines",
        "max_duplicate_line_characters": "share of text in repeated lines",
        "max_feeds": "line feeds for each word",
    }
    min_ended_lines: float
    max_short_lines: float
    max_duplicate_line_characters: float
    max_feeds: float
    short_line: int
    keep_unended: int
    end_marks: tuple[str, ...]


FINEWEB = FineWebThresholds(
    min_ended_lines=0.12,
    max_short_lines=0.67,
    max_duplicate_line_characters=0.01,
    max_feeds=0.3,
    short_line=30,
    keep_unended=0,
    end_marks=(),
)


@dataclass(frozen=True)
class FineWebMeasures:
    """What is counted in each document; int64 [n] each.

    Attributes:
        words: all of them.
        lines: those that are not blank.
        ended_lines: those that end in an end mark.
        short_lines: those of few characters.
        repeated_characters: of lines that came before.
        feeds: line feeds.
        characters: all but line feeds.
    """

    words: np.ndarray
    lines: np.ndarray
    ended_lines: np.ndarray
    short_lines: np.ndarray
    repeated_characters: np.ndarray
    feeds: np.ndarray
    characters: np.ndarray


def judge(texts: pa.LargeStringArray, thresholds: FineWebThresholds) -> Judged:
    """Judges texts [n]; very long ones by their beginning, see `views.view`.

    Raises:
        UsageError: one of end_marks is not one character.
    """
    seen, found = words.of_batch(texts)
    cut = lines.filled_lines(seen)
    return Judged(
        texts, failures(measure(seen, found.spans.counts, cut, thresholds), thresholds)
    )


def measure(
    seen: View, counts: np.ndarray, cut: Spans, thresholds: FineWebThresholds
) -> FineWebMeasures:
    """Returns the counts of n documents, given how many words they have, and lines."""
    n = len(seen.starts)
    shapes = np.zeros((2, n), np.int64)
    flags = _end_flags(thresholds.end_marks)
    _count_shapes(
        seen.data, cut.starts, cut.ends, cut.first, flags, thresholds.short_line, shapes
    )
    feeds = np.zeros(n, np.int64)
    _count_feeds(seen.data, seen.starts, seen.ends, feeds)
    repeated = count_repeated(seen, cut)[1]
    rest = characters_of(seen) - feeds
    ended, short = shapes
    return FineWebMeasures(counts, cut.counts, ended, short, repeated, feeds, rest)


def failures(measured: FineWebMeasures, thresholds: FineWebThresholds) -> list[Failure]:
    """Returns for each document that fails the first check that it fails.

    A document of blank lines fails a check that has no threshold to set, "empty".
    """
    filled = measured.lines
    ended = least(thresholds, "min_ended_lines", share(measured.ended_lines, filled))
    if thresholds.keep_unended:
        failed = ended.failed & (measured.ended_lines > 0)
        ended = replace(ended, failed=failed)
    repeated = share(measured.repeated_characters, measured.characters)
    return first_failures(
        [
            Check("empty", 1, filled, filled < 1, "lines that are not blank"),
            ended,
            most(thresholds, "max_short_lines", share(measured.short_lines, filled)),
            most(thresholds, "max_duplicate_line_characters", repeated),
            most(thresholds, "max_feeds", share(measured.feeds, measured.words)),
        ]
    )


def _end_flags(marks: tuple[str, ...]) -> np.ndarray:
    """Returns a table of flags in which the end marks, and no others, are TERMINAL."""
    if not marks:
        return characters.table()
    for mark in marks:
        if len(mark) != 1:
            raise UsageError(
                f"wanted single characters as end_marks of fineweb, found {mark!r}. "
                "Join several by +, as in end_marks=.+!"
            )
    flags = np.zeros_like(characters.table())
    flags[[ord(mark) for mark in marks]] = TERMINAL
    return flags


@compiled
def _count_shapes(
    data: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    first: np.ndarray,
    flags: np.ndarray,
    short_line: int,
    shapes: np.ndarray,
) -> None:
    """Writes the ended and the short lines of each document; shapes [2, n]."""
    for document in range(len(first) - 1):
        for line in range(first[document], first[document + 1]):
            last = character(data, previous(data, ends[line]))[0]
            shapes[0, document] += flags[last] & TERMINAL != 0
            # A character has four bytes at most.
            if ends[line] - starts[line] <= 4 * short_line:
                length = count_characters(data, starts[line], ends[line])
                shapes[1, document] += length <= short_line


@compiled
def _count_feeds(
    data: np.ndarray, starts: np.ndarray, ends: np.ndarray, feeds: np.ndarray
) -> None:
    for document in range(len(starts)):
        count = 0
        for place in range(starts[document], ends[document]):
            count += data[place] == _FEED
        feeds[document] = count
