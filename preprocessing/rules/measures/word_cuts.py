# SPDX-License-Identifier: Apache-2.0
"""The compiled loops that cut texts into words; `words` says into which."""

import numpy as np

from preprocessing.foundation.compiled import compiled
from preprocessing.rules.measures.characters import (
    DIGIT,
    DOT,
    HYPHEN,
    JOINT,
    LETTER,
    LOWER,
    MARK,
    OPENING,
    SPACE,
    SYMBOL,
    UPPER,
)
from preprocessing.rules.measures.views import character, previous

# A run of characters with none of these is one word.
_CUTTING = MARK | OPENING | SYMBOL | HYPHEN | JOINT | DOT
_DOT, _PLUS, _HYPHEN, _SLASH, _COMMA = 46, 43, 45, 47, 44
_COLON, _AT, _QUESTION, _HASH = 58, 64, 63, 35
_APOSTROPHE, _RIGHT_QUOTE = 39, 0x2019
_ZERO, _NINE = 48, 57


@compiled
def find_words(
    data: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    table: np.ndarray,
    word_starts: np.ndarray,
    word_ends: np.ndarray,
    first: np.ndarray,
) -> int:
    """Writes the words of each document, and returns how many there are.

    Args:
        data: UTF-8, uint8.
        starts: where each document begins, int64 [n].
        ends: where it ends, int64 [n].
        table: flags of every code point.
        word_starts: written: where each word begins, int64, room for a word a byte.
        word_ends: written: where it ends.
        first: written: each document's first word, int64 [n + 1].
    """
    count = 0
    for document in range(len(starts)):
        place, end = starts[document], ends[document]
        first[document] = count
        while place < end:
            flags, size = _look(data, place, table)
            if flags & SPACE:
                place += size
                continue
            begin, seen, last = place, 0, 0
            while not flags & SPACE:
                seen |= last
                last = flags
                place += size
                if place >= end:
                    break
                flags, size = _look(data, place, table)
            if seen & _CUTTING or last & OPENING:
                count = _cut(data, begin, place, table, word_starts, word_ends, count)
                continue
            # Most runs have no mark or one at their end: three times as fast by itself.
            word_starts[count], word_ends[count] = begin, place
            count += 1
            if last & (MARK | DOT):
                mark = previous(data, place)
                if mark > begin and (
                    last & MARK or _ends_sentence(data, begin, mark, table)
                ):
                    word_ends[count - 1] = word_starts[count] = mark
                    word_ends[count] = place
                    count += 1
    first[len(starts)] = count
    return count


@compiled
def _look(data: np.ndarray, place: int, table: np.ndarray) -> tuple[int, int]:
    """Returns the flags of the character at `place`, and its bytes; fast for ASCII."""
    if data[place] < 0x80:
        return int(table[data[place]]), 1
    code, size = character(data, place)
    return int(table[code]), size


@compiled
def _flags(data: np.ndarray, place: int, table: np.ndarray) -> int:
    return _look(data, place, table)[0]


@compiled
def _cut(
    data: np.ndarray,
    start: int,
    end: int,
    table: np.ndarray,
    word_starts: np.ndarray,
    word_ends: np.ndarray,
    count: int,
) -> int:
    """Writes the words of a run without white space; returns the new count."""
    while start < end:
        size = _mark_at_start(data, start, end, table)
        if size == 0:
            break
        word_starts[count], word_ends[count] = start, start + size
        count += 1
        start += size
    # The sizes of what is cut from the end are needed in the other order: cut twice.
    middle, cuts = end, 0
    while middle > start:
        size = _mark_at_end(data, start, middle, table)
        if size == 0:
            break
        middle -= size
        cuts += 1
    if middle > start:
        count = _cut_middle(data, start, middle, table, word_starts, word_ends, count)
    place, last = end, count + cuts - 1
    for cut in range(cuts):
        size = _mark_at_end(data, start, place, table)
        word_starts[last - cut], word_ends[last - cut] = place - size, place
        place -= size
    return count + cuts


@compiled
def _mark_at_start(data: np.ndarray, start: int, end: int, table: np.ndarray) -> int:
    """Returns the bytes of the mark to cut at the start, 0 if there is none."""
    code, size = character(data, start)
    flags = np.int64(table[code])
    if code == _DOT:
        dots = 1
        while start + dots < end and data[start + dots] == _DOT:
            dots += 1
        return dots if dots > 1 else 0
    if code == _PLUS and start + 1 < end and _ZERO <= data[start + 1] <= _NINE:
        return 0
    return size if flags & (MARK | OPENING) else 0


