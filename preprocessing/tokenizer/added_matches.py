# SPDX-License-Identifier: Apache-2.0
"""Cuts texts at their added tokens, where `tokenizers` would.

At each place the longest token wins, and the search goes on behind it. One compiled
loop walks a trie of the tokens: where no token begins, a byte costs one look-up.
"""

from typing import NamedTuple

import numpy as np

from preprocessing.foundation.compiled import compiled
from preprocessing.tokenizer.added_tokens import (
    WHITE_SPACE,
    Level,
    word_characters,
)

_SPECIAL, _SINGLE, _LEFT, _RIGHT = 1, 2, 4, 8  # flags of a token
_BLANK, _WORD = 1, 2  # classes of a code point


class TokenSegments(NamedTuple):
    """Parts of texts, one after the other, all of each text covered.

    Attributes:
      edges: where each begins and ends in the texts' bytes, int64 [n + 1].
      tokens: the id of each, -1 for one that is to be encoded, int64 [n].
      counts: how many each text has, none if it is empty, int64 [texts].
    """

    edges: np.ndarray
    tokens: np.ndarray
    counts: np.ndarray


class _Trie(NamedTuple):
    """A trie over bytes.

    Attributes:
      roots: the root's child of each byte, -1 for none, int64 [256].
      firsts: the children of node n are firsts[n] up to firsts[n + 1] of the next two.
      labels: the byte of each child, uint8.
      targets: the node of each child, int64.
      ends: the number of the pattern that ends at a node, or -1, int64.
    """

    roots: np.ndarray
    firsts: np.ndarray
    labels: np.ndarray
    targets: np.ndarray
    ends: np.ndarray


class _Marks(NamedTuple):
    """Ids and flags of the tokens, uint8, and the classes of all code points, uint8."""

    ids: np.ndarray
    flags: np.ndarray
    classes: np.ndarray


