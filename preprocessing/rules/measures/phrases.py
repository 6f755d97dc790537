# SPDX-License-Identifier: Apache-2.0
"""Phrases that mark a line or a page for C4's rules, and Wikipedia's citations."""

import numpy as np

from preprocessing.foundation.compiled import compiled

# What a phrase tells, as bits.
LOREM_IPSUM, SCRIPT, NOTICE = 1, 2, 4
_PHRASES = (
    (LOREM_IPSUM, b"lorem ipsum"),
    (SCRIPT, b"javascript"),
    (NOTICE, b"terms of use"),
    (NOTICE, b"privacy policy"),
    (NOTICE, b"cookie policy"),
    (NOTICE, b"uses cookies"),
    (NOTICE, b"use of cookies"),
    (NOTICE, b"use cookies"),
)
_TELLS = np.array([bit for bit, _ in _PHRASES])
_BYTES = np.frombuffer(b"".join(phrase for _, phrase in _PHRASES), np.uint8)
_EDGES = np.cumsum([0, *(len(phrase) for _, phrase in _PHRASES)])
_CITATIONS = np.frombuffer(b"[edit][citation needed]", np.uint8)
_FIRST_LENGTH = len("[edit]")
# A phrase may begin at (first byte, second byte), either case: most places are told
# by one look.
_BEGINS = np.zeros((256, 256), np.bool_)
for _, _phrase in _PHRASES:
    for _first in (_phrase[0], _phrase[0] - 32):
        for _second in (_phrase[1], _phrase[1] - 32):
            _BEGINS[_first, _second] = True
# The zeros of the 66 rows of ten decimal digits in Unicode 14, which `\d` stands for.
_ZEROS = np.array(
    [
        0x30, 0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66,
        0xCE6, 0xD66, 0xDE6, 0xE50, 0xED0, 0xF20, 0x1040, 0x1090, 0x17E0, 0x1810,
        0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40, 0x1C50, 0xA620, 0xA8D0,
        0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10, 0x104A0, 0x10D30, 0x11066,
        0x110F0, 0x11136, 0x111D0, 0x112F0, 0x11450, 0x114D0, 0x11650, 0x116C0, 0x11730,
        0x118E0, 0x11950, 0x11C50, 0x11D50, 0x11DA0, 0x16A60, 0x16AC0, 0x16B50, 0x1D7CE,
        0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6, 0x1E140, 0x1E2F0, 0x1E950, 0x1FBF0,
    ]
)  # fmt: skip


@compiled
def phrases(data: np.ndarray, start: int, end: int, mark: int) -> tuple[int, bool]:
    """Returns (bits of the phrases in data[start:end], whether it holds byte `mark`).

    Upper and lower case are alike: A to Z, and the Kelvin sign, the one character
    outside ASCII whose small letter, k, is in a phrase. (That of U+0130, i and a dot
    above, has its dot in the phrase's way.)
    """
    found, marked = 0, False
    for at in range(start, end - 1):
        if _BEGINS[data[at], data[at + 1]]:
            found |= _told(data, at, end)
        marked = marked or data[at] == mark
    return found, marked or (end > start and data[end - 1] == mark)


@compiled
def _told(data: np.ndarray, at: int, end: int) -> int:
    """Returns the bits of the phrases that begin at `at`."""
    found = 0
    for number in range(len(_TELLS)):
        place, first, last = at, _EDGES[number], _EDGES[number + 1]
        while first < last and place < end:
            width = _letter_at(data, place, end, _BYTES[first])
            if width == 0:
                break
            place += width
            first += 1
        if first == last:
            found |= _TELLS[number]
    return found


@compiled
def _letter_at(data: np.ndarray, at: int, end: int, letter: int) -> int:
    """Returns the bytes at `at` that are `letter`, small, in either case; else 0."""
    byte = data[at]
    if byte == letter or (ord("A") <= byte <= ord("Z") and byte + 32 == letter):
        return 1
    if letter != ord("k") or byte != 0xE2 or at + 2 >= end:
        return 0
    return 3 * int(data[at + 1] == 0x84 and data[at + 2] == 0xAA)


@compiled
def citation_at(data: np.ndarray, at: int, end: int) -> int:
    """Returns the bytes of "[1]", "[]", "[edit]" or "[citation needed]" at `at`, or 0.

    Digits may be those of any script, as for Python's regular expressions.
    """
    place, width = at + 1, 1
    while place < end and width > 0:
        width = _digit_at(data, place, end)
        place += width
    if place < end and data[place] == ord("]"):
        return place + 1 - at
    for first, last in ((0, _FIRST_LENGTH), (_FIRST_LENGTH, len(_CITATIONS))):
        width = last - first
        if at + width <= end:
            same = True
            for offset in range(width):
                same = same and data[at + offset] == _CITATIONS[first + offset]
            if same:
                return width
    return 0


@compiled
def _digit_at(data: np.ndarray, at: int, end: int) -> int:
    """Returns the bytes of the decimal digit at `at`, or 0."""
    head = data[at]
    if head < 0x80:
        return int(ord("0") <= head <= ord("9"))
    width = 2 if head < 0xE0 else 3 if head < 0xF0 else 4
    if at + width > end:
        return 0
    point = np.int64(head & (0x7F >> width))
    for place in range(at + 1, at + width):
        point = point << 6 | (data[place] & 0x3F)
    row = np.searchsorted(_ZEROS, point, side="right") - 1
    return width if point - _ZEROS[row] < 10 else 0
