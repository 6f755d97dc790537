# SPDX-License-Identifier: Apache-2.0
"""Runs of words as 64-bit hashes, in blocks, so that a text of any length fits.

A text is read as `folding` says. Its units are words, hashed whole; or, where more than
half of its letters are of scripts without spaces, single characters, white space left
out. A shingle is the hash of some units in a row. The hashes are of the text alone, not
seeded: two jobs, or an index and a corpus, may be compared.

A run of n units u is hashed as mix(u[0] P^(n-1) + … + u[n-1]) mod 2^64, which rolls on
by one unit for two multiplications (Karp and Rabin 1987); units are mixed beforehand.
"""

from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np

from preprocessing.duplicates.folding import (
    LETTER,
    LIMIT,
    POINT,
    UNSPACED,
    folding_table,
)
from preprocessing.foundation.compiled import compiled
from preprocessing.foundation.fingerprints import mix

# Shingles made at once: 32 KB, so that they stay in a core's cache while minima are
# taken or an index is asked.
BLOCK = 4096
# Digits of pi, the last bit set where a number multiplies: it must be odd.
_ROLL = np.uint64(0x243F6A8885A308D3)
_STEP = np.uint64(0x13198A2E03707345)
_FRESH = np.uint64(0xA4093822299F31D0)
_ONE, _HALF = np.uint64(1), np.uint64(32)
# SplitMix64 of one number, for other kernels too.
mix_one = cast(Callable[[np.uint64], np.uint64], compiled(mix))


class Scratch(NamedTuple):
    """What reading one text after another needs; made once for a batch.

    Attributes:
        table: of `folding`, int32.
        units: hashes of units, uint64 [room].
        shingles: hashes of runs, of one unit even, uint64 [room].
    """

    table: np.ndarray
    units: np.ndarray
    shingles: np.ndarray


def scratch(longest: int) -> Scratch:
    """Returns scratch space for runs of up to `longest` units."""
    room = BLOCK + longest - 1
    return Scratch(
        folding_table(), np.empty(room, np.uint64), np.empty(room, np.uint64)
    )


@compiled
def is_unspaced(data: np.ndarray, start: int, end: int, table: np.ndarray) -> bool:
    """Whether more than half of a text's letters are of scripts without spaces.

    Their UTF-8 starts with 0xE0 or above. Counting such bytes runs at the speed of
    memory and settles nearly every text in Latin script.
    """
    plain, high = 0, 0
    for byte in data[start:end]:
        plain += ((byte | 32) >= 97) & ((byte | 32) <= 122)
        high += byte >= 0xE0
    if high <= plain:
        return False
    letters, unspaced, at = 0, 0, start
    while at < end:
        entry, at = _read(data, at, table)
        if entry > 0:
            letters += (entry & LETTER) != 0
            unspaced += (entry & UNSPACED) != 0
    return 2 * unspaced > letters


@compiled
def next_shingles(
    data: np.ndarray,
    at: int,
    end: int,
    run: int,
    unspaced: bool,
    carried: int,
    scratch: Scratch,
) -> tuple[int, int, int]:
    """Reads on in a text until a block is full or the text ends.

    Args:
      data: uint8, UTF-8.
      at: where to read on; the text's start at first.
      end: where the text ends.
      run: units per shingle.
      unspaced: whether units are characters.
      carried: units at the front of `scratch.units`; none at first.
      scratch: where `scratch.shingles` receives the shingles.

    Returns:
      Where it stopped, units carried on, and how many shingles there are: none only at
      the text's end. A text that has none at all leaves its units in front.
    """
    table, units, shingles = scratch
    if unspaced:
        at, filled = _fill_characters(data, at, end, table, units, carried)
    else:
        at, filled = _fill_words(data, at, end, table, units, carried)
    count = filled - run + 1
    if count <= 0:
        return at, filled, 0
    _roll(units, filled, run, shingles)
    for place in range(run - 1):
        units[place] = units[count + place]
    return at, run - 1, count


@compiled
def only_shingle(
    data: np.ndarray, start: int, end: int, units: np.ndarray, filled: int
) -> np.uint64:
    """Returns the one shingle of a text with fewer units than a run asks for.

    It is the hash of the units that there are; of the bytes, where there are none.
    """
    state = _FRESH
    if filled == 0:
        for byte in data[start:end]:
            state = _step(state, np.uint64(byte))
        return mix_one(state)
    for unit in units[:filled]:
        state = state * _ROLL + unit
    return mix_one(state)


@compiled
def _read(data: np.ndarray, at: int, table: np.ndarray) -> tuple[int, int]:
    """Returns the table's entry for the character at `at`, and where the next is."""
    head = np.int64(data[at])
    if head < 0x80:
        return table[head], at + 1
    if head < 0xE0:
        return table[(head & 31) << 6 | (data[at + 1] & 63)], at + 2
    tail = (np.int64(data[at + 1]) & 63) << 6 | (data[at + 2] & 63)
    if head < 0xF0:
        return table[(head & 15) << 12 | tail], at + 3
    point = (head & 7) << 18 | tail << 6 | (data[at + 3] & 63)
    return (table[point] if point < LIMIT else 0), at + 4


@compiled
def _step(state: np.uint64, value: np.uint64) -> np.uint64:
    state = (state ^ value) * _STEP
    return state ^ (state >> _HALF)


@compiled
def _fill_words(
    data: np.ndarray,
    at: int,
    end: int,
    table: np.ndarray,
    units: np.ndarray,
    filled: int,
) -> tuple[int, int]:
    """Adds hashes of words until `units` is full; returns where it stopped, how full.

    It stops between words only: a word of any length is hashed as it is read.
    """
    state, inside = _FRESH, False
    while at < end and filled < len(units):
        entry, at = _read(data, at, table)
        if entry > 0:
            state, inside = _step(state, np.uint64(entry & POINT)), True
        elif inside and entry < 0:
            units[filled] = mix_one(state)
            filled += 1
            state, inside = _FRESH, False
    if inside:
        units[filled] = mix_one(state)
        filled += 1
    return at, filled


@compiled
def _fill_characters(
    data: np.ndarray,
    at: int,
    end: int,
    table: np.ndarray,
    units: np.ndarray,
    filled: int,
) -> tuple[int, int]:
    """Adds hashes of characters as `_fill_words` does those of words."""
    while at < end and filled < len(units):
        entry, at = _read(data, at, table)
        if entry > 0:
            units[filled] = mix_one(np.uint64(entry & POINT))
            filled += 1
    return at, filled


@compiled
def _roll(units: np.ndarray, filled: int, run: int, shingles: np.ndarray) -> None:
    """Hashes every run of `run` units among the first `filled`."""
    gone, state = _ONE, np.uint64(0)
    for place in range(run):
        gone *= _ROLL
        state = state * _ROLL + units[place]
    shingles[0] = mix_one(state)
    for place in range(run, filled):
        state = state * _ROLL + units[place] - units[place - run] * gone
        shingles[place - run + 1] = mix_one(state)
