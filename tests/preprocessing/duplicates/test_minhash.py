# SPDX-License-Identifier: Apache-2.0
"""Near duplicates share a band as often as the formula says, whatever their company."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.duplicates.folding import DROPPED, LIMIT, POINT, SPACE, folding_table
from preprocessing.duplicates.minhash import (
    MOST_SHINGLES,
    band_digests,
    jaccard,
    shingle_hashes,
)
from preprocessing.duplicates.near_config import NearConfig
from preprocessing.duplicates.shingles import BLOCK
from tests.benchmarks.minhash_rates import (
    SIMILARITIES,
    TOLERANCE,
    distinct,
    formula,
    meetings,
    planted,
    share_that_meets,
)

CONFIG = NearConfig()
SHAKESPEARE = Path(__file__).parents[4] / "shared" / "data" / "shakespeare.txt"
# Few words, so that runs repeat; of one to four bytes a character.
WORD = st.sampled_from(
    ["the", "cat", "sat", "Straße", "naïve", "слово", "𝔘𝔫𝔦", "!", "7"]
)
WORDS = st.lists(WORD, max_size=30).map(" ".join)
HAN = st.text("世界你好，。 \na", max_size=60)


def large(*texts):
    return pa.array(texts, pa.large_string())


def runs_of_words(text, length):
    """The set of runs as tuples, by Python's own means."""
    points = [ord(c) for c in text]
    entries = [int(folding_table()[p]) if p < LIMIT else DROPPED for p in points]
    folded = (" " if e == SPACE else chr(e & POINT) if e else "" for e in entries)
    words = "".join(folded).split()
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


@settings(deadline=None)
@given(left=WORDS, right=WORDS, length=st.integers(1, 6))
def test_hashes_have_the_jaccard_similarity_of_the_runs_of_words(left, right, length):
    a, b = runs_of_words(left, length), runs_of_words(right, length)
    if a and b:
        config = NearConfig(ngram=length)
        found = jaccard(*shingle_hashes(large(left, right), config))
        assert found == pytest.approx(len(a & b) / len(a | b))


@settings(deadline=None)
@given(text=HAN)
def test_texts_without_spaces_are_runs_of_characters_whatever_their_layout(text):
    bare = "".join(c for c in text if c not in "，。 \n")
    unspaced = 2 * bare.count("a") < len(bare)
    if unspaced and len(bare) >= 3:
        (hashes,) = shingle_hashes(large(text), NearConfig(characters=3))
        assert len(hashes) == len({bare[i : i + 3] for i in range(len(bare) - 2)})


def test_a_text_of_many_blocks_has_every_run_once_wherever_blocks_meet():
    words = [f"w{number}" for number in range(3 * BLOCK + 7)]
    texts = large(" ".join(words), " ".join(words[100:]), " ".join(words[:BLOCK]))
    hashes = shingle_hashes(texts, CONFIG)
    counts = [len(words) - 4, len(words) - 104, BLOCK - 4]
    assert [len(found) for found in hashes] == counts
    assert np.isin(hashes[1], hashes[0]).all() and np.isin(hashes[2], hashes[0]).all()


@settings(deadline=None)
@given(texts=st.lists(WORDS | HAN, min_size=1, max_size=5), skip=st.integers(0, 3))
def test_a_digest_depends_on_its_text_alone(texts, skip):
    together = band_digests(large(*["x"] * skip, *texts)[skip:], CONFIG)
    assert together.shape == (len(texts), 14, 16) and together.dtype == np.uint8
    for text, digests in zip(texts, together, strict=True):
        np.testing.assert_array_equal(band_digests(large(text), CONFIG)[0], digests)


@pytest.mark.parametrize(
    ("left", "right", "meet"),
    [
        ("Thank you!", "thank  YOU", True),
        ("thank you", "thank you so", False),
        ("thank you", "you thank", False),
        ("one two three four five", "One, two, three: four five.", True),
        ("one two three four five", "one two three four six", False),
        ("", "", True),
        ("!!!", "!!", False),
        ("你好，世界", "你好世界", True),
        ("naïve cafe", "nai\u0308ve café", True),
    ],
)
def test_short_texts_meet_where_their_words_are_the_same(left, right, meet):
    a, b = band_digests(large(left, right), CONFIG)
    assert (a == b).all(axis=1).tolist() == [meet] * CONFIG.bands


def test_no_digest_occurs_at_two_bands_or_under_two_seeds():
    texts = large("one two three four five six seven", "a")
    digests = np.concatenate(
        [band_digests(texts, NearConfig(seed=seed)).reshape(-1, 16) for seed in (1, 2)]
    )
    assert len(np.unique(digests, axis=0)) == len(digests)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_planted_pairs_meet_at_the_rate_of_the_formula_within_2_points(similarity):
    found = share_that_meets(similarity, 10_000, CONFIG)
    assert abs(found - formula(similarity, CONFIG)) < TOLERANCE


def test_other_bands_and_rows_keep_to_the_formula():
    config = NearConfig(bands=5, rows=3, ngram=2, seed=7)
    found = share_that_meets(0.5, 10_000, config)
    assert abs(found - formula(0.5, config)) < TOLERANCE


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_planted_pairs_are_exactly_as_similar_as_they_claim(similarity):
    left, right = (
        shingle_hashes(texts, CONFIG) for texts in planted(similarity, 50, CONFIG, 3)
    )
    found = [jaccard(a, b) for a, b in zip(left, right, strict=True)]
    assert found == [pytest.approx(similarity)] * 50


def test_real_texts_that_are_distinct_never_meet_and_planted_copies_do():
    if not SHAKESPEARE.exists():
        pytest.skip("the corpus is not here")
    speeches = SHAKESPEARE.read_text(encoding="utf-8").split("\n\n")
    shingles = shingle_hashes(large(*speeches), CONFIG)
    texts = [speeches[place] for place in distinct(shingles, 0.2)]
    assert len(texts) > 5_000
    copies = [text.upper().replace("\n", " ... ") for text in texts[:100]]
    digests = band_digests(large(*texts, *copies), CONFIG)
    found = list(meetings(digests))
    assert found == [(place, len(texts) + place) for place in range(100)]


def test_similarity_of_cut_sets_is_near_that_of_the_whole():
    rng = np.random.default_rng(5)
    pool = np.unique(rng.integers(0, 2**64, 3_000_000, np.uint64))
    sets = (rng.permutation(pool)[:size] for size in (2_400_000, 1_500_000))
    left, right = (np.sort(members)[:MOST_SHINGLES] for members in sets)
    # Chance members: 0.4 of the pool are in both, 0.9 in either.
    assert jaccard(left, right) == pytest.approx(0.4 / 0.9, abs=0.002)
    assert jaccard(left, left) == 1


def test_digests_of_a_known_text_never_change():
    # A change here parts the copies of a job that was interrupted from the rest.
    text = large("The quick brown fox jumps over the lazy dog.", "你好，世界")
    digests = band_digests(text, NearConfig(bands=2, rows=2))
    assert [bytes(digest).hex() for digest in digests.reshape(-1, 16)] == KNOWN


KNOWN = [
    "13aaaeebc2d3fd3925ed3aa504ebbc7f",
    "26ecc3844397c5e5ebafeee2396747d9",
    "94ad69c314290ff7fd1cce1b5b8c7c2d",
    "f99fa51af5b6827bffc2cf78107e57d2",
]
