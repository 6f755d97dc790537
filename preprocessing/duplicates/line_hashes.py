# SPDX-License-Identifier: Apache-2.0
"""Hashes of the lines of texts, and texts without some of their lines.

C4 drops a line that another page has too, compared stripped and in small letters
(Raffel et al. 2020, arXiv 1910.10683, section 2.2). Here a line is what stands between
line feeds, as cleaning leaves them. Short lines ("}", "Read more") say little about
where a text is from, so lines of few words are not compared.

    text       compared, at 3 words or more    text without line 1
    A b c.     a b c.                          A b c.
    Ok.                                          x Y z
      x Y z    x y z

Hashes are 128 bits: two chains of SplitMix64 over the line's bytes, eight at a time.
Two of a trillion different lines meet by chance once in 10^14 such corpora; hashes
are no defence against somebody who wants two lines to meet.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from preprocessing.foundation.compiled import compiled
from preprocessing.foundation.fingerprints import mix
from preprocessing.foundation.string_buffers import array_of, views
from preprocessing.foundation.utf8_space import (
    SPACE_BEGINS,
    skip_space,
    space_at,
    trim_space,
)

_LINE_FEED = ord("\n")
_STRETCH = 1 << 18  # bytes compared at once; the mask stays in a core's cache
_WORD_BYTES = 8
_FIRST_SEED, _SECOND_SEED = np.uint64(0x51F15EED), np.uint64(0x2C1A0DD5)
# Any odd number: the second chain is to take another way from the same words.
_SECOND_FACTOR = np.uint64(0xD6E8FEB86659FD93)
_mix: Callable[[Any], Any] = compiled(mix)  # of one number as of many


@dataclass(frozen=True)
class Lines:
    """The lines of a batch that are long enough to compare, in order.

    Attributes:
        hashes: uint8 [k, 16]; two are equal where the lines are, stripped of white
            space and in small letters as Arrow's `utf8_lower` makes them.
        document: int64 [k], the index of the line's text in the batch.
        line: int32 [k], the line's number in its text, from 0, all lines counted.
    """

    hashes: np.ndarray
    document: np.ndarray
    line: np.ndarray


def line_hashes(texts: pa.LargeStringArray, min_words: int = 3) -> Lines:
    """Returns the lines of `min_words` words or more; words lie between white space.

    Args:
        texts: valid UTF-8, no nulls, [n].
        min_words: 1 or more.
    """
    data, edges = views(pc.utf8_lower(texts))
    most = len(texts) + _line_feeds(data[edges[0] : edges[-1]])
    halves = np.empty((most, 2), np.uint64)
    document, line = np.empty(most, np.int64), np.empty(most, np.int32)
    found = _hash_lines(data, edges, min_words, halves, document, line)
    hashes = halves[:found].astype("<u8", copy=False).view(np.uint8)
    return Lines(hashes, document[:found].copy(), line[:found].copy())


def _line_feeds(data: np.ndarray) -> int:
    """Returns how many there are, with a mask of a part of the bytes at a time."""
    starts = range(0, len(data), _STRETCH)
    return sum(
        np.count_nonzero(data[at : at + _STRETCH] == _LINE_FEED) for at in starts
    )


def drop_lines(
    texts: pa.LargeStringArray, document: np.ndarray, line: np.ndarray
) -> pa.LargeStringArray:
    """Returns the texts without some lines: the others, joined by line feeds, [n].

    Args:
        texts: valid UTF-8, no nulls, [n].
        document: int64 [k], the texts to drop lines of, in any order.
        line: integers [k], the number of the line to drop from each; it is there.
    """
    if not len(document):
        return texts
    order = np.lexsort((line, document))
    data, edges = views(texts)
    left = np.empty(edges[-1] - edges[0], np.uint8)
    left_edges = np.zeros(len(edges), np.int64)
    dropped = (document[order].astype(np.int64), line[order].astype(np.int64))
    _copy_lines(data, edges, *dropped, left, left_edges)
    return array_of(left[: left_edges[-1]], left_edges)


@compiled
def _hash_lines(
    data: np.ndarray,
    edges: np.ndarray,
    min_words: int,
    halves: np.ndarray,
    document: np.ndarray,
    line: np.ndarray,
) -> int:
    """Fills the three arrays and returns how many lines there are to compare."""
    found = 0
    for text in range(len(edges) - 1):
        at, end, number = edges[text], edges[text + 1], 0
        while at < end:
            stop = _line_end(data, at, end)
            start = skip_space(data, at, stop)
            last = trim_space(data, start, stop)
            if _has_words(data, start, last, min_words):
                halves[found, 0], halves[found, 1] = _hashed(data, start, last)
                document[found], line[found] = text, number
                found += 1
            number += 1
            at = stop + 1
    return found


@compiled
def _line_end(data: np.ndarray, at: int, end: int) -> int:
    """Returns where the line that holds `at` ends: its line feed, or `end`."""
    while at < end and data[at] != _LINE_FEED:
        at += 1
    return at


@compiled
def _has_words(data: np.ndarray, at: int, end: int, least: int) -> bool:
    """Tells whether the stripped line data[at:end] holds `least` words or more."""
    words = int(at < end)
    while at < end and words < least:
        width = space_at(data, at, end) if SPACE_BEGINS[data[at]] else 0
        if width > 0:
            at = skip_space(data, at, end)
            words += 1
        else:
            at += 1
    return words >= least


@compiled
def _hashed(data: np.ndarray, start: int, end: int) -> tuple[int, int]:
    """Returns the two halves of the hash of data[start:end], uint64."""
    # The length tells a line from the same with NULs behind it.
    length = np.uint64(end - start)
    first, second = _mix(_FIRST_SEED ^ length), _mix(_SECOND_SEED ^ length)
    while start < end:
        word = np.uint64(0)
        for place in range(min(_WORD_BYTES, end - start)):
            word |= np.uint64(data[start + place]) << np.uint64(8 * place)
        first = _mix(first ^ word)
        second = _mix(second * _SECOND_FACTOR + word)
        start += _WORD_BYTES
    return first, second


@compiled
def _copy_lines(
    data: np.ndarray,
    edges: np.ndarray,
    document: np.ndarray,
    line: np.ndarray,
    left: np.ndarray,
    left_edges: np.ndarray,
) -> None:
    """Fills `left` with the lines that (document, line), ascending, do not name."""
    drop, write = 0, 0
    for text in range(len(edges) - 1):
        at, end, number, first = edges[text], edges[text + 1], 0, True
        while at <= end and drop < len(document) and document[drop] == text:
            stop = _line_end(data, at, end)
            if line[drop] != number:
                write = _appended(data, at, stop, left, write, first)
                first = False
            while drop < len(document) and (document[drop], line[drop]) == (
                text,
                number,
            ):
                drop += 1
            number += 1
            at = stop + 1
        if at <= end:  # what follows the last line dropped is kept as it is
            write = _appended(data, at, end, left, write, first)
        left_edges[text + 1] = write


@compiled
def _appended(
    data: np.ndarray, start: int, end: int, left: np.ndarray, write: int, first: bool
) -> int:
    """Copies data[start:end] to left[write:], after a line feed if not the first."""
    if not first:
        left[write] = _LINE_FEED
        write += 1
    for at in range(start, end):
        left[write + at - start] = data[at]
    return write + end - start
