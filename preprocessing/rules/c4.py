# SPDX-License-Identifier: Apache-2.0
"""C4's rules: lines that look like sentences stay, pages with too few are rejected.

Raffel et al. 2020 (arXiv 1910.10683, section 2.2). Two readings of the paper go by
one name, so they are two rule sets here:

    c4@tfds        TensorFlow Datasets, which made C4: 5 words a line, 3 sentences
    c4@datatrove   Hugging Face datatrove 0.10, as in FineWeb: 3 words, 5 sentences

A page is read line by line. A line is stripped, loses Wikipedia's citations ("[1]",
"[edit]", "[citation needed]"), and is dropped where it has a huge word, no final
punctuation, few words, "javascript" or a phrase of cookie and privacy notices. A page
is rejected where a line that came so far holds "lorem ipsum" or "{", or where few
sentences are left. Lines, words and white space are those of Python strings, upper
and lower case are alike. Lists of bad words, and mC4's paragraphs, are not part of it.

Sentences are counted by `sentences.py`, not by the tokenizers of nltk and spaCy.
"""

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from preprocessing.foundation.compiled import compiled
from preprocessing.foundation.string_buffers import array_of, views
from preprocessing.foundation.utf8_space import (
    LINE_END_BEGINS,
    SPACE_BEGINS,
    line_end_at,
    skip_space,
    space_at,
    trim_space,
)
from preprocessing.rules.measures.phrases import (
    LOREM_IPSUM,
    NOTICE,
    SCRIPT,
    citation_at,
    phrases,
)
from preprocessing.rules.measures.sentences import count_sentences
from preprocessing.rules.verdicts import Failure, Judged, said

_KEPT, _DROPPED, _LOREM_IPSUM, _CURLY_BRACKET, _LONG_PAGE = 0, 1, 2, 3, 4
# The threshold that a verdict is of, and what is found.
_FORBIDDEN = {
    _LOREM_IPSUM: ("lorem_ipsum", "lorem ipsum"),
    _CURLY_BRACKET: ("curly_bracket", "{"),
}
_LINE_FEED, _CURLY, _SQUARE = ord("\n"), ord("{"), ord("[")


@dataclass(frozen=True)
class C4Thresholds:
    """When a line is dropped and a page rejected; of a switch, 1 is on and 0 off.

    Attributes:
        min_words: a line of fewer words is dropped.
        min_sentences: a page of fewer sentences in its remaining lines is rejected.
        max_word_chars: a line with a word of more characters is dropped; 0 for none.
        max_page_chars: a page of more characters is rejected; 0 for none.
        terminal_punctuation: a line is dropped unless it ends in one of . ! ? " and
            not in "...". FineWeb switches it off.
        apostrophe_ends: ' is a final mark too.
        citations: citations are cut out.
        cited_words: a line's words are counted before citations are cut out.
        lorem_ipsum: a page with "lorem ipsum" is rejected.
        curly_bracket: a page with { is rejected, for it may be code.
        javascript: a line with "javascript" is dropped.
        policy: a line is dropped for "terms of use", "privacy policy", "cookie policy",
            "uses cookies", "use of cookies" or "use cookies".
    """

    min_words: int
    min_sentences: int
    max_word_chars: int
    max_page_chars: int
    terminal_punctuation: int
    apostrophe_ends: int
    citations: int
    cited_words: int
    lorem_ipsum: int
    curly_bracket: int
    javascript: int
    policy: int


TFDS = C4Thresholds(
    min_words=5,
    min_sentences=3,
    max_word_chars=1000,
    max_page_chars=190_000,
    terminal_punctuation=1,
    apostrophe_ends=0,
    citations=1,
    cited_words=0,
    lorem_ipsum=1,
    curly_bracket=1,
    javascript=1,
    policy=1,
)
DATATROVE = dataclasses.replace(
    TFDS,
    min_words=3,
    min_sentences=5,
    max_page_chars=0,
    apostrophe_ends=1,
    cited_words=1,
)


