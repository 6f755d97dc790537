# SPDX-License-Identifier: Apache-2.0
"""Finds each document's likeliest language, in compiled loops over its bytes.

A text says what the mean of its words' and n-grams' rows says (Joulin et al. 2016,
arXiv 1607.01759). An n-gram is 2 to 4 characters of "<word>"; fastText hashes each, and
all but one in ten are unknown to the model. So the loops go over a block of bytes three
times, each time without a branch that depends on the text, as a wrong guess costs more
than an n-gram: they spell the words out between marks; hash every window and ask one of
2,000,000 bits whether it is known; add the rows of those that are.
"""

from dataclasses import dataclass

import numpy as np

from preprocessing.foundation.compiled import compiled
from preprocessing.foundation.utf8_space import skip_space
from preprocessing.language.fasttext_model import (
    BUCKETS,
    DIMENSIONS,
    LONGEST,
    NOT_KEPT,
    SHORTEST,
    Model,
)

NO_LABEL = -1
# FNV-1a, but each byte is taken as signed, as the compiler did that fastText was first
# built with: 0x80 to 0xFF also flip the hash's upper 24 bits.
_SEED, _PRIME = np.uint32(2_166_136_261), np.uint32(16_777_619)
_SIGNED = np.arange(256).astype(np.int8).astype(np.uint32)
_BUCKETS = np.uint32(BUCKETS)
_FIVE, _BITS, _ONE = np.uint32(5), np.uint32(31), np.uint32(1)
# What ends a word: C's white space, and NUL; no other white space of Unicode does.
_ENDS_WORD = np.zeros(256, np.bool_)
_ENDS_WORD[[0, 9, 10, 11, 12, 13, 32]] = True
_BEGIN, _END, _BETWEEN = ord("<"), ord(">"), ord(" ")
_BLOCK = 2048  # bytes of text at a time: all that is made of them stays in the L2
_WINDOW = 4 * LONGEST  # bytes of the longest n-gram
# Frequent words are known by 47 bits of their true FNV-1a hash alone; fastText's, to
# which "<U" and the frequent word "«" are the same, would need their letters compared.
# A fifth of the slots is filled, and no word is 8 places or more from its own.
_WORD_SEED, _WORD_PRIME = np.uint64(14_695_981_039_346_656_037), np.uint64(2**40 + 435)
_SLOTS = np.uint64(1 << 15)
_NEAR = 8
_TAG = np.uint64(32)
_FREE = -1
_SMOOTHING = 1e-5  # fastText adds it to each branch's share


@dataclass(frozen=True)
class Tables:
    """A model as the loops look things up in it.

    Attributes:
        known: a bit for each of the model's buckets, set where it has a row, uint32.
        row_of_bucket: that row, int32 [2,000,000].
        tags: the upper half of each word's hash, at its lower 15 bits or a few places
            on, uint32.
        numbers: the word's number there, `_FREE` where there is none, int16.
        rows: float32 [r, 16]; word i's is row i.
        forks: float32 [175, 16].
        branches: int32 [175, 2], as `Model` has them.
    """

    known: np.ndarray
    row_of_bucket: np.ndarray
    tags: np.ndarray
    numbers: np.ndarray
    rows: np.ndarray
    forks: np.ndarray
    branches: np.ndarray


def tables(model: Model) -> Tables:
    """Returns the tables of a model: 0.4 MB beside its own arrays."""
    bits = np.packbits(model.row_of_bucket != NOT_KEPT, bitorder="little")
    letters = np.frombuffer(b"".join(model.words), np.uint8)
    edges = np.cumsum([0, *map(len, model.words)], dtype=np.int64)
    tags = np.zeros(int(_SLOTS) + 2 * _NEAR, np.uint32)
    numbers = np.full(len(tags), _FREE, np.int16)
    _fill(letters, edges, tags, numbers)
    return Tables(
        known=bits.view(np.uint32),
        row_of_bucket=model.row_of_bucket,
        tags=tags,
        numbers=numbers,
        rows=model.rows,
        forks=model.forks,
        branches=model.branches,
    )


