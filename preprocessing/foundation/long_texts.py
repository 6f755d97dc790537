# SPDX-License-Identifier: Apache-2.0
r"""Where a huge text can be cut so that its pieces encode to the ids of the whole.

Engines hold several bytes for each byte of a text that they encode in one go, so a
text of some hundred MB is encoded in pieces. The ids are those of the whole where the
pattern of words (each of `contested.PATTERNS`) cuts there anyway, and cuts the left
piece alone as it does in the whole. Two kinds of places are so under all patterns:

    a| b    before a space or tab, after anything but white space
    a\n|b   after a lone line feed between two characters that are no white space,
            the second not "/"

Proof. A word of these patterns holds white space behind another character only as
line feeds and returns behind punctuation (and "/", under o200k, behind those). So a
word ends before the space of the first kind. In the second kind the line feed either
ends such a word or is one by itself, for `\s*[\r\n]+`, `\s+(?!\S)` and `\s+` all take
it alone. Only `(?!\S)` looks at what follows a word, only behind white space: a left
piece ends in none, or in a lone line feed, which is one word with or without it. No
pattern looks back, so the right piece is cut as in the whole. A cut at numbers, which
comes before the pattern, adds places where words end and takes none. In NFC nothing is
reordered or composed across a space or a line feed. White space is what any of the
engines may take for it: U+180E, U+200B and U+FEFF are avoided too.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from preprocessing.foundation.string_buffers import array_of, sizes_of, views

# A longer text is worked on in pieces of this. Pieces of 16 MiB are no faster.
LONG_BYTES = 1 << 20
_SPACE, _TAB, _NEWLINE, _SLASH, _DELETE = 32, 9, 10, 47, 127
_WINDOW = 1 << 12  # bytes looked at first; text with spaces has hundreds of places
_REACH = 4  # bytes before a place that decide, the line feed and three before it
# First bytes of characters that may be white space, and of three-byte characters the
# second ones: U+1680, U+180E, U+2000 to U+207F, U+FEFF.
_DOUBTFUL_LEADS = (0xC2, 0xE1, 0xE2, 0xE3, 0xEF)
_DOUBTFUL_HEADS = ((0xE1, 0x9A), (0xE1, 0xA0), (0xE2, 0x80), (0xE2, 0x81), (0xEF, 0xBB))
_IDEOGRAPHIC_SPACE = (0xE3, 0x80, 0x80)


def has_long(texts: pa.LargeStringArray, most: int = LONG_BYTES) -> bool:
    """Tells whether a text is longer than a piece of `most` bytes."""
    return bool(sizes_of(texts).max(initial=0) > most)


@dataclass(frozen=True)
class Pieces:
    """Some consecutive pieces of texts; one that is not cut is a piece by itself.

    Attributes:
        texts: [n], uncopied.
        owners: the index of the text that each is of, int64 [n].
        opens: which pieces begin their text, bool [n].
        closes: which end it, bool [n].
    """

    texts: pa.LargeStringArray
    owners: np.ndarray
    opens: np.ndarray
    closes: np.ndarray


def in_pieces(texts: pa.LargeStringArray, most: int = LONG_BYTES) -> Iterator[Pieces]:
    """Yields all pieces of texts, of `most` bytes or so, as many at a time."""
    data, offsets = views(texts)
    cuts = [
        pretoken_cuts(data[start:end], most) + start
        for start, end in itertools.pairwise(offsets.tolist())
    ]
    edges = np.sort(np.concatenate([offsets, *cuts]))
    owners = np.repeat(np.arange(len(texts)), [len(part) + 1 for part in cuts])
    borders = np.diff(owners, prepend=-1, append=len(texts)) > 0
    first = 0
    while first < len(owners):
        fits = np.searchsorted(edges, edges[first] + most, side="right") - 1
        last = max(first + 1, int(fits))
        yield Pieces(
            array_of(data, edges[first : last + 1]),
            owners[first:last],
            borders[first:last],
            borders[first + 1 : last + 1],
        )
        first = last


def pretoken_cuts(text: np.ndarray, most: int) -> np.ndarray:
    """Returns where to cut a text into pieces of `most` bytes, more where it must be.

    Args:
        text: uint8 [bytes], valid UTF-8.
        most: 1 or more. A piece is longer where no place within it is safe, up to the
            next that is.

    Returns:
        int64 [pieces - 1], ascending, 0 and the end left out.
    """
    cuts: list[int] = []
    start = 0
    while len(text) - start > most:
        cut = _last_place(text, start + 1, start + most + 1)
        if cut is None:
            cut = _first_place(text, start + most + 1)
        if cut is None:
            break
        cuts.append(cut)
        start = cut
    return np.array(cuts, np.int64)


def _last_place(text: np.ndarray, first: int, end: int) -> int | None:
    """Returns the last safe place in range(first, end), or None."""
    window = _WINDOW
    while end > first:
        begin = max(first, end - window)
        places = _places(text, begin, end)
        if len(places):
            return int(places[-1])
        end, window = begin, 2 * window
    return None


def _first_place(text: np.ndarray, first: int) -> int | None:
    """Returns the first safe place from `first` on, or None."""
    window = _WINDOW
    while first < len(text):
        places = _places(text, first, min(first + window, len(text)))
        if len(places):
            return int(places[0])
        first, window = first + window, min(2 * window, 1 << 20)
    return None


def _places(text: np.ndarray, first: int, end: int) -> np.ndarray:
    """Returns the safe places in range(first, end), int64, ascending."""
    begin = max(0, first - _REACH)
    part = text[begin:end]
    # Before the text lie spaces, after which nothing is safe.
    padded = np.concatenate([np.full(_REACH, _SPACE, np.uint8), part])
    after, before = padded[_REACH:], padded[_REACH - 1 : -1]
    blank = (after == _SPACE) | (after == _TAB)
    spaced = blank & _ends_visibly(padded, 1, len(part))
    lined = (before == _NEWLINE) & _begins_visibly(after) & (after != _SLASH)
    lined &= _ends_visibly(padded, 2, len(part))
    places = np.flatnonzero(spaced | lined) + begin
    return places[places >= first]


def _ends_visibly(padded: np.ndarray, back: int, count: int) -> np.ndarray:
    """Tells where the character that ends `back` bytes before is no white space."""

    def byte(distance: int) -> np.ndarray:
        start = _REACH - back - distance
        return padded[start : start + count]

    last, second, third = byte(0), byte(1), byte(2)
    doubtful = second == _DOUBTFUL_LEADS[0]
    for head in _DOUBTFUL_HEADS:
        doubtful |= (third == head[0]) & (second == head[1])
    wide, blank, end = _IDEOGRAPHIC_SPACE
    doubtful |= (third == wide) & (second == blank) & (last == end)
    return (last > _SPACE) & (last != _DELETE) & ~doubtful


def _begins_visibly(bytes_: np.ndarray) -> np.ndarray:
    """Tells which bytes begin a character that is surely no white space."""
    inside = (bytes_ >= 0x80) & (bytes_ < 0xC0)
    return (bytes_ > _SPACE) & ~inside & ~np.isin(bytes_, [_DELETE, *_DOUBTFUL_LEADS])