class _Limits(NamedTuple):
    """`C4Thresholds` as compiled code takes them."""

    min_words: int
    min_sentences: int
    max_word_chars: int
    max_page_chars: int
    terminal_punctuation: int
    apostrophe_ends: int
    citations: int
    cited_words: int
    lorem_ipsum: int
    curly_bracket: int
    javascript: int
    policy: int


def judge(
    texts: pa.LargeStringArray,
    thresholds: C4Thresholds,
    sentences: np.ndarray | None = None,
) -> Judged:
    """Judges pages, and leaves of each the lines that pass, joined by line feeds.

    Args:
        texts: valid UTF-8, no nulls, [n].
        thresholds: `TFDS`, `DATATROVE` or others.
        sentences: int64 [n], how many the lines that pass hold, where they are to be
            counted otherwise than by `count_sentences`.
    """
    data, edges = views(texts)
    limits = _Limits(*dataclasses.astuple(thresholds))
    left = np.empty(edges[-1] - edges[0], np.uint8)
    left_edges = np.zeros(len(edges), np.int64)
    verdicts = np.zeros(len(texts), np.int8)
    counts = np.zeros(len(texts), np.int64)
    _judge_pages(data, edges, limits, left, left_edges, verdicts, counts)
    few = (
        counts if sentences is None else np.where(verdicts == _KEPT, sentences, counts)
    )
    failures = _failures(verdicts, few, thresholds)
    left = left[: left_edges[-1]]
    same = np.array_equal(left, data[edges[0] : edges[-1]])
    if same and np.array_equal(left_edges, edges - edges[0]):
        return Judged(texts, failures)
    return Judged(array_of(left, left_edges), failures)


def _failures(
    verdicts: np.ndarray, counts: np.ndarray, thresholds: C4Thresholds
) -> list[Failure]:
    """Returns why pages are rejected: by `counts` of sentences, or of characters."""
    few = (verdicts == _KEPT) & (counts < thresholds.min_sentences)
    failures = []
    for place in np.flatnonzero((verdicts != _KEPT) | few).tolist():
        verdict, count = int(verdicts[place]), int(counts[place])
        if verdict == _LONG_PAGE:
            limit = thresholds.max_page_chars
            words = said("characters", count, "or less", limit)
            failures.append(Failure(place, "max_page_chars", count, limit, words))
        elif verdict in _FORBIDDEN:
            check, found = _FORBIDDEN[verdict]
            words = f"'{found}' is in the text, wanted none"
            failures.append(Failure(place, check, found, "none", words))
        else:
            limit = thresholds.min_sentences
            words = said("sentences", count, "or more", limit)
            failures.append(Failure(place, "min_sentences", count, limit, words))
    return failures


