# SPDX-License-Identifier: Apache-2.0
"""Gopher's repetition rule: one document for each check, beyond its threshold."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from preprocessing.rules.gopher_repetition import GOPHER, judge


def distinct(count, start=0):
    """Words of six characters, all different."""
    return [f"w{number:05d}" for number in range(start, start + count)]


def checks(*texts, **changed):
    thresholds = dataclasses.replace(GOPHER, **changed)
    judged = judge(pa.array(texts, pa.large_string()), thresholds)
    return [
        (failure.place, failure.check, failure.value) for failure in judged.failures
    ]


def repeated_run(n, times):
    """A page of 600 words in which a run of `n` comes back, each time after others."""
    others = distinct(600 - n * times, 1000)
    parts = np.array_split(np.array(others), times)
    return " ".join(word for part in parts for word in [*distinct(n), *part])


# Twenty lines of 55 characters, and one of 90.
LONG = "x" * 90
CHARACTERS = "max_duplicate_paragraph_characters"
LINE_CHARACTERS = "max_duplicate_line_characters"
LINES = [" ".join(distinct(8, 8 * line)) for line in range(20)]


@pytest.mark.parametrize(
    ("text", "check", "value"),
    [
        ("", "empty", 0),
        ("\n\n".join(LINES[:13] + LINES[:6]), "max_duplicate_paragraphs", 6 / 19),
        ("\n\n".join([LONG, *LINES[:4], LONG]), CHARACTERS, 90 / 410),
        ("\n".join(LINES[:13] + LINES[:6]), "max_duplicate_lines", 6 / 19),
        ("\n".join([LONG, *LINES[:4], LONG]), LINE_CHARACTERS, 90 / 405),
        ("on " + " ".join(["to be"] * 9 + distinct(10)), "max_top_2_gram", None),
        ("a", None, None),
        ("a b", "max_top_2_gram", 1),
        (" ".join(distinct(30)), None, None),
        (repeated_run(5, 25), "max_repeated_5_grams", 24 * 30 / (600 * 7 - 1)),
    ],
)  # fmt: skip
def test_a_page_beyond_one_threshold_fails_that_check(text, check, value):
    found = checks(" ".join(distinct(50)), text, max_top_4_gram=0.21)
    assert [name for _, name, _ in found] == ([check] if check else [])
    assert value is None or found[0][2] == pytest.approx(value)


@pytest.mark.parametrize("n", range(5, 11))
def test_a_run_that_comes_back_fails_the_check_of_its_length_alone(n):
    shorter = {f"max_repeated_{m}_grams": 1.0 for m in range(5, n)}
    text = repeated_run(n, 20)
    share = 19 * 6 * n / len(text)
    limit = getattr(GOPHER, f"max_repeated_{n}_grams")
    longer = {f"max_repeated_{m}_grams": 0.0 for m in range(n + 1, 11)}
    top = {f"max_top_{m}_gram": 1.0 for m in (2, 3, 4)}
    found = checks(text, **shorter, **longer, **top)
    wanted = [(0, f"max_repeated_{n}_grams", pytest.approx(share))]
    assert found == (wanted if share > limit else [])
    assert (
        checks(text, **shorter, **longer, **top, **{f"max_repeated_{n}_grams": share})
        == []
    )


def test_shares_are_of_characters_not_of_bytes():
    texts = ["\n".join([2 * mark, "cd" * 10, 2 * mark]) for mark in "eé你"]
    values = [value for _, _, value in checks(*texts, max_duplicate_lines=0.1)]
    assert values == [1 / 3] * 3
    line = [
        value
        for _, _, value in checks(
            *texts,
            max_duplicate_lines=1.0,
            max_duplicate_line_characters=0.0,
            max_duplicate_paragraphs=1.0,
        )
    ]
    assert line == [2 / 26] * 3
