# SPDX-License-Identifier: Apache-2.0
"""C4's rules do to bytes what the published readings of them do to strings."""

import dataclasses
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.rules.c4 import DATATROVE, TFDS, C4Thresholds, judge
from preprocessing.rules.measures.sentences import count_sentences

CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
WORDS = st.sampled_from(["it", "so.", 'why?"', "don't'", "É日.", "a" * 12, "😀" * 12])
PARTS = st.sampled_from(
    ["[1]", "[]", "[٣]", "[²]", "[edit]", "[citation needed]", "[", "]", "[2].", "..."]
) | st.sampled_from(
    [
        "JavaScript",
        "LOREM ipsum",
        "{",
        "Coo\u212aie Policy",
        "use cookies",
        "uses cooKies",
    ]
)
SPACES = st.sampled_from([" ", " ", "", "\t", "\u3000", "\xa0", "\u2003 ", "\x1f"])
ENDS = st.sampled_from(["\n", "\r\n", "\r", "\x85", "\u2028", "\x0b", "\x1c", ".\n"])
PIECES = st.tuples(st.one_of(WORDS, WORDS, WORDS, PARTS), SPACES).map("".join)
LINES = st.tuples(SPACES, st.lists(PIECES, max_size=5).map("".join), ENDS).map("".join)
TEXTS = st.lists(LINES, max_size=5).map("".join)
SWITCH = st.integers(0, 1)
THRESHOLDS = st.builds(
    C4Thresholds,
    min_words=st.integers(0, 3),
    min_sentences=st.sampled_from([0, 0, 0, 1, 3]),
    max_word_chars=st.sampled_from([0, 11, 12, 1000]),
    max_page_chars=st.sampled_from([0, 190_000, 190_000, 40]),
    terminal_punctuation=SWITCH,
    apostrophe_ends=SWITCH,
    citations=SWITCH,
    cited_words=SWITCH,
    lorem_ipsum=SWITCH,
    curly_bracket=SWITCH,
    javascript=SWITCH,
    policy=SWITCH,
)


def arrow(*texts):
    return pa.array(texts, pa.large_string())


def sentences(line):
    data = np.frombuffer(line.encode(), np.uint8)
    return count_sentences(data, 0, len(data))


def line_by_line(text, rules):
    """Returns (text, check that fails), over Python strings and one line at a time."""
    ends = (".", "?", "!", '"') + ("'",) * rules.apostrophe_ends
    kept, count = [], 0
    if 0 < rules.max_page_chars < len(text):
        return None, "max_page_chars"
    for line in map(str.strip, text.splitlines()):
        words = line.split()
        if 0 < rules.max_word_chars < max(map(len, words), default=0):
            continue
        line = CITATION.sub("", line) if rules.citations else line
        words = words if rules.cited_words else line.split()
        open_ended = not line.endswith(ends) or line.endswith("...")
        if len(words) < rules.min_words or (rules.terminal_punctuation and open_ended):
            continue
        small = line.lower()
        if rules.lorem_ipsum and "lorem ipsum" in small:
            return None, "lorem_ipsum"
        if rules.javascript and "javascript" in small:
            continue
        if rules.curly_bracket and "{" in line:
            return None, "curly_bracket"
        if rules.policy and any(phrase in small for phrase in POLICIES):
            continue
        count += sentences(line)
        kept.append(line)
    if count < rules.min_sentences:
        return None, "min_sentences"
    return "\n".join(kept).strip(), None


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(TEXTS, max_size=4), rules=THRESHOLDS, skip=st.integers(0, 2))
def test_judging_bytes_in_bulk_is_judging_strings_line_by_line(texts, rules, skip):
    batch = arrow(*["skipped"] * skip, *texts)[skip:]
    judged = judge(batch, rules)
    wanted = [line_by_line(text, rules) for text in texts]
    failed = {failure.place: failure.check for failure in judged.failures}
    assert failed == {place: check for place, (_, check) in enumerate(wanted) if check}
    assert list(failed) == sorted(failed)
    left = judged.texts.to_pylist()
    for place, (text, check) in enumerate(wanted):
        assert check is not None or left[place] == text


def test_the_two_readings_of_c4_differ_where_they_are_known_to():
    line = "He came 'so he said.'"
    page = arrow("\n".join(["One two three four five."] * 3), "\n".join([line] * 5))
    by_tfds, by_datatrove = judge(page, TFDS), judge(page, DATATROVE)
    assert [(f.place, f.check, f.value) for f in by_tfds.failures] == [
        (1, "min_sentences", 0)
    ]
    assert [(f.place, f.value, f.threshold) for f in by_datatrove.failures] == [
        (0, 3, 5)
    ]
    cited = arrow("Two words [1] [2].")
    few = {"min_sentences": 1, "min_words": 4}
    assert judge(cited, dataclasses.replace(TFDS, **few)).failures
    assert not judge(cited, dataclasses.replace(DATATROVE, **few)).failures


def test_pages_that_keep_all_their_lines_are_given_back_uncopied():
    texts = arrow(
        "It is a line of words.\nIt is one line more!", "And here is one more."
    )
    assert judge(texts, dataclasses.replace(TFDS, min_sentences=1)).texts is texts


def test_sentences_counted_elsewhere_decide():
    texts = arrow("It is a line of words.", "It is a line of words.", "{ a b c d e.")
    failures = judge(texts, TFDS, np.array([3, 2, 9])).failures
    assert [(f.place, f.check) for f in failures] == [
        (1, "min_sentences"),
        (2, "curly_bracket"),
    ]
    assert failures[0].value == 2


@pytest.mark.parametrize(("chars", "rejected"), [(190_000, 0), (190_001, 1)])
def test_a_page_may_have_190_000_characters(chars, rejected):
    page = ("é. " * (chars // 3)).ljust(chars, "é")
    rules = dataclasses.replace(TFDS, terminal_punctuation=0)
    failures = judge(arrow(page, "é" * 95_001), rules).failures
    long = [f for f in failures if f.check == "max_page_chars"]
    assert [f.value for f in long] == [190_001] * rejected