@compiled
def _judge_pages(
    data: np.ndarray,
    edges: np.ndarray,
    limits: _Limits,
    left: np.ndarray,
    left_edges: np.ndarray,
    verdicts: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Fills `left` with what pages keep, never more than they had, and the verdicts."""
    for page in range(len(edges) - 1):
        start, end, first = edges[page], edges[page + 1], left_edges[page]
        left_edges[page + 1] = first
        most = limits.max_page_chars
        if 0 < most < end - start:  # bytes, of which there are no fewer
            counts[page] = _characters(data, start, end)
            if counts[page] > most:
                verdicts[page] = _LONG_PAGE
                continue
        stop, verdicts[page], counts[page] = _judge_lines(
            data, start, end, limits, left, first
        )
        if verdicts[page] == _KEPT:
            left_edges[page + 1] = _stripped(left, first, stop)


@compiled
def _judge_lines(
    data: np.ndarray, at: int, end: int, limits: _Limits, left: np.ndarray, first: int
) -> tuple[int, int, int]:
    """Returns where the page ends in `left`, its verdict, the sentences it holds."""
    sentences, write, stop = 0, first, first
    while at < end:
        start, width = at, 0
        while at < end:
            if LINE_END_BEGINS[data[at]]:
                width = line_end_at(data, at, end)
                if width > 0:
                    break
            at += 1
        line_end, verdict = _judge_line(data, start, at, limits, left, write)
        if verdict == _KEPT:
            sentences += count_sentences(left, write, line_end)
            stop, write = line_end, line_end + 1
            if write < len(left):  # the last line of all has no room for one
                left[line_end] = _LINE_FEED
        elif verdict != _DROPPED:
            return first, verdict, 0
        at += width
    return stop, _KEPT, sentences


@compiled
def _judge_line(
    data: np.ndarray,
    start: int,
    end: int,
    limits: _Limits,
    left: np.ndarray,
    write: int,
) -> tuple[int, int]:
    """Writes a line to left[write:]; returns where it ends there, and its verdict."""
    start = skip_space(data, start, end)
    end = trim_space(data, start, end)
    words, longest = _words(data, start, end)
    if 0 < limits.max_word_chars < longest:
        return write, _DROPPED
    stop = _copied(data, start, end, limits.citations, left, write)
    if limits.terminal_punctuation and not _is_closed(
        left, write, stop, limits.apostrophe_ends
    ):
        return write, _DROPPED
    if not limits.cited_words and stop - write < end - start:
        words, _ = _words(left, write, stop)
    if words < limits.min_words:
        return write, _DROPPED
    found, curly = phrases(left, write, stop, _CURLY)
    if limits.lorem_ipsum and found & LOREM_IPSUM:
        return write, _LOREM_IPSUM
    if limits.javascript and found & SCRIPT:
        return write, _DROPPED
    if limits.curly_bracket and curly:
        return write, _CURLY_BRACKET
    if limits.policy and found & NOTICE:
        return write, _DROPPED
    return stop, _KEPT


@compiled
def _words(data: np.ndarray, at: int, end: int) -> tuple[int, int]:
    """Returns how many words data[at:end] holds, and the longest one's characters."""
    words, longest, current = 0, 0, 0
    while at < end:
        byte = data[at]
        if SPACE_BEGINS[byte]:
            width = space_at(data, at, end)
            if width > 0:
                longest, current = max(longest, current), 0
                at += width
                continue
        words += int(current == 0)
        current += int(byte & 0xC0 != 0x80)
        at += 1
    return words, max(longest, current)


@compiled
def _characters(data: np.ndarray, start: int, end: int) -> int:
    total = 0
    for at in range(start, end):
        total += int(data[at] & 0xC0 != 0x80)
    return total


@compiled
def _copied(
    data: np.ndarray, at: int, end: int, citations: int, left: np.ndarray, write: int
) -> int:
    """Copies data[at:end] to left[write:], citations left out; returns the end."""
    while at < end:
        if citations and data[at] == _SQUARE:
            width = citation_at(data, at, end)
            if width > 0:
                at += width
                continue
        left[write] = data[at]
        write += 1
        at += 1
    return write


@compiled
def _is_closed(data: np.ndarray, start: int, end: int, apostrophe_ends: int) -> bool:
    """Tells whether a line ends as a sentence does."""
    if start == end:
        return False
    last = data[end - 1]
    if last == ord("."):
        dots = data[max(start, end - 3) : end]
        return len(dots) < 3 or dots[0] != last or dots[1] != last
    if last == ord("'"):
        return apostrophe_ends != 0
    return last == ord("?") or last == ord("!") or last == ord('"')


@compiled
def _stripped(data: np.ndarray, start: int, end: int) -> int:
    """Strips data[start:end] in place, and returns where it then ends."""
    begin = skip_space(data, start, end)
    end = trim_space(data, begin, end)
    if begin > start:
        for at in range(begin, end):
            data[at - begin + start] = data[at]
    return start + end - begin
