# SPDX-License-Identifier: Apache-2.0
"""Added tokens that are text have the ids that `tokenizers` gives them."""

import functools
import json
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from preprocessing.foundation.commands import UsageError
from preprocessing.tokenizer import byte_level
from preprocessing.tokenizer.added_tokens import WHITE_SPACE, word_characters
from preprocessing.tokenizer.encoding import Encoder
from preprocessing.tokenizer.special_tokens import (
    SpecialIds,
    find_fim_ids,
    find_sentinel_ids,
    find_special_ids,
)
from preprocessing.tokenizer.tokenizer import Tokenizer
from tests.family_tokenizers import (
    NEOX_RUNS,
    family,
    pieces_of,
    plain,
    with_added,
)
from tests.scripts_corpus import (
    changed,
    documents,
    gpt2_style_tokenizer,
    hostile_strings,
    reference,
)

PUBLISHED = ("neox", "olmo", "phi", "llama3", "qwen2", "olmo2", "smollm", "gpt2")
FAMILIES = (*PUBLISHED, "prefix", "threes", "odd", "odd nfc")


@functools.cache
def tokenizer_of(json_bytes: bytes) -> Tokenizer:
    return Tokenizer(json_bytes, "tokenizer.json", SpecialIds(0, 1, 2))


def texts_of(name: str) -> st.SearchStrategy[list[str]]:
    piece = st.sampled_from(pieces_of(name))
    text = st.lists(piece, max_size=14).map("".join)
    return st.lists(text, min_size=1, max_size=8)


def parts(ids: np.ndarray, lengths: np.ndarray) -> list[list[int]]:
    return [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])]


@functools.cache
def loaded(json_bytes: bytes) -> tokenizers.Tokenizer:
    return reference(json_bytes)


def reference_ids(json_bytes: bytes, texts: list[str]) -> list[list[int]]:
    plain = [text.replace("\0", "") for text in texts]
    batch = loaded(json_bytes).encode_batch_fast(plain, add_special_tokens=False)
    return [encoding.ids for encoding in batch]


def assert_law(json_bytes: bytes, texts: list[str]) -> None:
    found = parts(*tokenizer_of(json_bytes).encode_batch(texts))
    for text, here, wanted in zip(
        texts, found, reference_ids(json_bytes, texts), strict=True
    ):
        assert here == wanted, ascii(text)


@pytest.mark.smoke
@pytest.mark.parametrize("name", FAMILIES)
def test_texts_have_the_ids_of_tokenizers(name: str) -> None:
    """On the fast path, in texts of code and in runs at starts and ends."""
    assert tokenizer_of(family(name)).encoder.fallback_reason is None

    @settings(deadline=None, max_examples=30, derandomize=True)
    @given(texts=texts_of(name))
    def law(texts: list[str]) -> None:
        assert_law(family(name), texts)

    law()


@pytest.mark.parametrize("name", FAMILIES)
def test_hostile_strings_and_documents_have_the_ids_of_tokenizers(name: str) -> None:
    assert_law(family(name), hostile_strings(seed=31, count=300))
    assert_law(family(name), documents(seed=31, count=40))


def test_runs_of_spaces_are_one_id_each() -> None:
    tokenizer = tokenizer_of(family("neox"))
    ids, _ = tokenizer.encode_batch(["if x:\n        y"])
    run = tokenizer.bpe.added[" " * 8]
    assert ids.tolist().count(run) == 1
    longest = tokenizer.bpe.added[" " * 24]
    ids, lengths = tokenizer.encode_batch([" " * 50, " " * 24])
    assert ids.tolist() == [longest, longest, tokenizer.bpe.added["  "], longest]
    assert lengths.tolist() == [3, 1]


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from(PUBLISHED))
def test_ids_decode_to_the_text(data: st.DataObject, name: str) -> None:
    tokenizer = tokenizer_of(family(name))
    (text,) = data.draw(texts_of(name).map(lambda texts: texts[:1]))
    text = text.replace("\0", "")
    if tokenizer.normalizer == "NFC":
        text = unicodedata.normalize("NFC", text)
    ids, _ = tokenizer.encode_documents([text])
    assert tokenizer.decode(ids) == text
    if name != "llama3":  # `tokenizers` takes the characters of "Ġtool" for bytes
        assert loaded(family(name)).decode(ids.tolist()) == text
    table = tokenizer.token_bytes()
    assert sum(len(table[id]) for id in ids) == len(text.encode())


