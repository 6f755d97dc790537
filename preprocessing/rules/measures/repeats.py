# SPDX-License-Identifier: Apache-2.0
"""How much of a document is said more than once: spans of it, and runs of its words.

Two spans of one document are the same where their 64-bit hashes are: for a million of
them the chance of one mistake is 3e-8.
"""

import numpy as np

from preprocessing.foundation.compiled import compiled
from preprocessing.rules.measures.views import Spans, View, count_characters
from preprocessing.rules.measures.words import Words

# An odd number has an inverse modulo 2**64, so the hash of any run of words comes from
# two sums of powers over the bytes before it: no run is hashed again.
_BASE = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 1 << 64))
_MIXER = np.uint64(0xD6E8FEB86659FD93)
_ZERO, _ONE, _HALF = np.uint64(0), np.uint64(1), np.uint64(32)
TOP_GRAMS = (2, 3, 4)
REPEATED_GRAMS = (5, 6, 7, 8, 9, 10)


def count_repeated(seen: View, spans: Spans) -> tuple[np.ndarray, np.ndarray]:
    """Returns the spans that stood in their document before, and their characters.

    Both int64 [n]. The first of several that are the same is not counted.
    """
    counts = np.zeros(len(seen.starts), np.int64)
    length = np.zeros(len(seen.starts), np.int64)
    keys = np.empty(_table_size(spans), np.uint64)
    _count_repeated(
        seen.data, spans.starts, spans.ends, spans.first, keys, counts, length
    )
    return counts, length


def top_grams(seen: View, words: Words) -> np.ndarray:
    """Returns the characters of each document's most frequent 2-, 3- and 4-gram.

    That is its number of times its length, with one space between words; among equally
    frequent ones the first counts. 0 where a document has fewer words. int64 [n, 3].
    """
    tops = np.zeros((len(seen.starts), len(TOP_GRAMS)), np.int64)
    keys = np.empty(_table_size(words.spans), np.uint64)
    counts = np.empty(len(keys), np.int32)
    longest = int(words.spans.counts.max(initial=0))
    hashes = np.empty((2, longest), np.uint64)
    slots = np.empty(longest, np.int32)
    _top_grams(
        seen.data,
        words.spans.starts,
        words.spans.ends,
        words.spans.first,
        words.lengths,
        hashes,
        keys,
        counts,
        slots,
        tops,
    )
    return tops


def repeated_grams(seen: View, words: Words) -> np.ndarray:
    """Returns the characters in repeated 5- to 10-grams of each document, int64 [n, 6].

    Words are read from the first on. Where the n next ones, written without space
    between, came before, their characters count and reading goes on after them; else
    they are noted, and it goes on one word later.
    """
    repeated = np.zeros((len(seen.starts), len(REPEATED_GRAMS)), np.int64)
    keys = np.empty(_table_size(words.spans), np.uint64)
    sums = np.empty((3, int(words.spans.counts.max(initial=0)) + 1), np.uint64)
    _repeated_grams(
        seen.data,
        words.spans.starts,
        words.spans.ends,
        words.spans.first,
        words.lengths,
        sums,
        keys,
        repeated,
    )
    return repeated


def _table_size(spans: Spans) -> int:
    """Returns a power of two, twice the spans of the document that has most."""
    return 2 << int(spans.counts.max(initial=0)).bit_length()


@compiled
def _mix(key: np.uint64) -> np.uint64:
    """Returns a key whose every bit depends on all bits; never 0, which means empty."""
    key ^= key >> _HALF
    key *= _MIXER
    key ^= key >> _HALF
    return key if key != _ZERO else _ONE


@compiled
def _mask(counts: int) -> np.uint64:
    """Returns the last slot of a table for as many: a power of two, minus one."""
    slots = 2
    while slots < 2 * counts:
        slots *= 2
    return np.uint64(slots - 1)


@compiled
def _slot(keys: np.ndarray, mask: np.uint64, key: np.uint64) -> np.uint64:
    """Returns where a key stands in the table, or the empty slot where it belongs."""
    slot = key & mask
    while keys[slot] != _ZERO and keys[slot] != key:
        slot = (slot + _ONE) & mask
    return slot


