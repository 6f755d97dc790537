# SPDX-License-Identifier: Apache-2.0
"""Gopher's quality rules: documents that do not read like prose are rejected.

Rae et al. 2021 (arXiv 2112.11446, appendix A1.1), with the readings of datatrove 0.10:
words of punctuation alone do not count as words but do count in the shares of marks
and of letters, and stop words are written small.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from preprocessing.foundation.compiled import compiled
from preprocessing.foundation.utf8_space import skip_space, trim_space
from preprocessing.rules.checks import first_failures, least, most, share
from preprocessing.rules.measures import lines, words
from preprocessing.rules.measures.views import Spans, View
from preprocessing.rules.measures.words import HAS_LETTER, ONLY_PUNCTUATION, Words
from preprocessing.rules.verdicts import Failure, Judged

_HASH, _DOT, _HYPHEN = 35, 46, 45
# UTF-8 of the bullet U+2022 and the ellipsis U+2026 but for the last byte.
_GENERAL = (0xE2, 0x80)
_BULLET, _ELLIPSIS = 0xA2, 0xA6


@dataclass(frozen=True)
class QualityThresholds:
    """When a document is rejected, in the order in which it is checked.

    Attributes:
        min_words: fewer words that are not punctuation alone.
        max_words: more of them.
        min_mean_word_length: mean of their characters below this.
        max_mean_word_length: above this.
        max_hashes: more "#" for each word.
        max_ellipses: more "..." and "…" for each word.
        max_bullet_lines: a larger share of lines that begin with "•" or "-".
        max_ellipsis_lines: a larger share of lines that end in "..." or "…".
        min_letter_words: a smaller share of words with a letter.
        min_stop_words: fewer different ones of stop_words.
        stop_words: frequent words, as they are written.
    """

    WORDS: ClassVar[Mapping[str, str]] = {
        "min_words": "words",
        "max_words": "words",
        "min_mean_word_length": "mean characters of a word",
        "max_mean_word_length": "mean characters of a word",
        "max_hashes": '"#" for each word',
        "max_ellipses": "ellipses for each word",
        "max_bullet_lines": "share of lines that begin with a bullet",
        "max_ellipsis_lines": "share of lines that end in an ellipsis",
        "min_letter_words": "share of words with a letter",
        "min_stop_words": "different stop words",
    }
    min_words: int
    max_words: int
    min_mean_word_length: float
    max_mean_word_length: float
    max_hashes: float
    max_ellipses: float
    max_bullet_lines: float
    max_ellipsis_lines: float
    min_letter_words: float
    min_stop_words: int
    stop_words: tuple[str, ...]


GOPHER = QualityThresholds(
    min_words=50,
    max_words=100_000,
    min_mean_word_length=3.0,
    max_mean_word_length=10.0,
    max_hashes=0.1,
    max_ellipses=0.1,
    max_bullet_lines=0.9,
    max_ellipsis_lines=0.3,
    min_letter_words=0.8,
    min_stop_words=2,
    stop_words=("the", "be", "to", "of", "and", "that", "have", "with"),
)


@dataclass(frozen=True)
class QualityMeasures:
    """What is counted in each document; int64 [n] each.

    Attributes:
        words: all of them.
        plain_words: those that are not punctuation alone.
        plain_characters: the characters of those.
        letter_words: those with a letter.
        hashes: "#" in the text.
        ellipses: "..." and "…" in the text.
        lines: all of them.
        bullet_lines: those that begin with "•" or "-" after white space.
        ellipsis_lines: those that end in "..." or "…" before white space.
        stop_words: different stop words; not counted further once there are enough.
    """

    words: np.ndarray
    plain_words: np.ndarray
    plain_characters: np.ndarray
    letter_words: np.ndarray
    hashes: np.ndarray
    ellipses: np.ndarray
    lines: np.ndarray
    bullet_lines: np.ndarray
    ellipsis_lines: np.ndarray
    stop_words: np.ndarray


def judge(texts: pa.LargeStringArray, thresholds: QualityThresholds) -> Judged:
    """Judges texts [n]; very long ones by their beginning, see `views.view`."""
    seen, found = words.of_batch(texts)
    measured = measure(seen, found, lines.any_lines(seen), thresholds)
    return Judged(texts, failures(measured, thresholds))


def measure(
    seen: View, found: Words, cut: Spans, thresholds: QualityThresholds
) -> QualityMeasures:
    """Returns the counts of n documents, given their words and lines."""
    wanted = [word.encode() for word in thresholds.stop_words]
    edges = np.cumsum([0, *(len(word) for word in wanted)])
    stop_data = np.frombuffer(b"".join(wanted), np.uint8)
    enough = thresholds.min_stop_words
    n = len(seen.starts)
    sums = np.zeros((3, n), np.int64)
    _sum_words(found.lengths, found.kinds, found.spans.first, sums)
    marks = np.zeros((2, n), np.int64)
    _count_marks(seen.data, seen.starts, seen.ends, marks)
    shapes = np.zeros((2, n), np.int64)
    _count_lines(seen.data, cut.starts, cut.ends, cut.first, shapes)
    stops = np.zeros(n, np.int64)
    spans = found.spans
    _count_stop_words(
        seen.data,
        spans.starts,
        spans.ends,
        spans.first,
        stop_data,
        edges,
        enough,
        stops,
    )
    return QualityMeasures(
        words=spans.counts,
        plain_words=sums[0],
        plain_characters=sums[1],
        letter_words=sums[2],
        hashes=marks[0],
        ellipses=marks[1],
        lines=cut.counts,
        bullet_lines=shapes[0],
        ellipsis_lines=shapes[1],
        stop_words=stops,
    )


def failures(measured: QualityMeasures, thresholds: QualityThresholds) -> list[Failure]:
    """Returns for each document that fails the first check that it fails."""
    mean = share(measured.plain_characters, measured.plain_words)
    letters = share(measured.letter_words, measured.words)
    bullets = share(measured.bullet_lines, measured.lines)
    ellipses = share(measured.ellipsis_lines, measured.lines)
    return first_failures(
        [
            least(thresholds, "min_words", measured.plain_words),
            most(thresholds, "max_words", measured.plain_words),
            least(thresholds, "min_mean_word_length", mean),
            most(thresholds, "max_mean_word_length", mean),
            most(thresholds, "max_hashes", share(measured.hashes, measured.words)),
            most(thresholds, "max_ellipses", share(measured.ellipses, measured.words)),
            most(thresholds, "max_bullet_lines", bullets),
            most(thresholds, "max_ellipsis_lines", ellipses),
            least(thresholds, "min_letter_words", letters),
            least(thresholds, "min_stop_words", measured.stop_words),
        ]
    )


@compiled
def _sum_words(
    lengths: np.ndarray, kinds: np.ndarray, first: np.ndarray, sums: np.ndarray
) -> None:
    """Writes plain words, their characters, and words with a letter; sums [3, n]."""
    for document in range(len(first) - 1):
        plain, characters, letters = 0, 0, 0
        for word in range(first[document], first[document + 1]):
            if not kinds[word] & ONLY_PUNCTUATION:
                plain += 1
                characters += lengths[word]
            letters += kinds[word] & HAS_LETTER
        sums[0, document], sums[1, document] = plain, characters
        sums[2, document] = letters


@compiled
def _is_general(data: np.ndarray, place: int, end: int, last: int) -> bool:
    """Whether data[place:end] begins with the character E2 80 `last`."""
    if place < 0 or place + 3 > end or data[place] != _GENERAL[0]:
        return False
    return data[place + 1] == _GENERAL[1] and data[place + 2] == last


@compiled
def _count_marks(
    data: np.ndarray, starts: np.ndarray, ends: np.ndarray, marks: np.ndarray
) -> None:
    """Writes the hashes and the ellipses of each document; marks [2, n]."""
    for document in range(len(starts)):
        hashes, ellipses, dots = 0, 0, 0
        end = ends[document]
        for place in range(starts[document], end):
            byte = data[place]
            hashes += byte == _HASH
            dots = dots + 1 if byte == _DOT else 0
            if dots == 3:
                ellipses, dots = ellipses + 1, 0
            if byte == _ELLIPSIS and place >= starts[document] + 2:
                ellipses += _is_general(data, place - 2, end, _ELLIPSIS)
        marks[0, document], marks[1, document] = hashes, ellipses


@compiled
def _count_lines(
    data: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    first: np.ndarray,
    shapes: np.ndarray,
) -> None:
    """Writes the bullet and the ellipsis lines of each document; shapes [2, n]."""
    for document in range(len(first) - 1):
        for line in range(first[document], first[document + 1]):
            end = ends[line]
            start = skip_space(data, starts[line], end)
            if start == end:
                continue
            bullet = _is_general(data, start, end, _BULLET)
            shapes[0, document] += data[start] == _HYPHEN or bullet
            end = trim_space(data, start, end)
            dots = data[max(start, end - 3) : end]
            row = len(dots) == 3 and dots[0] == dots[1] == dots[2] == _DOT
            one = end - 3 >= start and _is_general(data, end - 3, end, _ELLIPSIS)
            shapes[1, document] += row or one


@compiled
def _count_stop_words(
    data: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    first: np.ndarray,
    stop_data: np.ndarray,
    edges: np.ndarray,
    enough: int,
    stops: np.ndarray,
) -> None:
    """Writes how many different stop words each document has, `enough` at most."""
    seen = np.zeros(len(edges), np.bool_)
    for document in range(len(first) - 1):
        seen[:] = False
        for word in range(first[document], first[document + 1]):
            if stops[document] >= enough:
                break
            for stop in range(len(edges) - 1):
                size = edges[stop + 1] - edges[stop]
                if seen[stop] or ends[word] - starts[word] != size:
                    continue
                same = 0
                while same < size:
                    if data[starts[word] + same] != stop_data[edges[stop] + same]:
                        break
                    same += 1
                if same == size:
                    seen[stop] = True
                    stops[document] += 1
