# SPDX-License-Identifier: Apache-2.0
"""Clusters of near duplicates, from pairs of documents that are alike.

Union-find over pairs as they come, in any order and any chunks: the root of a tree is
always its best document, the longest, then the one with the smallest key, so the result
depends on the set of pairs alone. Documents are numbered by a hash table of their keys;
memory is at most 72 bytes per distinct document, however many pairs there are.
"""

from typing import NamedTuple

import numpy as np

from preprocessing.duplicates.shingles import mix_one
from preprocessing.foundation.compiled import compiled
from preprocessing.foundation.fingerprints import KEY_BYTES

_FIRST_ROOM = 1 << 12
_SLOTS_PER_NODE = 2  # at least half of the slots stay free: two looks find a key


class Edges(NamedTuple):
    """Pairs of documents that are near duplicates, whichever is the better one.

    Attributes:
        first: keys, uint8 [k, 16].
        first_lengths: how long their texts are, int64 [k].
        second: keys, uint8 [k, 16].
        second_lengths: int64 [k].
    """

    first: np.ndarray
    first_lengths: np.ndarray
    second: np.ndarray
    second_lengths: np.ndarray


class Members(NamedTuple):
    """The documents of all clusters, ascending by key.

    Attributes:
        keys: uint8 [m, 16].
        survivors: the place in `keys` of the document that stays of each one's cluster,
            int32 [m]; its own for those that stay.
        sizes: documents in each one's cluster, int32 [m], 2 or more.
    """

    keys: np.ndarray
    survivors: np.ndarray
    sizes: np.ndarray


class Clusters:
    """Documents joined by pairs, up to 2^31 of them."""

    def __init__(self) -> None:
        self._count = 0
        self._keys = np.zeros((0, 2), np.uint64)
        self._lengths = np.zeros(0, np.int64)
        self._parents = np.zeros(0, np.int32)
        self._slots = np.zeros(0, np.int32)
        self._grow(_FIRST_ROOM)

    def add(self, edges: Edges) -> None:
        """Joins the two documents of each pair; a document always has one length."""
        first, second = _halves(edges.first), _halves(edges.second)
        done = 0
        while True:
            self._count, done = _join(
                done,
                (first, edges.first_lengths.astype(np.int64, copy=False)),
                (second, edges.second_lengths.astype(np.int64, copy=False)),
                self._count,
                (self._keys, self._lengths, self._parents, self._slots),
            )
            if done == len(first):
                return
            self._grow(2 * len(self._keys))

    def members(self) -> Members:
        """Returns every document that was in a pair with another, and its cluster."""
        keys = self._keys[: self._count]
        roots = _roots(self._parents, self._count)
        sizes = np.bincount(roots, minlength=self._count).astype(np.int32)[roots]
        order = np.lexsort((keys[:, 1], keys[:, 0])).astype(np.int32)
        order = order[sizes[order] > 1]
        places = np.zeros(self._count, np.int32)
        places[order] = np.arange(len(order), dtype=np.int32)
        digests = keys[order].astype(">u8").view(np.uint8)
        return Members(digests, places[roots[order]], sizes[order])

    def _grow(self, room: int) -> None:
        extra = room - len(self._keys)
        self._keys = np.concatenate([self._keys, np.zeros((extra, 2), np.uint64)])
        self._lengths = np.concatenate([self._lengths, np.zeros(extra, np.int64)])
        self._parents = np.concatenate([self._parents, np.zeros(extra, np.int32)])
        self._slots = np.full(_SLOTS_PER_NODE * room, -1, np.int32)
        _index(self._keys, self._count, self._slots)


def _halves(keys: np.ndarray) -> np.ndarray:
    """Returns keys uint8 [k, 16] as numbers in the same order, uint64 [k, 2]."""
    rows = np.ascontiguousarray(keys, np.uint8).reshape(-1, KEY_BYTES)
    return rows.view(">u8").astype(np.uint64)


@compiled
def _join(
    done: int,
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    count: int,
    nodes: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> tuple[int, int]:
    """Joins pairs from `done` on while there is room; returns the new counts."""
    keys, lengths, parents, _ = nodes
    while done < len(first[0]) and count + 2 <= len(keys):
        left, count = _number(first[0][done], first[1][done], count, nodes)
        right, count = _number(second[0][done], second[1][done], count, nodes)
        left, right = _root(parents, left), _root(parents, right)
        if _better(keys, lengths, left, right):
            parents[right] = left
        else:
            parents[left] = right
        done += 1
    return count, done


@compiled
def _number(
    key: np.ndarray,
    length: int,
    count: int,
    nodes: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> tuple[int, int]:
    """Returns a document's number, a new one if need be, and the count of numbers."""
    keys, lengths, parents, slots = nodes
    slot = _slot(key, keys, slots)
    if slots[slot] < 0:
        slots[slot] = parents[count] = count
        keys[count] = key
        lengths[count] = length
        count += 1
    return slots[slot], count


@compiled
def _slot(key: np.ndarray, keys: np.ndarray, slots: np.ndarray) -> np.int64:
    """Returns the slot that holds a key, or the free one that it would take."""
    # A power of two; keys are digests, but nothing says that callers' are.
    last = len(slots) - 1
    slot = np.int64(mix_one(key[0] ^ mix_one(key[1])) & np.uint64(last))
    while True:
        number = slots[slot]
        if number < 0 or (keys[number, 0] == key[0] and keys[number, 1] == key[1]):
            return slot
        slot = (slot + 1) & last


@compiled
def _index(keys: np.ndarray, count: int, slots: np.ndarray) -> None:
    for number in range(count):
        slots[_slot(keys[number], keys, slots)] = number


@compiled
def _better(keys: np.ndarray, lengths: np.ndarray, left: int, right: int) -> bool:
    """Whether a document stays rather than another: longer, then of smaller key."""
    if lengths[left] != lengths[right]:
        return lengths[left] > lengths[right]
    if keys[left, 0] != keys[right, 0]:
        return keys[left, 0] < keys[right, 0]
    return keys[left, 1] <= keys[right, 1]


@compiled
def _root(parents: np.ndarray, node: int) -> int:
    """Returns a node's root, halving the path (Tarjan and van Leeuwen 1984)."""
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@compiled
def _roots(parents: np.ndarray, count: int) -> np.ndarray:
    roots = np.empty(count, np.int32)
    for node in range(count):
        roots[node] = _root(parents, node)
    return roots
