# SPDX-License-Identifier: Apache-2.0
"""Do near duplicates meet at the rate the banding formula says, and only they?

Plants pairs of an exact Jaccard similarity and counts those that share a band:

    python -m tests.benchmarks.minhash_rates

With `--corpus GLOB` of JSONL files it also takes documents that are distinct, and lists
those that meet all the same. Distinct is a document at most a fifth of whose shingles
occur in earlier distinct ones, so that no two have a Jaccard similarity above 0.2.
"""

import glob
import itertools
import json
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from preprocessing.duplicates.minhash import band_digests, jaccard, shingle_hashes
from preprocessing.duplicates.near_config import NearConfig
from preprocessing.foundation.commands import CommandParser, WorkError, run
from preprocessing.foundation.string_buffers import array_of, sizes_of

SIMILARITIES = (0.5, 0.7, 0.8, 0.9)
TOLERANCE = 0.02
_UNION = 200  # shingles of a pair
_LETTERS = 6  # of a word: 3e8 words, so that none repeats by chance in a pair


def planted(
    similarity: float, pairs: int, config: NearConfig, seed: int
) -> tuple[pa.LargeStringArray, pa.LargeStringArray]:
    """Returns pairs of texts of random words whose Jaccard similarity is exact.

    Both start with the same words and go on with words of their own, each of which ends
    one more shingle: s of 200 are shared, and (200 - s) / 2 of each one's own.
    """
    shared = round(similarity * _UNION)
    own = (_UNION - shared) // 2
    rng = np.random.default_rng(seed)

    def words(count: int) -> np.ndarray:
        letters = rng.integers(97, 123, (pairs, count, _LETTERS + 1), np.uint8)
        letters[:, :, -1] = ord(" ")
        return letters.reshape(pairs, -1)

    front = words(shared + config.ngram - 1)
    left, right = (np.concatenate([front, words(own)], axis=1) for _ in range(2))
    return _texts(left), _texts(right)


def _texts(rows: np.ndarray) -> pa.LargeStringArray:
    ends = np.arange(len(rows) + 1, dtype=np.int64) * rows.shape[1]
    return array_of(np.ascontiguousarray(rows), ends)


def formula(similarity: float, config: NearConfig) -> float:
    """Returns the probability that a pair shares a band (Leskovec et al., 3.4.2)."""
    return 1 - (1 - similarity**config.rows) ** config.bands


def share_that_meets(similarity: float, pairs: int, config: NearConfig) -> float:
    """Returns the share of planted pairs with an equal digest in some band."""
    left, right = planted(similarity, pairs, config, seed=round(similarity * 100))
    equal = band_digests(left, config) == band_digests(right, config)
    return float(equal.all(axis=2).any(axis=1).mean())


def meetings(digests: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yields each pair of documents that share a band of digests [n, bands, 16].

    Of many that share one, each is paired with the first.
    """
    pairs: set[tuple[int, int]] = set()
    for band in range(digests.shape[1]):
        column = np.ascontiguousarray(digests[:, band]).view("V16").ravel()
        _, first, inverse = np.unique(column, return_index=True, return_inverse=True)
        partners = first[inverse]
        later = np.flatnonzero(partners != np.arange(len(column)))
        pairs.update(zip(partners[later].tolist(), later.tolist(), strict=True))
    yield from sorted(pairs)


def distinct(shingles: list[np.ndarray], most_shared: float) -> list[int]:
    """Returns documents that share at most such a part of their shingles with earlier.

    So no two have a larger Jaccard similarity, which is at most the share of one's
    shingles that the other has.
    """
    everything = np.sort(np.concatenate(shingles))
    repeated = np.unique(everything[1:][everything[1:] == everything[:-1]])
    # Number 0 stands for the shingles of one document alone, and is never taken.
    repeated = np.insert(repeated, 0, 0)
    taken = np.zeros(len(repeated), bool)
    chosen = []
    for document, hashes in enumerate(shingles):
        places = np.searchsorted(repeated, hashes, side="right") - 1
        places[repeated[places] != hashes] = 0
        if taken[places].mean() <= most_shared:
            chosen.append(document)
            taken[places[places > 0]] = True
    return chosen


def _corpus(pattern: str, field: str, limit: int) -> pa.LargeStringArray:
    def lines() -> Iterator[str]:
        for path in sorted(glob.glob(pattern)):
            with open(path, encoding="utf-8") as file:
                yield from (json.loads(line)[field] for line in file)

    return pa.array(itertools.islice(lines(), limit), pa.large_string())


def _print_rates(pairs: int, config: NearConfig) -> bool:
    print(f"{'Jaccard':>8} {'measured':>9} {'formula':>9} {'difference':>11}")
    good = True
    for similarity in SIMILARITIES:
        wanted = formula(similarity, config)
        found = share_that_meets(similarity, pairs, config)
        print(f"{similarity:8.2f} {found:9.4f} {wanted:9.4f} {found - wanted:+11.4f}")
        good &= abs(found - wanted) <= TOLERANCE
    return good


def _print_meetings(
    texts: pa.LargeStringArray, config: NearConfig, limit: int, most_shared: float
) -> bool:
    start = time.process_time()
    digests = band_digests(texts, config)
    seconds = time.process_time() - start
    size = sizes_of(texts).sum() / 1e6
    print(
        f"{len(texts):,} documents, {size:.0f} MB: {size / seconds:.0f} MB/s per core"
    )
    shingles = shingle_hashes(texts, config)
    alike = [jaccard(shingles[a], shingles[b]) for a, b in meetings(digests)]
    counts, edges = np.histogram(alike, np.arange(11) / 10)
    for count, edge in zip(counts, edges, strict=False):
        print(
            f"  {count:7,} pairs that meet have Jaccard {edge:.1f} to {edge + 0.1:.1f}"
        )
    chosen = distinct(shingles, most_shared)[:limit]
    wrong = list(meetings(digests[chosen]))
    print(f"{len(chosen):,} documents are distinct; {len(wrong)} pairs of them meet")
    for left, right in wrong:
        a, b = chosen[left], chosen[right]
        print(f"  {a} and {b}: Jaccard {jaccard(shingles[a], shingles[b]):.3f}")
    return not wrong


def main(argv: Sequence[str]) -> None:
    """Prints both tables; fails where a rate is off or distinct documents meet."""
    parser = CommandParser("minhash_rates", "measures MinHash by bands")
    parser.add_argument("--pairs", type=int, default=10_000, help="per similarity")
    parser.add_argument("--corpus", help="JSONL files, as a glob")
    parser.add_argument("--text_field", default="text", help="of the corpus")
    parser.add_argument("--read", type=int, default=200_000, help="documents at most")
    parser.add_argument("--documents", type=int, default=100_000, help="distinct ones")
    parser.add_argument(
        "--most_shared", type=float, default=0.2, help="shingles of a distinct document"
    )
    flags = parser.parse_args(argv)
    config = NearConfig()
    good = _print_rates(flags.pairs, config)
    if flags.corpus:
        texts = _corpus(flags.corpus, flags.text_field, flags.read)
        good &= _print_meetings(texts, config, flags.documents, flags.most_shared)
    if not good:
        raise WorkError(
            "wanted the formula's rates within 2 points and no distinct documents that "
            "meet, found otherwise. The tables above say where"
        )


if __name__ == "__main__":
    run(main)