@pytest.mark.parametrize("name", FAMILIES)
def test_pieces_of_long_texts_have_the_ids_of_the_whole(name: str) -> None:
    """Cuts fall beside tokens, never into one, and where a token looks around none."""
    bpe = byte_level.parse(family(name), name)
    in_pieces = Encoder(bpe, name, long_bytes=9)

    @settings(deadline=None, max_examples=25, derandomize=True)
    @given(texts=texts_of(name))
    def law(texts: list[str]) -> None:
        texts = [*texts, "".join(texts)]
        found = in_pieces.encode(pa.array(texts, pa.large_string()))
        assert parts(*found) == reference_ids(family(name), texts)

    law()


def test_a_token_that_spans_a_place_to_cut_is_found_in_a_long_text() -> None:
    data = with_added(gpt2_style_tokenizer(), plain("one two", "a\nb", "\n\n\n"))
    encoder = Encoder(byte_level.parse(data, "f"), "f", long_bytes=4)
    texts = ["x one two y", "xa\nbx", "a\n\n\n\nb  c", "one  two"]
    found = parts(*encoder.encode(pa.array(texts, pa.large_string())))
    assert found == reference_ids(data, texts)


def test_tokens_at_the_ends_of_documents_stay_theirs() -> None:
    tokenizer = tokenizer_of(family("neox"))
    texts = ["a   ", "   b", "", "    ", "c"]
    found = parts(*tokenizer.encode_documents(texts))
    wanted = reference_ids(family("neox"), texts)
    assert found == [[0, *ids, 1] for ids in wanted]


def test_special_strings_are_text_and_no_like_token_is_within_them() -> None:
    tokens = plain("eos", "|>x", "<|bo", normalized=False)
    data = with_added(gpt2_style_tokenizer(), tokens)
    texts = ["<|eos|> eos", "<|eos|>x", "<|bos|>", "<|bo <|eos"]
    tokenizer = tokenizer_of(data)
    assert_law(data, texts)
    ids, _ = tokenizer.encode_batch(texts)
    assert not {0, 1, 2} & set(ids.tolist())
    assert tokenizer.decode(ids) == "".join(texts)
    ids, _ = tokenizer.encode_batch(["<|eos|>x"])
    assert tokenizer.bpe.added["|>x"] not in ids


@pytest.mark.parametrize(
    "fields",
    [
        {"pre_tokenizer": {"type": "ByteLevel", "use_regex": False}},
        {"normalizer": {"type": "NFKC"}},
        {"normalizer": {"type": "Lowercase"}},
    ],
)
def test_files_for_the_reference_alone_keep_their_tokens(
    fields: dict[str, dict[str, object]],
) -> None:
    for part in fields.values():
        part.setdefault("trim_offsets", True)
        part.setdefault("use_regex", True)
        part.setdefault("add_prefix_space", False)
    tokens = (*plain(*NEOX_RUNS, "Ab"), AddedToken("Cd", normalized=False))
    data = with_added(gpt2_style_tokenizer(), tokens, **fields)
    texts = ["if x:\n        y  Ab cd", "AbCd   é", "  ", "<|eos|>"]
    assert tokenizer_of(data).encoder.fallback_reason is not None
    assert_law(data, texts)


