# SPDX-License-Identifier: Apache-2.0
"""Text as duplicates are compared: lower case, no accents, punctuation or layout.

Each code point alone becomes a code point, white space, or nothing:

    white space           as Python's `str.isspace`, and NUL; parts words
    dropped               punctuation, symbols, controls, private use (P, S, C but Cn),
                          and the accents U+0300 to U+036F: "don't" is the word "dont"
    any other             the first code point of its lower case, without accents: "É",
                          "é" and "e" are equal, composed or not

So digits, marks of Indic or Thai script and code points that are not yet assigned stay.
"""

import functools
import unicodedata

import numpy as np

# What the table says of white space and of what is dropped.
SPACE, DROPPED = -1, 0
# The bits of any other entry: its code point, and two facts of it.
POINT, LETTER, UNSPACED = 0x1FFFFF, 1 << 21, 1 << 22
# Unicode assigns nothing above that is worth comparing: tags, variation selectors and
# private use.
LIMIT = 0x34000
_ACCENTS = range(0x300, 0x370)
# Scripts that put no spaces between words: Thai to Myanmar (with Tibetan, whose mark
# between syllables goes, as punctuation), Khmer, Tai Le to New Tai Lue, Tai Tham, kana,
# ideographs, Myanmar's extensions, and the supplements of kana and ideographs (Unicode
# 14, Blocks.txt). Korean has spaces.
_UNSPACED = (
    (0x0E00, 0x109F),
    (0x1780, 0x17FF),
    (0x1950, 0x19DF),
    (0x1A20, 0x1AAF),
    (0x2E80, 0x2FDF),
    (0x3005, 0x3007),
    (0x3040, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA9E0, 0xA9FF),
    (0xAA60, 0xAA7F),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
    (0x1AFF0, 0x1B16F),
    (0x20000, 0x33FFF),
)


@functools.cache
def folding_table() -> np.ndarray:
    """Returns what each code point below `LIMIT` becomes, int32 [LIMIT] (0.2 s once).

    An entry is `SPACE`, `DROPPED`, or a code point with `LETTER` set where it is a
    letter or a mark, and `UNSPACED` too where its script has no spaces.
    """
    entries = np.array([_entry(chr(point)) for point in range(LIMIT)], np.int32)
    for first, last in _UNSPACED:
        block = entries[first : last + 1]
        block[(block & LETTER > 0) & (block > 0)] |= UNSPACED
    entries.setflags(write=False)
    return entries


def _entry(character: str) -> int:
    # NUL joins the two texts of a pair where they are compared; no cleaned text has it.
    if character.isspace() or character == "\0":
        return SPACE
    category = unicodedata.category(character)
    if category[0] in "PS" or category in ("Cc", "Cf", "Cs", "Co"):
        return DROPPED
    if ord(character) in _ACCENTS:
        return DROPPED
    parts = unicodedata.normalize("NFD", character)
    if all(ord(part) in _ACCENTS for part in parts[1:]):
        character = parts[0]
    folded = ord(character.lower()[0])
    return folded | LETTER if category[0] in "LM" else folded