@compiled
def _count_repeated(
    data: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    first: np.ndarray,
    keys: np.ndarray,
    counts: np.ndarray,
    length: np.ndarray,
) -> None:
    for document in range(len(first) - 1):
        begin, stop = first[document], first[document + 1]
        mask = _mask(stop - begin)
        keys[: mask + _ONE] = _ZERO
        for span in range(begin, stop):
            key = np.uint64(ends[span] - starts[span])
            for place in range(starts[span], ends[span]):
                key = key * _BASE + np.uint64(data[place])
            key = _mix(key)
            slot = _slot(keys, mask, key)
            if keys[slot] == key:
                counts[document] += 1
                length[document] += count_characters(data, starts[span], ends[span])
            keys[slot] = key


@compiled
def _top_grams(
    data: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    first: np.ndarray,
    lengths: np.ndarray,
    hashes: np.ndarray,
    keys: np.ndarray,
    counts: np.ndarray,
    slots: np.ndarray,
    tops: np.ndarray,
) -> None:
    words, grams = hashes
    for document in range(len(first) - 1):
        begin, stop = first[document], first[document + 1]
        for word in range(begin, stop):
            key = _ZERO
            for place in range(starts[word], ends[word]):
                key = key * _BASE + np.uint64(data[place]) + _ONE
            words[word - begin] = grams[word - begin] = _mix(key)
        mask = _mask(stop - begin)
        for n in range(2, 5):
            many = stop - begin - n + 1
            if many <= 0:
                break
            for gram in range(many):
                grams[gram] = _mix(grams[gram] * _BASE + words[gram + n - 1])
            top = _top(grams, many, keys, counts, slots, mask)
            gram = begin + slots[0]
            length = n - 1
            for word in range(gram, gram + n):
                length += lengths[word]
            tops[document, n - 2] = top * length


@compiled
def _top(
    grams: np.ndarray,
    many: int,
    keys: np.ndarray,
    counts: np.ndarray,
    slots: np.ndarray,
    mask: np.uint64,
) -> int:
    """Returns how often the most frequent gram occurs; slots[0] becomes its index."""
    keys[: mask + _ONE] = _ZERO
    counts[: mask + _ONE] = 0
    top = 0
    for gram in range(many):
        slot = _slot(keys, mask, grams[gram])
        keys[slot] = grams[gram]
        counts[slot] += 1
        top = max(top, counts[slot])
        slots[gram] = np.int32(slot)
    gram = 0
    while counts[slots[gram]] != top:
        gram += 1
    slots[0] = gram
    return top


@compiled
def _repeated_grams(
    data: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    first: np.ndarray,
    lengths: np.ndarray,
    sums: np.ndarray,
    keys: np.ndarray,
    repeated: np.ndarray,
) -> None:
    for document in range(len(first) - 1):
        begin, stop = first[document], first[document + 1]
        total, power, inverse = _ZERO, _ONE, _ONE
        for word in range(begin, stop):
            sums[0, word - begin], sums[1, word - begin] = total, inverse
            for place in range(starts[word], ends[word]):
                total += (np.uint64(data[place]) + _ONE) * power
                power *= _BASE
                inverse *= _INVERSE
        sums[0, stop - begin] = total
        mask = _mask(stop - begin)
        for n in range(5, 11):
            repeated[document, n - 5] = _repeated(
                sums, lengths[begin:stop], n, keys, mask
            )


@compiled
def _repeated(
    sums: np.ndarray, lengths: np.ndarray, n: int, keys: np.ndarray, mask: np.uint64
) -> int:
    """Returns the characters in repeated n-grams of the words with these lengths."""
    keys[: mask + _ONE] = _ZERO
    length, word = 0, 0
    while word <= len(lengths) - n:
        key = _mix((sums[0, word + n] - sums[0, word]) * sums[1, word])
        slot = _slot(keys, mask, key)
        if keys[slot] == key:
            for part in range(word, word + n):
                length += lengths[part]
            word += n
        else:
            keys[slot] = key
            word += 1
    return length
