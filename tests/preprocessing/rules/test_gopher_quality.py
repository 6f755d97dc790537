# SPDX-License-Identifier: Apache-2.0
"""Gopher's quality rule: one document for each check, at and beyond its threshold."""

import dataclasses

import pyarrow as pa
import pytest

from preprocessing.rules.gopher_quality import GOPHER, judge

# Ten words, four of them stop words, 42 letters, and a full stop.
SENTENCE = "The farmer and another animal have gone to the barn."
PAGE = " ".join([SENTENCE] * 5)
FRENCH = "Le chat noir et le chien sont dans la maison. " * 6
ONE_STOP_WORD = "The farmer or any animal had gone in that barn. " * 5


def checks(*texts, **changed):
    thresholds = dataclasses.replace(GOPHER, **changed)
    judged = judge(pa.array(texts, pa.large_string()), thresholds)
    return [
        (failure.place, failure.check, failure.value) for failure in judged.failures
    ]


def test_prose_of_fifty_words_passes_and_the_texts_are_the_same_object():
    texts = pa.array([PAGE, PAGE + " More."], pa.large_string())
    judged = judge(texts, GOPHER)
    assert judged.failures == [] and judged.texts is texts


@pytest.mark.parametrize(
    ("text", "check", "value"),
    [
        ("", "min_words", 0),
        (PAGE.removeprefix("The "), "min_words", 49),
        (PAGE + " ." * 200 + " Hm" * 99_951, "max_words", 100_001),
        ("of a " * 40, "min_mean_word_length", 1.5),
        ("of incomprehensibility " * 30, "max_mean_word_length", 21 / 2),
        (PAGE + " # x" * 7, "max_hashes", 7 / 69),
        (PAGE + " ... x … x" * 4, "max_ellipses", 8 / 71),
        ("\n\t- ".join(["• " + SENTENCE] + [SENTENCE] * 5), "max_bullet_lines", 1),
        ("\n".join([SENTENCE + ".. ", SENTENCE] * 3), "max_ellipsis_lines", 1 / 2),
        (PAGE + " 4" * 14, "min_letter_words", 50 / 69),
        (FRENCH, "min_stop_words", 0),
        (ONE_STOP_WORD, "min_stop_words", 1),
    ],
)  # fmt: skip
def test_a_page_beyond_one_threshold_fails_that_check(text, check, value):
    assert checks(PAGE, text) == [(1, check, pytest.approx(value))]


def test_a_page_at_its_thresholds_passes():
    # 60 words with the five full stops and 5 more, of which "#" is a twelfth.
    at = PAGE + " #" * 5
    assert checks(at, max_hashes=5 / 60) == []
    assert checks(at, max_hashes=4.9 / 60) == [(0, "max_hashes", 5 / 60)]


def test_the_first_of_several_failed_checks_is_reported():
    assert checks("### ...") == [(0, "min_words", 0)]
    assert checks("### ...", min_words=0, min_mean_word_length=0)[0][1] == "max_hashes"


def test_thresholds_and_stop_words_can_be_changed():
    assert checks(FRENCH, stop_words=("le", "dans", "été")) == []
    assert checks(PAGE, min_words=51) == [(0, "min_words", 50)]
    assert checks(PAGE, min_stop_words=6) == [(0, "min_stop_words", 4)]
