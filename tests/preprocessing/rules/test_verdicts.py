# SPDX-License-Identifier: Apache-2.0
"""Verdicts say what was measured as a person says it."""

import dataclasses
import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.rules import (
    fineweb,
    gopher_quality,
    gopher_repetition,
    language,
    named,
)
from preprocessing.rules.verdicts import said

SHARES = st.floats(0, 1, allow_nan=False)
RULES = [
    (gopher_quality, gopher_quality.GOPHER),
    (gopher_repetition, gopher_repetition.GOPHER),
    (fineweb, fineweb.FINEWEB),
]


@given(value=SHARES, threshold=SHARES)
def test_a_value_as_it_is_shown_is_on_its_own_side_of_the_threshold(value, threshold):
    if value == threshold:
        return
    words = said("share of lines", value, "or more", threshold)
    shown = float(
        re.fullmatch(r"share of lines ([\d.e-]+), wanted .* or more", words)[1]
    )
    assert (shown < threshold) == (value < threshold) and shown != threshold
    assert abs(shown - value) <= 0.005


def test_the_words_of_the_issue():
    assert said("words", 1200, "or less", 1000) == "words 1,200, wanted 1,000 or less"
    found = language.Identified(["en", "de"], pa.array([0.5183, 0.9]).to_numpy())
    wanted = language.LanguageThresholds(("en", "fr"))
    assert [failure.words for failure in language.failures(found, wanted)] == [
        "probability of English 0.52, wanted 0.65 or more",
        "language German, wanted English or French",
    ]
    close = language.Identified(["de"], pa.array([0.64999]).to_numpy())
    (failure,) = language.failures(close, language.LanguageThresholds())
    assert failure.words == "probability of German 0.64999, wanted 0.65 or more"


@pytest.mark.parametrize("code", language.known_languages())
def test_every_language_has_a_name(code):
    found = language.Identified([code], pa.array([0.0]).to_numpy())
    (failure,) = language.failures(found, language.LanguageThresholds())
    name = failure.words.removeprefix("probability of ").partition(" 0")[0]
    assert name[0].isupper() and name != code


@pytest.mark.parametrize(("rule", "published"), RULES)
def test_every_threshold_that_fails_documents_has_words(rule, published):
    names = [field.name for field in dataclasses.fields(published)]
    checks = [name for name in names if name.startswith(("min_", "max_"))]
    assert list(published.WORDS) == checks
    assert all("_" not in words for words in published.WORDS.values())


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("gopher_quality@1", "two words", "words 2, wanted 50 or more"),
        ("gopher_repetition@1", "", "characters 0, wanted 1 or more"),
        (
            "gopher_repetition@1",
            "same\n" * 9 + "same",
            "share of repeated lines 0.90, wanted 0.3 or less",
        ),
        (
            "fineweb@1",
            "no end\n" * 9,
            "share of lines that end a sentence 0.00, wanted 0.12 or more",
        ),
        ("c4@tfds", "One sentence of some words.", "sentences 1, wanted 3 or more"),
        (
            "c4@tfds",
            "Lorem ipsum is it here.",
            "'lorem ipsum' is in the text, wanted none",
        ),
        ("c4@tfds", "Here { is a word or so.", "'{' is in the text, wanted none"),
        ("c4@tfds:max_page_chars=9", "x" * 1234, "characters 1,234, wanted 9 or less"),
    ],
)
def test_each_rule_says_what_it_measured(name, text, words):
    (rule,) = named.parse_rules([name])
    (failure,) = named.build(rule)(pa.array([text], pa.large_string())).failures
    assert failure.words == words
