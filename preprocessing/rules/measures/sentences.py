# SPDX-License-Identifier: Apache-2.0
"""How many sentences a line has: ends of sentences that something follows, plus one.

A mark (. ! ? and those of other scripts) ends a sentence where it ends a word, closing
quotes, brackets and other punctuation aside, or where a full stop stands between a
small letter and a capital ("end.Next"). A full stop does not count

    in a run of full stops                      "well... no"
    after a single letter, or a lone capital    "J. Smith", "U.S. law", "e.g. this"
    after an abbreviation of the list below     "Mr. Smith", "St. John"

and what follows must hold a letter, a digit or a symbol, not punctuation alone. That
is nearly what spaCy's rule-based sentencizer (which datatrove counts by) finds in
English; nltk's punkt (the C4 paper's), learnt from text, knows more abbreviations.
"""

import numpy as np

from preprocessing.foundation.compiled import compiled
from preprocessing.foundation.utf8_space import space_at

_OTHER, _CLOSING, _MARK, _WIDE = 0, 1, 2, 3
_STOP = ord(".")
_ABBREVIATIONS = (
    "Adm Bros Co Corp Dr Gen Gov Inc Jr Ltd Messrs Mr Mrs Ms Prof Rep Rev Sen St vs co "
    "Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec Ph Mt "
    "Ala Ariz Ark Calif Colo Conn Del Fla Ga Ill Ind Kan Kans Ky La Mass Md Mich Minn "
    "Miss Mo Mont Neb Nebr Nev Okla Ore Pa Tenn Va Wash Wis"
)
_LONGEST = max(map(len, _ABBREVIATIONS.split()))


def _kinds() -> np.ndarray:
    """Returns what each byte may be the start of, uint8 [256]."""
    kinds = np.full(256, _OTHER, np.uint8)
    kinds[[*b"\"'()[]{}*_-,:;/\\&#%@"]] = _CLOSING
    kinds[[*b".!?"]] = _MARK
    kinds[0xC2:0xF0] = _WIDE
    return kinds


def _packed(words: str) -> np.ndarray:
    """Returns the words as numbers of their bytes, ascending, uint64."""
    packed = [int.from_bytes(word.encode(), "big") for word in words.split()]
    return np.array(sorted(packed), np.uint64)


def _points(characters: str) -> np.ndarray:
    """Returns the characters as their UTF-8 read as one number each, ascending."""
    return np.array(sorted(int.from_bytes(c.encode(), "big") for c in characters))


_KINDS = _kinds()
_SHORTENED = _packed(_ABBREVIATIONS)
_WIDE_MARKS = _points("。！？．｡؟۔।॥։።។။၊‼‽⁇⁈⁉")
_WIDE_CLOSING = _points("’‘“”„‚«»‹›…–—―·•¿¡§¶†‡′″、，：；（）「」『』【】《》〈〉،؛٪")


@compiled
def count_sentences(data: np.ndarray, start: int, end: int) -> int:
    """Returns the sentences of the line data[start:end], UTF-8, 1 at least."""
    sentences, ended, at = 1, False, start
    while at < end:
        kind, width = _kind_at(data, at, end)
        if kind == _MARK:
            ended = ended or _ends_sentence(data, start, at, width, end)
        elif kind == _OTHER and ended and space_at(data, at, end) == 0:
            sentences += 1
            ended = False
        at += width
    return sentences


@compiled
def _kind_at(data: np.ndarray, at: int, end: int) -> tuple[int, int]:
    """Returns (kind, bytes) of the character at `at`."""
    byte = data[at]
    kind = _KINDS[byte]
    if kind != _WIDE:
        return kind, 1
    width = 2 if byte < 0xE0 else 3
    if at + width > end:
        return _OTHER, 1
    point = 0
    for place in range(at, at + width):
        point = point << 8 | data[place]
    if _holds(_WIDE_CLOSING, point):
        return _CLOSING, width
    return (_MARK if _holds(_WIDE_MARKS, point) else _OTHER), width


@compiled
def _holds(ascending: np.ndarray, value: int | np.uint64) -> bool:
    place = np.searchsorted(ascending, value)
    return bool(place < len(ascending) and ascending[place] == value)


@compiled
def _ends_sentence(data: np.ndarray, start: int, at: int, width: int, end: int) -> bool:
    """Tells whether the mark at `at`, of `width` bytes, ends a sentence."""
    after = at + width
    if data[at] == _STOP:
        before = data[at - 1] if at > start else _STOP
        if before == _STOP or (after < end and data[after] == _STOP):
            return False
        if _is_shortened(data, start, at):
            return False
        if after < end and _is_capital(data[after]) and _is_small(before):
            return True
    while after < end:
        kind, width = _kind_at(data, after, end)
        if kind == _OTHER:
            break
        after += width
    return after == end or space_at(data, after, end) > 0


@compiled
def _is_shortened(data: np.ndarray, start: int, at: int) -> bool:
    """Tells whether the word before the full stop at `at` is an abbreviation."""
    first, packed = at, np.uint64(0)
    while first > start and (
        _is_small(data[first - 1]) or _is_capital(data[first - 1])
    ):
        packed |= np.uint64(data[first - 1]) << np.uint64(8 * (at - first))
        first -= 1
        if at - first > _LONGEST:
            break
    letters = at - first
    if letters > 1 and _is_capital(data[at - 1]):
        return not _is_capital(data[at - 2])
    joined = first > start and (data[first - 1] >= 0x80 or _is_digit(data[first - 1]))
    if letters == 1:
        return not joined
    return 1 < letters <= _LONGEST and not joined and _holds(_SHORTENED, packed)


@compiled
def _is_small(byte: int) -> bool:
    return ord("a") <= byte <= ord("z")


@compiled
def _is_capital(byte: int) -> bool:
    return ord("A") <= byte <= ord("Z")


@compiled
def _is_digit(byte: int) -> bool:
    return ord("0") <= byte <= ord("9")