def likeliest(
    data: np.ndarray, starts: np.ndarray, ends: np.ndarray, model: Tables
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (label, probability) of each document data[starts[i]:ends[i]].

    Labels are int32 [n], `NO_LABEL` for nothing but white space; probabilities are
    float32 [n], 0 there. They are what fastText's `predict` says of the text on one
    line, unless it holds fastText's own marks: that stops at the word </s>, and skips
    words that begin with __label__; here they are words like others.
    """
    labels = np.full(len(starts), NO_LABEL, np.int32)
    probabilities = np.zeros(len(starts), np.float32)
    _label(
        data,
        starts,
        ends,
        (model.known, model.row_of_bucket),
        (model.tags, model.numbers),
        model.rows,
        (model.forks, model.branches),
        (labels, probabilities),
    )
    return labels, probabilities


@compiled
def _fill(
    letters: np.ndarray, edges: np.ndarray, tags: np.ndarray, numbers: np.ndarray
) -> None:
    # From 1 on: word 0 is the end of a line.
    for word in range(1, len(edges) - 1):
        state = _WORD_SEED
        for at in range(edges[word], edges[word + 1]):
            state = (state ^ np.uint64(letters[at])) * _WORD_PRIME
        slot = np.int64(state % _SLOTS)
        while numbers[slot] != _FREE:
            slot += 1
        tags[slot] = state >> _TAG
        numbers[slot] = word


@compiled
def _label(
    data: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    ngrams: tuple[np.ndarray, np.ndarray],
    words: tuple[np.ndarray, np.ndarray],
    rows: np.ndarray,
    tree: tuple[np.ndarray, np.ndarray],
    found: tuple[np.ndarray, np.ndarray],
) -> None:
    labels, probabilities = found
    # A byte of text spells two at most: words of one letter, "<a> ". Past the last that
    # is written a 0 stays, where a window ends whatever the text holds.
    spelled = np.zeros(2 * _BLOCK + 3 * _WINDOW, np.uint8)
    hits = np.empty(3 * len(spelled) + _BLOCK, np.uint32)
    hashes = np.empty(_BLOCK, np.uint64)
    mean = np.empty(DIMENSIONS, np.float64)
    for place in range(len(starts)):
        start, end = starts[place], ends[place]
        if skip_space(data, start, end) < end:
            scratch = (spelled, hits, hashes)
            count = _sum(data, start, end, ngrams, words, rows, scratch, mean)
            mean /= count
            label, share = _descend(mean, tree[0], tree[1])
            labels[place] = label
            probabilities[place] = min(share, 1.0)  # the smoothing can pass 1


@compiled
def _sum(
    data: np.ndarray,
    start: int,
    end: int,
    ngrams: tuple[np.ndarray, np.ndarray],
    words: tuple[np.ndarray, np.ndarray],
    rows: np.ndarray,
    scratch: tuple[np.ndarray, np.ndarray, np.ndarray],
    sums: np.ndarray,
) -> int:
    """Sets sums [16] to what a text's words and n-grams add up to; returns how many."""
    spelled, hits, hashes = scratch
    sums[:] = rows[0]  # the line's end
    count = 1
    size, inside, state = 0, False, _WORD_SEED
    for at in range(start, end, _BLOCK):
        stop = min(end, at + _BLOCK)
        size, inside, state, ended = _spell(
            data, at, stop, spelled, size, inside, state, hashes
        )
        if stop == end:
            if inside:
                spelled[size] = _END
                hashes[ended] = state
                size, ended = size + 1, ended + 1
            spelled[size : size + _WINDOW] = _BETWEEN
            size += _WINDOW
        # Windows that may go on in the next block wait for it.
        whole = max(0, size - _WINDOW)
        found = _known(spelled, whole, ngrams[0], hits)
        for hit in range(found):
            hits[hit] = ngrams[1][hits[hit]]
        size -= whole
        for place in range(size):
            spelled[place] = spelled[whole + place]
        for word in range(ended):
            number = _number(words[0], words[1], hashes[word])
            hits[found] = number
            found += number != _FREE
        _add(rows, hits, found, sums)
        count += found
    return count


@compiled
def _spell(
    data: np.ndarray,
    start: int,
    end: int,
    spelled: np.ndarray,
    size: int,
    inside: bool,
    state: np.uint64,
    hashes: np.ndarray,
) -> tuple[int, bool, np.uint64, int]:
    """Writes the words of data[start:end] as "<word> " to spelled[size:].

    Returns the new size, whether a word goes on, its hash so far, and how many words
    have ended, whose hashes it writes.
    """
    ended = 0
    for at in range(start, end):
        byte = data[at]
        blank = _ENDS_WORD[byte]
        begins, ends = not (blank or inside), blank and inside
        # What is not to be kept is written over by the next.
        spelled[size] = _BEGIN
        size += begins
        spelled[size] = byte
        size += not blank
        spelled[size] = _END
        size += ends
        spelled[size] = _BETWEEN
        size += ends
        hashes[ended] = state
        ended += ends
        more = (state ^ np.uint64(byte)) * _WORD_PRIME
        state = _WORD_SEED if blank else more
        inside = not blank
    return size, inside, state, ended


@compiled
def _known(spelled: np.ndarray, whole: int, known: np.ndarray, hits: np.ndarray) -> int:
    """Writes the known buckets of n-grams that begin in spelled[:whole] to hits [k]."""
    count = 0
    for start in range(whole):
        byte = spelled[start]
        if byte & 0xC0 == 0x80:
            continue
        inside = byte != _BETWEEN
        state = np.uint32((_SEED ^ _SIGNED[byte]) * _PRIME)
        at = start + 1
        for characters in range(1, LONGEST + 1):
            # The rest of a character of UTF-8, 10xxxxxx.
            while spelled[at] & 0xC0 == 0x80:
                state = np.uint32((state ^ _SIGNED[spelled[at]]) * _PRIME)
                at += 1
            if characters >= SHORTEST:
                bucket = state % _BUCKETS
                hits[count] = bucket
                bit = known[bucket >> _FIVE] >> (bucket & _BITS) & _ONE
                count += inside & bit
            inside &= spelled[at] != _BETWEEN
            state = np.uint32((state ^ _SIGNED[spelled[at]]) * _PRIME)
            at += 1
    return count


@compiled
def _number(tags: np.ndarray, numbers: np.ndarray, state: np.uint64) -> int:
    """Returns the number of the frequent word of that hash, or `_FREE`."""
    slot = np.int64(state % _SLOTS)
    tag = np.uint32(state >> _TAG)
    found = len(numbers) - 1  # always free
    for place in range(slot, slot + _NEAR):
        found = place if tags[place] == tag else found
    return int(numbers[found])


@compiled
def _add(rows: np.ndarray, places: np.ndarray, count: int, sums: np.ndarray) -> None:
    # Four numbers at a time stay in registers; sums of a block are float32, as
    # fastText's, those of a long text float64.
    for axis in range(0, DIMENSIONS, 4):
        first = second = third = fourth = np.float32(0)
        for place in range(count):
            row = places[place]
            first += rows[row, axis]
            second += rows[row, axis + 1]
            third += rows[row, axis + 2]
            fourth += rows[row, axis + 3]
        sums[axis] += first
        sums[axis + 1] += second
        sums[axis + 2] += third
        sums[axis + 3] += fourth


@compiled
def _descend(
    mean: np.ndarray, forks: np.ndarray, branches: np.ndarray
) -> tuple[int, float]:
    """Returns the likeliest label and its share: the greatest product along a path.

    Branches that are already less likely than the best label are not followed.
    """
    labels = len(forks) + 1
    nodes = np.empty(labels, np.int64)
    shares = np.empty(labels, np.float64)
    nodes[0], shares[0] = 2 * labels - 2, 1.0
    waiting = 1
    best, most = 0, 0.0
    while waiting > 0:
        waiting -= 1
        node, share = nodes[waiting], shares[waiting]
        if share <= most:
            continue
        if node < labels:
            best, most = node, share
            continue
        product = 0.0
        for axis in range(DIMENSIONS):
            product += mean[axis] * forks[node - labels, axis]
        right = 1 / (1 + np.exp(-product))
        likelier = int(right >= 0.5)
        # The likelier branch goes on top, to be followed first.
        for side in (1 - likelier, likelier):
            nodes[waiting] = branches[node - labels, side]
            part = right if side == 1 else 1 - right
            shares[waiting] = share * (part + _SMOOTHING)
            waiting += 1
    return best, most
