# SPDX-License-Identifier: Apache-2.0
"""Words: examples of every clause of their definition, and laws for any text."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.rules.measures import characters, words
from preprocessing.rules.measures.views import view
from preprocessing.rules.measures.words import HAS_LETTER, ONLY_PUNCTUATION

# Marks, letters of several scripts, and white space that only Unicode knows.
TEXTS = st.text(
    st.sampled_from("abcZ09 .,-–'’\"/:@#$%+=…()\n\t\u2003\u3000éЖ你。、🙂\u0301")
    | st.characters(exclude_categories=("Cs",)),
    max_size=60,
)


def batch(*texts):
    return pa.array(texts, pa.large_string())


def words_of(text):
    seen, found = words.of_batch(batch(text))
    spans = zip(found.spans.starts, found.spans.ends, strict=True)
    return [bytes(seen.data[start:end]).decode() for start, end in spans]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Hello, world!", "Hello|,|world|!"),
        ('("fine")... ***', '(|"|fine|"|)|...|*|*|*'),
        ("Ends. J. Doe, U.S. i.e. 5. ABC.", "Ends|.|J.|Doe|,|U.S.|i.e.|5|.|ABC|."),
        ("it's don't we'll They’ve I'm", "it|'s|do|n't|we|'ll|They|’ve|I|'m"),
        ("$5 5$ 50% C++ +1 =x", "$|5|5|$|50|%|C++|+1|=|x"),
        ("well-off 10-12 covid-19 a--b", "well|-|off|10|-|12|covid-19|a|--|b"),
        ("a,b a,5 1,000 usr/share x=y", "a|,|b|a,5|1,000|usr|/|share|x|=|y"),
        ("end.Start end.start", "end|.|Start|end.start"),
        ("http://a.com/b-c x-y@z.org a-b.com/c-d", "http://a.com/b-c|x-y@z.org|a-b.com/c-d"),
        ("so…on ☃x☃y", "so|…|on|☃|x|☃|y"),
        ("«oui» „ja“ 「はい」", "«|oui|»|„|ja|“|「|はい|」"),
        ("你好，世界。谢谢 เสียง", "你好|，|世界|。|谢谢|เสียง"),
        ("a\u2003b\u3000c\x1cd", "a|b|c|d"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_text_is_cut_into_words_as_defined(text, wanted):
    assert words_of(text) == [word for word in wanted.split("|") if word]


@settings(deadline=None)
@given(text=TEXTS)
def test_words_leave_out_white_space_and_nothing_else(text):
    assert "".join(words_of(text)) == "".join(text.split())


@settings(deadline=None)
@given(left=TEXTS, right=TEXTS)
def test_words_do_not_depend_on_what_white_space_separates(left, right):
    assert words_of(f"{left} {right}") == words_of(left) + words_of(right)


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(TEXTS, max_size=5))
def test_documents_of_a_batch_have_the_words_they_have_alone(texts):
    sliced = batch("not seen", *texts).slice(1)
    seen, found = words.of_batch(sliced)
    spans = found.spans
    everything = [
        bytes(seen.data[start:end]).decode()
        for start, end in zip(spans.starts, spans.ends, strict=True)
    ]
    alone = [words_of(text) for text in texts]
    assert np.diff(spans.first).tolist() == [len(found) for found in alone]
    assert everything == [word for found in alone for word in found]


@settings(deadline=None)
@given(text=TEXTS)
def test_facts_of_a_word_are_those_python_finds_in_its_characters(text):
    flags = characters.table()
    _, found = words.of_batch(batch(text))
    expected = [
        (
            len(word),
            (HAS_LETTER if any(c.isalpha() for c in word) else 0)
            + (
                ONLY_PUNCTUATION
                if all(flags[ord(c)] & characters.PUNCTUATION for c in word)
                else 0
            ),
        )
        for word in words_of(text)
    ]
    assert list(zip(found.lengths, found.kinds, strict=True)) == expected


def test_the_table_knows_white_space_and_letters_as_python_does():
    flags = characters.table()
    every = [chr(code) for code in range(len(flags))]
    spaces = [character.isspace() for character in every]
    letters = [character.isalpha() for character in every]
    assert ((flags & characters.SPACE) > 0).tolist() == spaces
    assert ((flags & characters.LETTER) > 0).tolist() == letters


def test_159_characters_of_all_scripts_end_a_sentence():
    codes = characters.terminal_codes()
    assert len(set(codes.tolist())) == 159
    assert {ord(mark) for mark in ".!?。؟।።"} <= set(codes.tolist())
    assert not {ord(mark) for mark in ",;:…'"} & set(codes.tolist())


def test_the_words_of_the_same_batch_are_found_once():
    texts = batch("one two", "three")
    assert words.of_batch(texts)[1] is words.of_batch(texts)[1]
    assert words.of_batch(batch("one two", "three"))[1].spans.first.tolist() == [
        0,
        2,
        3,
    ]


@pytest.mark.parametrize(
    ("text", "limit", "judged"),
    [
        ("ab\ncd\nef", 7, "ab\ncd\n"),
        ("ab\ncd\nef", 8, "ab\ncd\nef"),
        ("abcdef", 4, "abcd"),
        ("aéé", 4, "aé"),
        ("你好", 5, "你"),
    ],
)
def test_a_long_document_is_judged_up_to_its_last_line_end_or_character(
    text, limit, judged
):
    seen = view(batch("x", text, "y"), limit)
    assert bytes(seen.data[seen.starts[1] : seen.ends[1]]).decode() == judged
    assert (seen.ends - seen.starts)[[0, 2]].tolist() == [1, 1]