def test_whole_words_that_skip_the_merges_are_as_in_tokenizers() -> None:
    """Special entries of the vocabulary stay hidden and move no other id."""
    file = json.loads(gpt2_style_tokenizer())
    file["model"]["ignore_merges"] = True
    file["pre_tokenizer"]["use_regex"] = False
    data = with_added(json.dumps(file).encode(), plain("  ", "zq"))
    tokenizer = tokenizer_of(data)
    found = parts(*tokenizer.encode_batch(["<|bos|>", "a  b", "zq"]))
    assert 0 not in found[0]
    assert tokenizer.decode(found[0]) == "<|bos|>"
    assert found[1:] == reference_ids(data, ["a  b", "zq"])


def test_white_space_beside_a_token_is_what_tokenizers_takes() -> None:
    data = with_added(gpt2_style_tokenizer(), (AddedToken("QZ", lstrip=True),))
    points = [*range(1, 0x3100), *range(0xFE00, 0x10000), *range(0x10000, 0x110000, 89)]
    batch = loaded(data).encode_batch_fast([f"{chr(point)}QZ" for point in points])
    pairs = zip(points, batch, strict=True)
    assert {point for point, found in pairs if len(found.ids) == 1} == WHITE_SPACE


def test_words_end_where_tokenizers_ends_them() -> None:
    data = with_added(gpt2_style_tokenizer(), (AddedToken("QZ", single_word=True),))
    id = tokenizer_of(data).bpe.added["QZ"]
    points = [p for p in range(1, 0x110000, 97) if not 0xD800 <= p < 0xE000]
    points += [*range(1, 0x250), 0x200C, 0x200D, 0x203F, 0x661, 0xBD, 0x300, 0x88F]
    texts = [f"{chr(point)}QZ" for point in points]
    wanted = {
        point
        for point, found in zip(points, reference_ids(data, texts), strict=True)
        if id not in found
    }
    assert wanted == word_characters() & set(points)


def refused(tokens: tuple[AddedToken, ...], match: str, **ids: int) -> None:
    file = json.loads(with_added(gpt2_style_tokenizer(), tokens))
    for token in file["added_tokens"]:
        token["id"] = ids.get(token["content"], token["id"])
    with pytest.raises(UsageError, match=match):
        tokenizer_of(json.dumps(file).encode()).encoder  # noqa: B018


def test_tokens_that_cannot_be_honoured_are_refused() -> None:
    refused(plain("zq"), "wanted id 3000, .* 'zq' in .* found 3005", zq=3005)
    refused(plain("é"), r"found id \d+ for the added token 'é' and for the bytes")
    blank = AddedToken("  ", lstrip=True)
    taking = AddedToken("zq", rstrip=True)
    refused((taking, blank), "'zq' with rstrip, which takes '  ' with lstrip")


def test_a_missing_mark_is_looked_for_among_the_special_tokens_alone() -> None:
    bpe = byte_level.parse(family("neox"), "f")
    with pytest.raises(UsageError) as refusal:
        find_special_ids(bpe, "f", None, "<|eot|>", None)
    assert str(refusal.value).endswith("are <|bos|>, <|eos|>, <|pad|>")


def test_marks_are_no_tokens_of_text() -> None:
    """A document that holds them could not be told from what the mark tells."""
    data = gpt2_style_tokenizer()
    file = json.loads(data)
    for token in file["added_tokens"]:
        token["special"] = False
    with pytest.raises(UsageError, match=r"wanted <\|bos\|> in f to be special"):
        find_special_ids(
            byte_level.parse(changed(data, **file), "f"), "f", None, None, None
        )
    names = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|sentinel_0|>")
    bpe = byte_level.parse(with_added(data, plain(*names)), "f")
    with pytest.raises(UsageError, match=r"<\|fim_prefix\|> in f to be special"):
        find_fim_ids(bpe, "f", names[:3])
    with pytest.raises(UsageError, match=r"<\|sentinel_0\|> in f to be special"):
        find_sentinel_ids(bpe, "f", "<|sentinel_{}|>")
    assert find_special_ids(bpe, "f", None, None, "<|fim_prefix|>").pad_id == 3000
