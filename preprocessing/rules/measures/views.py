# SPDX-License-Identifier: Apache-2.0
"""Texts as the kernels see them: bytes, where each document lies, and spans of it."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from preprocessing.foundation import string_buffers
from preprocessing.foundation.compiled import compiled

# Of a longer document only the first 4 MiB are judged: 700,000 words of English, when
# the longest that Gopher keeps has 100,000. A document that is all marks has a word per
# byte; its words and the repetition rule's scratch then take 300 MB.
JUDGED_BYTES = 4 << 20
_FEED = 10


@dataclass(frozen=True)
class View:
    """A batch of texts without a copy.

    Attributes:
        data: UTF-8, uint8.
        starts: where each document begins in data, int64 [n].
        ends: where what is judged of it ends, int64 [n].
    """

    data: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


@dataclass(frozen=True)
class Spans:
    """Spans of a batch's documents: words, lines or paragraphs.

    Attributes:
        starts: where each begins in the view's data, int64 [k], in order of document.
        ends: where each ends, int64 [k].
        first: index of each document's first span, and k at the end, int64 [n + 1].
    """

    starts: np.ndarray
    ends: np.ndarray
    first: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """Spans of each document, int64 [n]."""
        return np.diff(self.first)


def view(texts: pa.LargeStringArray, limit: int = JUDGED_BYTES) -> View:
    """Returns a view of texts [n]; of a document over `limit` bytes its beginning.

    The beginning ends after its last line feed, or, where it has none, before the
    character that does not fit.
    """
    data, edges = string_buffers.views(texts)
    starts, ends = edges[:-1], edges[1:]
    long = np.flatnonzero(ends - starts > limit)
    if len(long):
        ends = ends.copy()
        for place in long.tolist():
            ends[place] = _cut(data, int(starts[place]), int(starts[place]) + limit)
        # A kernel is compiled once more for arrays that could be written.
        ends.setflags(write=False)
    return View(data, starts, ends)


def _cut(data: np.ndarray, start: int, end: int) -> int:
    feeds = np.flatnonzero(data[start:end] == _FEED)
    if len(feeds):
        return start + int(feeds[-1]) + 1
    # 10xxxxxx continues a character of UTF-8.
    while data[end] & 0xC0 == 0x80:
        end -= 1
    return end


@compiled
def character(data: np.ndarray, place: int) -> tuple[int, int]:
    """Returns the code point that begins at `place` of valid UTF-8, and its bytes."""
    lead = int(data[place])
    if lead < 0x80:
        return lead, 1
    second = int(data[place + 1]) & 0x3F
    if lead < 0xE0:
        return (lead & 0x1F) << 6 | second, 2
    third = int(data[place + 2]) & 0x3F
    if lead < 0xF0:
        return (lead & 0x0F) << 12 | second << 6 | third, 3
    fourth = int(data[place + 3]) & 0x3F
    return (lead & 0x07) << 18 | second << 12 | third << 6 | fourth, 4


@compiled
def previous(data: np.ndarray, place: int) -> int:
    """Returns where the character begins that ends at `place`."""
    place -= 1
    while data[place] & 0xC0 == 0x80:
        place -= 1
    return place


@compiled
def count_characters(data: np.ndarray, start: int, end: int) -> int:
    """Returns the characters in data[start:end]."""
    count = 0
    for place in range(start, end):
        count += data[place] & 0xC0 != 0x80
    return count


def characters_of(seen: View) -> np.ndarray:
    """Returns the characters in each document, int64 [n]."""
    counts = np.zeros(len(seen.starts), np.int64)
    _characters_of(seen.data, seen.starts, seen.ends, counts)
    return counts


@compiled
def _characters_of(
    data: np.ndarray, starts: np.ndarray, ends: np.ndarray, counts: np.ndarray
) -> None:
    for document in range(len(starts)):
        counts[document] = count_characters(data, starts[document], ends[document])
