# SPDX-License-Identifier: Apache-2.0
"""Keys of documents, hashes of contents, and the orders that follow from keys.

Keys and contents are blake2b-128 digests, kept as uint8 matrices [n, 16]. Orders and
splits mix those already uniform keys with the seed in integer arithmetic, so they cost
nanoseconds a document and never depend on a worker, a runner or Python's `hash`.
"""

import hashlib
import itertools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from preprocessing.foundation.seed_purposes import NearPurpose, Purpose
from preprocessing.foundation.string_buffers import views

KEY_BYTES = 16
# SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
# generators"): an odd increment and two multipliers give a bijection of 64 bits.
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def keys_of_ids(relative: str, ids: Sequence[str]) -> np.ndarray:
    """Returns the keys of documents known by an id field, uint8 [n, 16]."""
    return _digests(_seeded(relative, b"id"), [name.encode() for name in ids])


def keys_of_offsets(relative: str, offsets: Sequence[int]) -> np.ndarray:
    """Returns the keys of documents known by their byte offset, uint8 [n, 16]."""
    return _digests(_seeded(relative, b"offset"), [b"%d" % at for at in offsets])


def _seeded(relative: str, kind: bytes) -> hashlib.blake2b:
    # The kind keeps the id "7" and the offset 7 apart; NUL cannot occur in a path.
    head = relative.encode() + b"\0" + kind + b"\0"
    return hashlib.blake2b(head, digest_size=KEY_BYTES)


def _digests(seeded: hashlib.blake2b, parts: Sequence[bytes]) -> np.ndarray:
    out = []
    for part in parts:
        state = seeded.copy()
        state.update(part)
        out.append(state.digest())
    return np.frombuffer(b"".join(out), np.uint8).reshape(len(out), KEY_BYTES)


def content_hash(texts: pa.LargeStringArray) -> np.ndarray:
    """Returns blake2b-128 of each text's UTF-8, uint8 [n, 16]."""
    seen = views(texts)
    data = seen.data.data  # a memoryview
    hashed = [
        hashlib.blake2b(data[start:end], digest_size=KEY_BYTES).digest()
        for start, end in itertools.pairwise(seen.edges.tolist())
    ]
    return np.frombuffer(b"".join(hashed), np.uint8).reshape(len(hashed), KEY_BYTES)


def order_hash(seed: int, keys: np.ndarray) -> np.ndarray:
    """Returns the place of each key in the seed's order, uint64 [n], for [n, 16]."""
    return key_hash(seed, Purpose.ORDER, keys)


def split_hash(seed: int, keys: np.ndarray) -> np.ndarray:
    """Returns what decides each key's split, uint64 [n], for keys [n, 16]."""
    return key_hash(seed, Purpose.SPLIT, keys)


def key_hash(seed: int, purpose: Purpose, keys: np.ndarray) -> np.ndarray:
    """Returns what each key draws for a purpose, uint64 [n], for keys [n, 16]."""
    halves = np.ascontiguousarray(keys, np.uint8).view("<u8").astype(np.uint64)
    return mix(mix(halves[:, 0] ^ seed_word(seed, purpose)) ^ halves[:, 1])


def seed_word(seed: int, purpose: Purpose | NearPurpose, *numbers: int) -> np.uint64:
    """Returns 64 bits that a seed gives for a purpose, and for numbers within it."""
    return word_of(seed, purpose, *numbers)


def word_of(*numbers: int) -> np.uint64:
    """Returns 64 bits that depend on every one of `numbers` and on their order."""
    word = np.zeros(1, np.uint64)
    for number in numbers:
        word = mix(word ^ np.uint64(number & 0xFFFFFFFFFFFFFFFF))
    return np.uint64(word[0])


def mix(values: np.ndarray) -> np.ndarray:
    """Returns SplitMix64 of uint64 values: a bijection that scatters neighbours."""
    values = values + _GAMMA
    values = (values ^ (values >> np.uint64(30))) * _FIRST
    values = (values ^ (values >> np.uint64(27))) * _SECOND
    return values ^ (values >> np.uint64(31))