@compiled
def _mark_at_end(data: np.ndarray, start: int, end: int, table: np.ndarray) -> int:
    """Returns the bytes of the mark to cut before `end`, 0 if there is none."""
    place = previous(data, end)
    code, size = character(data, place)
    flags = np.int64(table[code])
    if flags & MARK:
        return size
    if flags & LETTER:
        return _contraction(data, start, end) if end - start > 2 else 0
    if code == _DOT:
        dots = 1
        while place - dots >= start and data[place - dots] == _DOT:
            dots += 1
        if dots > 1:
            return dots
        return 1 if place > start and _ends_sentence(data, start, place, table) else 0
    if flags & OPENING and place > start:
        return size if _ZERO <= data[place - 1] <= _NINE else 0
    return 0


@compiled
def _ends_sentence(data: np.ndarray, start: int, dot: int, table: np.ndarray) -> bool:
    """Whether a full stop is one, and does not belong to an initial: J. U.S. i.e."""
    place = previous(data, dot)
    flags = _flags(data, place, table)
    if not flags & LETTER:
        return flags & (MARK | DIGIT | OPENING | HYPHEN) != 0
    before = _flags(data, previous(data, place), table) if place > start else DOT
    if flags & LOWER:
        return not before & DOT
    return before & UPPER != 0


@compiled
def _contraction(data: np.ndarray, start: int, end: int) -> int:
    """Returns the bytes of 's 'm 'd 'll 're 've n't before `end`, 0 for none."""
    # As small letters; bytes of longer characters never become one.
    last, other = data[end - 1] | 0x20, data[end - 2] | 0x20
    long = other == ord("l") if last == ord("l") else False
    long = long or (last == ord("e") and other in (ord("r"), ord("v")))
    letters = 2 if long else 1
    if end - start <= letters + 1 or not _is_apostrophe(data, start, end - letters):
        return 0
    size = end - previous(data, end - letters)
    if long or last in (ord("s"), ord("m"), ord("d")):
        return size if end - size > start else 0
    negated = last == ord("t") and end - size - 1 > start
    return size + 1 if negated and data[end - size - 1] | 0x20 == ord("n") else 0


@compiled
def _is_apostrophe(data: np.ndarray, start: int, end: int) -> bool:
    """Whether data[start:end] ends in ' or U+2019."""
    if data[end - 1] == _APOSTROPHE:
        return True
    if end - start < 3 or data[end - 1] < 0x80:
        return False
    return character(data, previous(data, end))[0] == _RIGHT_QUOTE


@compiled
def _cut_middle(
    data: np.ndarray,
    start: int,
    end: int,
    table: np.ndarray,
    word_starts: np.ndarray,
    word_ends: np.ndarray,
    count: int,
) -> int:
    """Writes a run whose ends are cut, itself cut within; returns the new count."""
    begin, before, place = start, 0, start
    while place < end:
        flags, size = _look(data, place, table)
        if place > begin and flags & _CUTTING:
            size, cut = _mark_within(data, place, end, table, before)
            if cut:
                if begin == start and _is_address(data, start, end, table):
                    break
                word_starts[count], word_ends[count] = begin, place
                word_starts[count + 1], word_ends[count + 1] = place, place + size
                count += 2
                begin = place + size
        before = flags
        place += size
    if begin < end:
        word_starts[count], word_ends[count] = begin, end
        count += 1
    return count


@compiled
def _mark_within(
    data: np.ndarray, place: int, end: int, table: np.ndarray, before: int
) -> tuple[int, bool]:
    """Returns the bytes of the mark at `place`, and whether words are cut at it."""
    code, size = character(data, place)
    flags = np.int64(table[code])
    while code in (_DOT, _HYPHEN) and place + size < end:
        if data[place + size] != code:
            break
        size += 1
    after = _flags(data, place + size, table) if place + size < end else 0
    if flags & SYMBOL or (code == _DOT and size > 1):
        return size, True
    if code == _DOT:
        return size, before & LOWER != 0 and after & UPPER != 0
    if code == _COMMA:
        return size, before & LETTER != 0 and after & LETTER != 0
    if flags & (HYPHEN | JOINT) and before & (LETTER | DIGIT):
        numbers = code == _HYPHEN and before & DIGIT and after & DIGIT
        return size, size <= 3 and (after & LETTER != 0 or numbers != 0)
    return size, False


@compiled
def _is_address(data: np.ndarray, start: int, end: int, table: np.ndarray) -> bool:
    """Whether a run is a web or mail address: a://b, a@b, a.bc, a.bc/d."""
    host = end
    for place in range(start, end):
        byte = data[place]
        if byte == _AT and start < place < end - 1:
            return True
        if byte == _COLON and place + 2 < end and data[place + 1] == _SLASH:
            return data[place + 2] == _SLASH
        if host == end and byte in (_SLASH, _QUESTION, _HASH, _COLON):
            host = place
    letters, place = 0, host
    while place > start:
        before = previous(data, place)
        if not _flags(data, before, table) & LOWER:
            break
        letters += 1
        place = before
    return letters > 1 and place - 1 > start and data[place - 1] == _DOT
