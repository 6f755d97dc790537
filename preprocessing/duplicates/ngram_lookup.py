# SPDX-License-Identifier: Apache-2.0
"""Finds known runs of words in texts, among millions of them, 100 MB/s and more."""

from typing import NamedTuple

import numpy as np

from preprocessing.duplicates.shingles import BLOCK, Scratch, is_unspaced, next_shingles
from preprocessing.foundation.compiled import compiled

# A filter in front of the index has 16 to 32 bits per run (8 KB at least, as a power of
# two), so 1 in 16 at most of those that are not in it pass.
_FILTER_BITS = 16
_LEAST_FILTER = 16
_SEVEN, _THREE = np.uint64(7), np.uint64(3)


class Lookup(NamedTuple):
    """Hashes that are looked for among many others.

    Attributes:
        filter: a bit for each head of `_FILTER_BITS` per hash or more, uint8.
        filter_shift: what shifts a hash to such a head.
        first: the first hash of each shorter head, and their number, int64.
        first_shift: likewise.
        hashes: uint64, ascending.
    """

    filter: np.ndarray
    filter_shift: np.uint64
    first: np.ndarray
    first_shift: np.uint64
    hashes: np.ndarray

    @classmethod
    def of(cls, hashes: np.ndarray) -> "Lookup":
        """Returns the tables for hashes uint64 [n], ascending."""
        bits = max(_LEAST_FILTER, (_FILTER_BITS * len(hashes)).bit_length())
        filter_shift = np.uint64(64 - bits)
        heads = np.zeros(1 << bits, bool)
        heads[hashes >> filter_shift] = True
        first_shift = np.uint64(64 - bits + _FILTER_BITS.bit_length() - 1)
        held = np.bincount((hashes >> first_shift).astype(np.int64), minlength=1)
        first = np.zeros((1 << (64 - int(first_shift))) + 1, np.int64)
        first[1 : len(held) + 1] = held
        filled = np.packbits(heads, bitorder="little")
        return cls(filled, filter_shift, np.cumsum(first), first_shift, hashes)


@compiled
def find_all(
    data: np.ndarray,
    offsets: np.ndarray,
    lengths: np.ndarray,
    scratch: Scratch,
    lookup: Lookup,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns pairs of a text and a run of the index that it holds, each once."""
    last_holder = np.full(len(lookup.hashes), -1, np.int32)
    documents, ngrams = np.empty(64, np.int64), np.empty(64, np.int64)
    found, filled = np.empty(len(scratch.shingles), np.int64), 0
    for document in range(len(offsets) - 1):
        at, end = offsets[document], offsets[document + 1]
        unspaced = is_unspaced(data, at, end, scratch.table)
        run, carried = lengths[np.int64(unspaced)], 0
        while at < end:
            at, carried, count = next_shingles(
                data, at, end, run, unspaced, carried, scratch
            )
            matched = _find(scratch.shingles[:count], lookup, found)
            documents = _with_room(documents, filled, matched)
            ngrams = _with_room(ngrams, filled, matched)
            for ngram in found[:matched]:
                if last_holder[ngram] != document:
                    last_holder[ngram] = document
                    documents[filled], ngrams[filled] = document, ngram
                    filled += 1
    return documents[:filled], ngrams[:filled]


@compiled
def _find(shingles: np.ndarray, lookup: Lookup, found: np.ndarray) -> int:
    """Writes the numbers of the shingles that are in the index; returns how many are.

    First all go through the filter, without a branch, so that its cache misses overlap.
    """
    filter, filter_shift, first, first_shift, hashes = lookup
    passed = 0
    for place in range(len(shingles)):
        head = shingles[place] >> filter_shift
        found[passed] = place
        passed += filter[np.int64(head >> _THREE)] >> np.uint8(head & _SEVEN) & 1
    matched = 0
    for place in found[:passed]:
        shingle = shingles[place]
        head = np.int64(shingle >> first_shift)
        for ngram in range(first[head], first[head + 1]):
            if hashes[ngram] == shingle:
                found[matched] = ngram
                matched += 1
    return matched


@compiled
def runs_of_all(
    data: np.ndarray, offsets: np.ndarray, lengths: np.ndarray, scratch: Scratch
) -> tuple[np.ndarray, np.ndarray, int]:
    """Returns hashes of runs, the text of each, and how many texts have none."""
    hashes, texts = np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.int64)
    filled, short = 0, 0
    for text in range(len(offsets) - 1):
        at, end = offsets[text], offsets[text + 1]
        unspaced = is_unspaced(data, at, end, scratch.table)
        run, carried, before = lengths[np.int64(unspaced)], 0, filled
        while at < end:
            at, carried, count = next_shingles(
                data, at, end, run, unspaced, carried, scratch
            )
            hashes = _with_room(hashes, filled, count)
            texts = _with_room(texts, filled, count)
            hashes[filled : filled + count] = scratch.shingles[:count]
            texts[filled : filled + count] = text
            filled += count
        short += filled == before
    return hashes[:filled], texts[:filled], short


@compiled
def _with_room(array: np.ndarray, filled: int, more: int) -> np.ndarray:
    """Returns an array with the same front and room for more, itself if it has."""
    if filled + more <= len(array):
        return array
    grown = np.empty(2 * len(array) + more, array.dtype)
    grown[:filled] = array[:filled]
    return grown
