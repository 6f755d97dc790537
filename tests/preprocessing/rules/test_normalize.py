# SPDX-License-Identifier: Apache-2.0
"""Cleaning changes what it names, nothing else, and nothing twice."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation.commands import UsageError
from preprocessing.rules.normalize import CleaningConfig, clean, clean_text, is_empty

PIECES = st.sampled_from(
    ["\n", "\r", "\r\n", " ", "\t", "\x00", "\x7f", "\x85", "\x9f", "a", "\u00e9"]
) | st.sampled_from(
    ["e\u0301", "\n\n\n", "\u212b", "\ufeff", "  x", "\u00a0", "日", "\f"]
)
TEXTS = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=20)
CONFIGS = st.builds(
    CleaningConfig, compose=st.booleans(), max_blank_lines=st.integers(0, 3)
)


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(TEXTS, max_size=6),
    config=CONFIGS,
    skip=st.integers(0, 2),
    stretch=st.integers(1, 9),
)
def test_cleaning_a_batch_is_cleaning_each_text_and_is_idempotent(
    texts, config, skip, stretch
):
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    array = pa.array(["x "] * skip + texts, pa.large_string())[skip:]
    cleaned = clean(array, config, stretch=stretch)
    assert cleaned.to_pylist() == [clean_text(text, config) for text in texts]
    assert clean(cleaned, config).to_pylist() == cleaned.to_pylist()


@settings(max_examples=300, deadline=None)
@given(
    texts=st.lists(st.lists(PIECES, max_size=30).map("".join), max_size=4),
    config=CONFIGS,
    most=st.integers(1, 20),
    skip=st.integers(0, 2),
)
def test_pieces_of_a_huge_text_are_cleaned_to_what_the_whole_is(
    texts, config, most, skip
):
    array = pa.array(["x\ny "] * skip + texts, pa.large_string())[skip:]
    cleaned = clean(array, config, long_bytes=most)
    assert cleaned.to_pylist() == [clean_text(text, config) for text in texts]


@given(text=st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_text_without_controls_loses_only_trailing_blanks(text):
    assert clean_text(text, CleaningConfig()) == text.rstrip(" \t")


def test_code_keeps_its_shape():
    code = "def f(x):\n\tif x:\n\t    return 1\n\n\n# end\n"
    assert clean_text(code, CleaningConfig()) == code


def test_each_rule_does_what_it_says():
    found = clean_text("a\x00b\x1b[0m\x93 \t\r\nc\rd\n\n\n\n\ne \t", CleaningConfig())
    assert found == "ab[0m\nc\nd\n\n\ne"
    composed = CleaningConfig(compose=True)
    assert clean_text("e\u0301", CleaningConfig()) == "e\u0301"
    assert clean_text("e\u0301", composed) == "\u00e9"
    with pytest.raises(UsageError, match="max_blank_lines"):
        CleaningConfig(max_blank_lines=-1)


def test_documents_of_white_space_are_empty():
    texts = pa.array(["", " \n\u3000", "a", "\u200b"], pa.large_string())
    assert is_empty(texts).tolist() == [True, True, False, False]
