# SPDX-License-Identifier: Apache-2.0
"""A huge text is cut only where its pieces encode to the ids of the whole."""

import functools
import itertools

import numpy as np
import pyarrow as pa
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation import long_texts
from preprocessing.foundation.long_texts import pretoken_cuts
from preprocessing.tokenizer import byte_level, contested, encoding
from preprocessing.tokenizer.pre_tokenizing import GPT2_PATTERN, QWEN2_PATTERN
from tests.scripts_corpus import (
    SPACES,
    changed,
    documents,
    gpt2_style_tokenizer,
    hostile_strings,
    reference,
    split_style_tokenizer,
)

PIECES = st.sampled_from(
    ["a", "Ab", "'s", "'LL", "'ſ", "123", "4567", "½", "١٢", "!", "/", "//", "?!", "é"]
) | st.sampled_from(
    ["日本", "。", "、", "的", "и", "क्", "e\u0301", "\u0301", "🙂", "\0", "\x7f", "’"]
)
BLANKS = st.sampled_from([" ", " ", "\n", "\n", "\r", "\t", "  ", *SPACES])
TEXTS = st.lists(PIECES | BLANKS | PIECES, max_size=16).map("".join)


def as_bytes(text):
    return np.frombuffer(text.encode(), np.uint8)


def pieces(text, most):
    data = as_bytes(text)
    edges = [0, *pretoken_cuts(data, most).tolist(), len(data)]
    return [data[a:b].tobytes().decode() for a, b in itertools.pairwise(edges)]


def words_by(pattern):
    if pattern == GPT2_PATTERN:
        byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        return lambda text: [word for word, _ in byte_level.pre_tokenize_str(text)]
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    return lambda text: [word for word, _ in split.pre_tokenize_str(text)]


WORDS_BY = {pattern: words_by(pattern) for pattern in contested.PATTERNS}


def check_words(text):
    parts = pieces(text, 1)
    for pattern, words in WORDS_BY.items():
        apart = [word for part in parts for word in words(part)]
        assert apart == words(text), (pattern, parts)
    return len(parts)


@settings(max_examples=200, deadline=None)
@given(text=TEXTS)
def test_every_cut_leaves_the_words_of_all_patterns_as_they_are(text):
    check_words(text)


def test_no_string_of_five_letters_digits_marks_and_blanks_is_cut_in_a_word():
    for characters in itertools.product("a1/! \n", repeat=5):
        check_words("".join(characters))


def test_texts_of_all_scripts_are_cut_often_and_keep_their_words():
    cut = sum(check_words(text) > 1 for text in documents(seed=5, count=60))
    assert cut > 50
    for text in hostile_strings(seed=5, count=300):
        check_words(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("one two\tthree", ["one", " two", "\tthree"]),
        ("a  b", ["a", "  b"]),
        ("a\nb\n\nc", ["a\n", "b\n\nc"]),
        ("a\n/b\n c", ["a\n/b\n c"]),
        ("字。\n字", ["字。\n", "字"]),
        (
            "a\u3000 b\u2003 c\u200b d\ufeff e\u180e f",
            ["a\u3000 b\u2003 c\u200b d\ufeff e\u180e f"],
        ),
    ],
)
def test_places_to_cut_are_those_that_are_proven(text, wanted):
    assert pieces(text, 1) == wanted


@given(text=TEXTS, most=st.integers(1, 30))
def test_pieces_are_as_long_as_asked_unless_no_place_is_safe(text, most):
    everywhere = np.cumsum([len(part.encode()) for part in pieces(text, 1)]).tolist()
    start, end = 0, len(text.encode())
    for part in pieces(text, most):
        stop = start + len(part.encode())
        near = [place for place in everywhere if start < place <= start + most]
        far = [place for place in everywhere if place > start + most]
        wanted = end if end - start <= most else near[-1] if near else far[0]
        assert stop == wanted
        start = stop


def test_a_text_without_a_safe_place_is_one_piece_and_a_far_one_is_found():
    assert len(pieces("日" * 40_000, 1000)) == 1
    assert [len(part) for part in pieces("x" * 50_000 + " " + "y" * 20_000, 9)] == [
        50_000,
        20_001,
    ]


@pytest.mark.parametrize("pattern", contested.PATTERNS)
def test_ids_of_huge_texts_are_those_of_tokenizers(pattern):
    file = (
        gpt2_style_tokenizer()
        if pattern == GPT2_PATTERN
        else split_style_tokenizer(pattern)
    )
    if pattern == QWEN2_PATTERN:
        file = changed(file, normalizer={"type": "NFC"})
    bpe = byte_level.parse(file, "a test")
    encoder = encoding.Encoder(bpe, "a test", long_bytes=100)
    texts = [*documents(seed=7, count=20), *hostile_strings(seed=7, count=60), ""]
    wanted = [reference(file).encode(text.replace("\0", "")).ids for text in texts]
    for fast in (True, False):
        if not fast:
            encoder._fast = None
        ids, lengths = encoder.encode(pa.array(["x", *texts], pa.large_string())[1:])
        assert lengths.tolist() == [len(part) for part in wanted]
        assert ids.tolist() == [id_ for part in wanted for id_ in part]


def test_a_pattern_that_is_not_known_is_never_cut_by():
    file = split_style_tokenizer(r"[a-z]+ [a-z]+|.")
    bpe = byte_level.parse(file, "a test")
    encoder = encoding.Encoder(bpe, "a test", long_bytes=1)
    text = "all the kings men and all"
    ids, _ = encoder.encode(pa.array([text], pa.large_string()))
    assert ids.tolist() == reference(file).encode(text).ids


@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(st.lists(PIECES, max_size=20).map(" ".join), max_size=5),
    most=st.sampled_from([1, 2, 5, 12, 30]),
    bos=st.sampled_from([None, 1]),
)
def test_what_is_around_a_document_is_around_a_huge_one_once(texts, most, bos):
    frame, plain = encoding.Frame(bos, 2, np.uint16), own_encoder().encode
    array = pa.array(["x", *texts], pa.large_string())[1:]
    wanted = [
        [*([] if bos is None else [bos]), *plain(array[at : at + 1])[0].tolist(), 2]
        for at in range(len(texts))
    ]
    ids, lengths = own_encoder(most).encode(array, frame)
    assert ids.dtype == np.uint16
    assert lengths.tolist() == [len(each) for each in wanted]
    assert ids.tolist() == [id_ for each in wanted for id_ in each]


@functools.cache
def own_encoder(long_bytes=long_texts.LONG_BYTES):
    bpe = byte_level.parse(gpt2_style_tokenizer(), "a test")
    return encoding.Encoder(bpe, "a test", long_bytes)