class Matcher:
    """Finds the added tokens of one level."""

    def __init__(self, level: Level) -> None:
        """Builds the trie; there are tokens."""
        patterns = [token.pattern.encode() for token in level]
        self._shortest = min(map(len, patterns))
        self._trie = _trie(patterns)
        flags = [
            _SPECIAL * token.special
            + _SINGLE * token.single_word
            + _LEFT * token.lstrip
            + _RIGHT * token.rstrip
            for token in level
        ]
        self._marks = _Marks(
            np.array([token.id for token in level], np.int64),
            np.array(flags, np.uint8),
            _classes(any(token.single_word for token in level)),
        )

    def cut(
        self, data: np.ndarray, edges: np.ndarray, tokens: np.ndarray
    ) -> TokenSegments:
        """Cuts texts.

        Args:
          data: uint8, valid UTF-8.
          edges: of the texts in it, int64 [n + 1].
          tokens: int64 [n], the id of a text that is a token already, or -1.
        """
        size, texts = int(edges[-1] - edges[0]), len(edges) - 1
        # Memory that nothing is written to stays untouched.
        found = np.empty((size // self._shortest, 3), np.int64)
        counts = np.zeros(texts, np.int64)
        total = _find(data, edges, tokens, self._trie, self._marks, found, counts)
        starts = np.empty(2 * total + texts + 1, np.int64)
        ids = np.empty(len(starts), np.int64)
        total = _part(data, edges, tokens, found, self._marks, starts, ids, counts)
        starts[total] = edges[-1]
        return TokenSegments(starts[: total + 1], ids[:total], counts)


def _classes(words: bool) -> np.ndarray:
    """Returns of each code point whether it is white space or of a word, uint8."""
    classes = np.zeros(0x110000, np.uint8)
    classes[sorted(WHITE_SPACE)] |= _BLANK
    if words:
        classes[sorted(word_characters())] |= _WORD
    return classes


def _trie(patterns: list[bytes]) -> _Trie:
    children: list[dict[int, int]] = [{}]
    ends = [-1]
    for number, pattern in enumerate(patterns):
        node = 0
        for byte in pattern:
            if byte not in children[node]:
                children[node][byte] = len(children)
                children.append({})
                ends.append(-1)
            node = children[node][byte]
        ends[node] = number
    pairs = [pair for child in children for pair in child.items()]
    return _Trie(
        roots=np.array([children[0].get(byte, -1) for byte in range(256)], np.int64),
        firsts=np.cumsum([0, *map(len, children)]),
        labels=np.array([byte for byte, _ in pairs], np.uint8),
        targets=np.array([node for _, node in pairs], np.int64),
        ends=np.array(ends, np.int64),
    )


@compiled
def character_at(
    data: np.ndarray, place: int, stop: int, classes: np.ndarray
) -> tuple[int, int]:
    """Returns class and bytes of the character at `place`, (0, 0) at `stop`."""
    if place >= stop:
        return 0, 0
    point, size = np.int64(data[place]), 1
    if point >= 0x80:
        size = 2 if point < 0xE0 else (3 if point < 0xF0 else 4)
        point &= 0x3F >> (size - 1)
    for i in range(1, size):
        point = point << 6 | (np.int64(data[place + i]) & 63)
    return int(classes[point]), size


@compiled
def _character_before(
    data: np.ndarray, start: int, place: int, classes: np.ndarray
) -> tuple[int, int]:
    """Returns class and bytes of the character before `place`, (0, 0) at `start`."""
    at = place
    while at > start:
        at -= 1
        if data[at] & 0xC0 != 0x80:
            break
    return character_at(data, at, place, classes)


@compiled
def _find(
    data: np.ndarray,
    edges: np.ndarray,
    given: np.ndarray,
    trie: _Trie,
    marks: _Marks,
    found: np.ndarray,
    counts: np.ndarray,
) -> int:
    """Writes (start, end, number) of each text's tokens; returns how many in all.

    `counts` gets how many each text has.
    """
    # Taken apart, and no loop of its own for the trie: either costs 10 ns a byte.
    roots, firsts, labels, targets, ends = trie
    _, flags, classes = marks
    total = 0
    for text in range(len(edges) - 1):
        start, stop, before = edges[text], edges[text + 1], total
        place = start if given[text] < 0 else stop
        while place < stop:
            node, number, end, reach = roots[data[place]], -1, place, place + 1
            while node >= 0:
                if ends[node] >= 0:
                    number, end = ends[node], reach
                child = -1
                if reach < stop:
                    for i in range(firsts[node], firsts[node + 1]):
                        if labels[i] == data[reach]:
                            child = targets[i]
                            break
                node = child
                reach += 1
            if number < 0:
                place += 1
                continue
            real = flags[number] & _SPECIAL == 0
            if real and flags[number] & _SINGLE:
                left, _ = _character_before(data, start, place, classes)
                right, _ = character_at(data, end, stop, classes)
                real = (left | right) & _WORD == 0
            if real:
                found[total, 0], found[total, 1], found[total, 2] = place, end, number
                total += 1
            place = end
        counts[text] = total - before
    return total


@compiled
def _part(
    data: np.ndarray,
    edges: np.ndarray,
    given: np.ndarray,
    found: np.ndarray,
    marks: _Marks,
    starts: np.ndarray,
    ids: np.ndarray,
    counts: np.ndarray,
) -> int:
    """Writes where each segment begins, and its id; returns how many in all.

    Of the text between two tokens the white space at its edges goes to them where they
    strip it. `counts` has how many tokens were found in each text, and gets how many
    segments.
    """
    ids_of, flags, classes = marks
    total, seen = 0, 0
    for text in range(len(edges) - 1):
        before, place, taking = total, edges[text], 0
        if given[text] >= 0:
            starts[total], ids[total] = place, given[text]
            counts[text] = 1
            total += 1
            continue
        for token in range(seen, seen + counts[text] + 1):
            one = token < seen + counts[text]
            first = found[token, 0] if one else edges[text + 1]
            while taking & _RIGHT:
                kind, size = character_at(data, place, first, classes)
                if not kind & _BLANK:
                    break
                place += size
            last = first
            while one and flags[found[token, 2]] & _LEFT:
                kind, size = _character_before(data, place, last, classes)
                if not kind & _BLANK:
                    break
                last -= size
            if place < last:
                starts[total], ids[total] = place, -1
                total += 1
            if one:
                starts[total], ids[total] = last, ids_of[found[token, 2]]
                total += 1
                place, taking = found[token, 1], flags[found[token, 2]]
        seen += counts[text]
        counts[text] = total - before
    return total
