# SPDX-License-Identifier: Apache-2.0
"""MinHash signatures in bands: near duplicates share a digest with known probability.

A permutation of 64 bits is x -> a x + b mod 2^64, a odd. Shingles are mixed before, so
their images' order is as good as random, and the minimum of a set is each member with
the same chance: two sets have equal minima with probability of their Jaccard similarity
(Broder 1997). `tests/benchmarks/minhash_rates.py` measures that it holds.
"""

import numpy as np
import pyarrow as pa

from preprocessing.duplicates.near_config import NearConfig
from preprocessing.duplicates.shingles import (
    Scratch,
    is_unspaced,
    mix_one,
    next_shingles,
    only_shingle,
    scratch,
)
from preprocessing.foundation.compiled import compiled
from preprocessing.foundation.fingerprints import mix, seed_word
from preprocessing.foundation.seed_purposes import NearPurpose
from preprocessing.foundation.string_buffers import Views, views

DIGEST_BYTES = 16
# Of a longer text only the smallest hashes are kept, a sample that is the same of any
# text: 8 MB, and a similarity of 0.8 is found within 0.001.
MOST_SHINGLES = 1 << 20
_LEFT, _RIGHT = np.uint64(0x082EFA98EC4E6C89), np.uint64(0x452821E638D01377)


def band_digests(texts: pa.LargeStringArray, config: NearConfig) -> np.ndarray:
    """Returns a digest of each band of minima of each text, uint8 [n, bands, 16].

    Equal digests at the same band mean equal minima; a digest depends on the number of
    its band, so all may be looked up in one table. A text with fewer words than `ngram`
    has one shingle, so it meets the texts of just its words; without any word, the
    texts of just its bytes. Takes 1 MB besides, whatever the texts' size.
    """
    places = np.arange(config.bands * config.rows, dtype=np.uint64)
    multipliers = mix(
        places ^ seed_word(config.seed, NearPurpose.MULTIPLIERS)
    ) | np.uint64(1)
    shifts = mix(places ^ seed_word(config.seed, NearPurpose.SHIFTS))
    digests = np.empty((len(texts), config.bands, 2), np.uint64)
    _digest_all(
        *views(texts),
        config.ngram,
        config.characters,
        multipliers,
        shifts,
        scratch(max(config.ngram, config.characters)),
        digests,
    )
    return digests.astype("<u8", copy=False).view(np.uint8)


def shingle_hashes(texts: pa.LargeStringArray, config: NearConfig) -> list[np.ndarray]:
    """Returns the set of each text's shingles, uint64, ascending, for `jaccard`.

    Of more than `MOST_SHINGLES` the smallest are kept.
    """
    space = scratch(max(config.ngram, config.characters))
    text, runs = views(texts), (config.ngram, config.characters)
    return [_hashes(text, document, runs, space) for document in range(len(texts))]


def jaccard(left: np.ndarray, right: np.ndarray) -> float:
    """Returns the share of two sets' members that are in both.

    Args:
      left: of `shingle_hashes`, from 1 to `MOST_SHINGLES` hashes, ascending.
      right: likewise.

    Returns:
      The Jaccard similarity; where a set was cut, that of the hashes up to the cut,
      which is the same in expectation.
    """
    cut = [hashes[-1] for hashes in (left, right) if len(hashes) == MOST_SHINGLES]
    if cut:
        left, right = (
            hashes[: np.searchsorted(hashes, min(cut), side="right")]
            for hashes in (left, right)
        )
    shared = len(np.intersect1d(left, right, assume_unique=True))
    return shared / (len(left) + len(right) - shared)


def _hashes(
    text: Views, document: int, runs: tuple[int, int], space: Scratch
) -> np.ndarray:
    """The hashes of one text; at most three times what is kept is held on the way."""
    start, end = text.edges[document : document + 2].tolist()
    unspaced = is_unspaced(text.data, start, end, space.table)
    run = runs[unspaced]
    kept: list[np.ndarray] = []
    at, carried, held = start, 0, 0
    while at < end:
        at, carried, count = next_shingles(
            text.data, at, end, run, unspaced, carried, space
        )
        kept.append(space.shingles[:count].copy())
        held += count
        if held > 2 * MOST_SHINGLES:
            kept = [np.unique(np.concatenate(kept))[:MOST_SHINGLES]]
            held = len(kept[0])
    if not held:
        only = only_shingle(text.data, start, end, space.units, carried)
        return np.array([only], np.uint64)
    return np.unique(np.concatenate(kept))[:MOST_SHINGLES]


@compiled
def _digest_all(
    data: np.ndarray,
    offsets: np.ndarray,
    ngram: int,
    characters: int,
    multipliers: np.ndarray,
    shifts: np.ndarray,
    scratch: Scratch,
    digests: np.ndarray,
) -> None:
    """Fills `digests` uint64 [n, bands, 2]."""
    minima = np.empty(len(multipliers), np.uint64)
    for document in range(len(offsets) - 1):
        at, end = offsets[document], offsets[document + 1]
        unspaced = is_unspaced(data, at, end, scratch.table)
        run = characters if unspaced else ngram
        minima[:] = np.uint64(0xFFFFFFFFFFFFFFFF)
        carried, total = 0, 0
        while at < end:
            at, carried, count = next_shingles(
                data, at, end, run, unspaced, carried, scratch
            )
            _lower(minima, scratch.shingles[:count], multipliers, shifts)
            total += count
        if total == 0:
            scratch.shingles[0] = only_shingle(
                data, offsets[document], end, scratch.units, carried
            )
            _lower(minima, scratch.shingles[:1], multipliers, shifts)
        _digest(minima, digests[document])


@compiled
def _lower(
    minima: np.ndarray,
    shingles: np.ndarray,
    multipliers: np.ndarray,
    shifts: np.ndarray,
) -> None:
    """Lowers each permutation's minimum by those of some shingles."""
    for shingle in shingles:
        for place in range(len(minima)):
            image = shingle * multipliers[place] + shifts[place]
            minima[place] = min(minima[place], image)


@compiled
def _digest(minima: np.ndarray, digests: np.ndarray) -> None:
    """Digests one text's minima to 128 bits per band, uint64 [bands, 2]."""
    rows = len(minima) // len(digests)
    for band in range(len(digests)):
        left, right = (
            mix_one(np.uint64(band) ^ _LEFT),
            mix_one(np.uint64(band) ^ _RIGHT),
        )
        for row in range(rows):
            left = mix_one(left ^ minima[band * rows + row])
            right = mix_one(right ^ minima[band * rows + row] * _RIGHT)
        digests[band, 0], digests[band, 1] = left, right
