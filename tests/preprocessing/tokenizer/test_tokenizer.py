# SPDX-License-Identifier: Apache-2.0
import functools
import json
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.string_buffers import views
from preprocessing.tokenizer import byte_level, contested, gigatoken_engine
from preprocessing.tokenizer.encoding import contested_set
from preprocessing.tokenizer.pre_tokenizing import (
    GPT2_PATTERN,
    LLAMA3_PATTERN,
    QWEN2_PATTERN,
)
from preprocessing.tokenizer.special_tokens import SpecialIds
from preprocessing.tokenizer.tokenizer import Tokenizer, train
from tests.scripts_corpus import (
    changed,
    documents,
    gpt2_style_tokenizer,
    hostile_strings,
    reference,
    split_style_tokenizer,
)

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
NO_REGEX = {**BYTE_LEVEL, "use_regex": False}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@functools.cache
def own() -> Tokenizer:
    return Tokenizer(gpt2_style_tokenizer(), "own", SpecialIds(0, 1, 2))


def save(directory: Path, json_bytes: bytes) -> str:
    path = directory / "tokenizer.json"
    path.write_bytes(json_bytes)
    return str(path)


def parts(ids: np.ndarray, lengths: np.ndarray) -> list[list[int]]:
    return [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])]


def reference_ids(json_bytes: bytes, texts: list[str]) -> list[list[int]]:
    plain = [text.replace("\0", "") for text in texts]
    batch = reference(json_bytes).encode_batch(plain, add_special_tokens=False)
    return [encoding.ids for encoding in batch]


@settings(deadline=None, max_examples=200)
@given(st.lists(TEXTS, max_size=5))
def test_decoding_gives_back_every_text_but_for_nul(texts: list[str]) -> None:
    tokenizer = own()
    ids, lengths = tokenizer.encode_batch(texts)
    plain = "".join(text.replace("\0", "") for text in texts)
    assert tokenizer.decode(ids) == plain
    assert len(lengths) == len(texts)


def test_a_document_is_bos_ids_eos() -> None:
    texts = ["one two", "", "été \u088f", "\0", "last"]
    tokenizer = own()
    found = parts(*tokenizer.encode_documents(texts))
    plain = parts(*tokenizer.encode_batch(texts))
    assert found == [[0, *ids, 1] for ids in plain]


def test_without_bos_a_document_is_ids_eos() -> None:
    tokenizer = Tokenizer(gpt2_style_tokenizer(), "own", SpecialIds(None, 1, 0))
    ids, lengths = tokenizer.encode_documents(["", "a"])
    assert ids.tolist() == [1, *tokenizer.encode_batch(["a"])[0].tolist(), 1]
    assert lengths.tolist() == [1, 2]


def test_bytes_of_tokens_add_up_to_those_of_the_text() -> None:
    tokenizer = own()
    texts = documents(seed=7, count=50)
    ids, _ = tokenizer.encode_documents(texts)
    table = tokenizer.token_bytes()
    assert len(table) == tokenizer.vocab_size
    assert [table[special] for special in (0, 1, 2)] == [b"", b"", b""]
    assert b"".join(table[id] for id in ids) == "".join(texts).encode()


@pytest.mark.parametrize("place", [0, 2, 4])
def test_contested_documents_keep_their_place_in_a_batch(place: int) -> None:
    texts = ["zero", "one", "two", "three", "four"]
    texts[place] = "new letters \u088f\U0003250a and old"
    found = parts(*own().encode_batch(texts))
    assert found == reference_ids(gpt2_style_tokenizer(), texts)


def test_made_up_words_without_end_do_not_fill_the_memory() -> None:
    plain = byte_level.parse(gpt2_style_tokenizer(), "own").plain_json()
    engine = gigatoken_engine.GigatokenEngine(plain, cache_bytes=16 << 20)

    def encode(text: bytes) -> list[int]:
        data = np.frombuffer(text, np.uint8)
        return engine.encode(data, np.array([0, len(data)]))[0].tolist()

    rng = np.random.default_rng(0)
    known = b"some words that were seen before all others"
    wanted = encode(known)
    start = gigatoken_engine._resident_bytes()
    for _ in range(12):
        letters = rng.integers(ord("a"), ord("z") + 1, (200_000, 9), dtype=np.uint8)
        letters[:, 0] = ord(" ")
        encode(letters.tobytes())
    # 2.4 million words; without a limit they take 310 MB.
    assert gigatoken_engine._resident_bytes() - start < 120 << 20
    assert encode(known) == wanted


def test_arrow_arrays_are_encoded_like_lists() -> None:
    texts = documents(seed=8, count=20)
    tokenizer = own()
    wanted = parts(*tokenizer.encode_batch(texts))
    whole = pa.array(texts, pa.large_string())
    assert parts(*tokenizer.encode_batch(whole)) == wanted
    assert parts(*tokenizer.encode_batch(whole[5:11])) == wanted[5:11]
    assert parts(*tokenizer.encode_batch(pa.array(texts))) == wanted
    chunked = pa.chunked_array([texts[:7], texts[7:]], pa.string())
    assert parts(*tokenizer.encode_batch(chunked)) == wanted
    assert [len(array) for array in tokenizer.encode_batch(whole[:0])] == [0, 0]


def test_an_absent_text_is_refused() -> None:
    with pytest.raises(ValueError, match="found 1 missing"):
        own().encode_batch(pa.array(["a", None], pa.large_string()))


def test_the_normaliser_of_a_file_is_the_references_own() -> None:
    nfc = {"type": "Sequence", "normalizers": [{"type": "NFC"}]}
    data = changed(split_style_tokenizer(QWEN2_PATTERN), normalizer=nfc)
    tokenizer = Tokenizer(data, "qwen", SpecialIds(None, 1, 0))
    assert tokenizer.normalizer == "NFC"
    assert tokenizer.encoder.fallback_reason is None
    texts = hostile_strings(seed=5, count=6000) + documents(seed=5, count=200)
    found = parts(*tokenizer.encode_batch(texts))
    wanted = reference_ids(data, texts)
    assert [t for t, a, b in zip(texts, found, wanted, strict=True) if a != b] == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"pre_tokenizer": NO_REGEX}, "use_regex is false"),
        ({"normalizer": {"type": "NFKC"}}, "normaliser NFKC"),
    ],
)
def test_what_gigatoken_is_not_proven_for_goes_to_the_reference_aloud(
    fields: dict[str, object], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = changed(gpt2_style_tokenizer(), **fields)
    tokenizer = Tokenizer(data, "odd.json", SpecialIds(None, 1, 0))
    texts = hostile_strings(seed=6, count=200)
    with caplog.at_level(logging.WARNING):
        found = parts(*tokenizer.encode_batch(texts))
        tokenizer.encode_batch(texts)
    assert found == reference_ids(data, texts)
    assert len(caplog.records) == 1
    assert reason in caplog.text
    assert "odd.json" in caplog.text


def test_other_versions_than_the_measured_ones_are_measured_anew(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = []

    def probe(pattern: str) -> contested.Ranges:
        asked.append(pattern)
        return ((0x88F, 0x88F),)

    found = contested_set(GPT2_PATTERN, measured=("0.1.0", "0.23.3"), probe=probe)
    texts = pa.array(["a\u0890b", "a\u088fb"], pa.large_string())
    assert found.holders(*views(texts)).tolist() == [1]
    assert asked == [GPT2_PATTERN]
    installed, _ = contested.versions()
    assert f"gigatoken {installed} and" in caplog.text
    assert "holds for gigatoken 0.1.0" in caplog.text
    contested_set(GPT2_PATTERN, measured=contested.versions(), probe=probe)
    assert asked == [GPT2_PATTERN]  # not once more


def test_special_strings_stay_text_even_where_whole_words_skip_the_merges() -> None:
    file = json.loads(changed(gpt2_style_tokenizer(), pre_tokenizer=NO_REGEX))
    file["model"]["ignore_merges"] = True
    tokenizer = Tokenizer(json.dumps(file).encode(), "f", SpecialIds(0, 1, 2))
    ids, _ = tokenizer.encode_batch(["<|bos|>"])
    assert 0 not in ids
    assert tokenizer.decode(ids) == "<|bos|>"


def test_ignored_merges_are_encoded_as_the_reference_does() -> None:
    file = json.loads(split_style_tokenizer(LLAMA3_PATTERN))
    file["model"]["ignore_merges"] = True
    del file["model"]["merges"][-300:]
    data = json.dumps(file).encode()
    tokenizer = Tokenizer(data, "f", SpecialIds(0, 1, 2))
    assert tokenizer.encoder.fallback_reason is None
    texts = documents(seed=9, count=100) + hostile_strings(seed=9, count=1000)
    assert parts(*tokenizer.encode_batch(texts)) == reference_ids(data, texts)


def test_training_gives_the_same_bytes_in_any_order_of_texts() -> None:
    texts = documents(seed=3, count=80)
    assert train(texts, 600) == train(texts[::-1], 600)


def test_a_trained_file_opens_in_tokenizers_and_knows_every_byte(
    tmp_path: Path,
) -> None:
    path = save(tmp_path, train(["just a few words"], 300))
    tokenizer = Tokenizer.load(path)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (0, 1, 2)
    text = "any text: 日本語 \U0001f642 \x01"
    assert tokenizers.Tokenizer.from_file(path).decode(
        tokenizer.encode_batch([text])[0].tolist()
    ) == (text)
    assert {bytes([byte]) for byte in range(256)} <= set(tokenizer.token_bytes())


def test_a_vocabulary_too_small_for_the_bytes_is_refused() -> None:
    with pytest.raises(UsageError, match="259 or more"):
        train(["text"], 258)


def test_a_file_with_other_names_needs_flags_and_the_error_names_them(
    tmp_path: Path,
) -> None:
    data = gpt2_style_tokenizer().replace(b"<|eos|>", b"<|endoftext|>")
    path = save(tmp_path, data)
    with pytest.raises(UsageError, match=r"<\|endoftext\|>.*--eos_token NAME"):
        Tokenizer.load(path)
    with pytest.raises(UsageError, match=r"Did you mean <\|endoftext\|>\?"):
        Tokenizer.load(path, eos_token="<|end_of_text|>")
    tokenizer = Tokenizer.load(
        path, bos_token="none", eos_token="<|endoftext|>", pad_token="none"
    )
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (None, 1, 0)


def test_an_absent_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        Tokenizer.load(str(tmp_path / "none.json"))
    with pytest.raises(UsageError, match="is a directory"):
        Tokenizer.load(str(tmp_path))


def test_merges_without_entries_are_refused_before_any_work(tmp_path: Path) -> None:
    file = json.loads(gpt2_style_tokenizer())
    file["model"]["merges"].append(["qqq", "zzz"])
    with pytest.raises(UsageError, match="can load, found an error"):
        Tokenizer.load(save(tmp_path, json.dumps(file).encode()))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"type": "WordPiece"}, "a model of type WordPiece"),
        ({"dropout": 0.1}, "dropout=0.1"),
        ({"byte_fallback": True}, "byte_fallback"),
        ({"dropout": 0.1, "byte_fallback": False}, "dropout=0.1"),
        ({"end_of_word_suffix": "</w>"}, "end_of_word_suffix"),
        ({"vocab": {"a": 0}, "merges": []}, "255 of the 256 bytes"),
    ],
)
def test_other_models_are_refused_by_name(
    change: dict[str, object], named: str, tmp_path: Path
) -> None:
    file = json.loads(gpt2_style_tokenizer())
    file["model"].update(change)
    with pytest.raises(UsageError, match=named):
        Tokenizer.load(save(tmp_path, json.dumps(file).encode()))


def test_other_pre_tokenizers_are_refused_by_name(tmp_path: Path) -> None:
    steps = [{"type": "Whitespace"}, BYTE_LEVEL]
    sequence = {"type": "Sequence", "pretokenizers": steps}
    data = changed(gpt2_style_tokenizer(), pre_tokenizer=sequence)
    with pytest.raises(UsageError, match=r"pre-tokenizer Whitespace \+ ByteLevel"):
        Tokenizer.load(save(tmp_path, data))


METASPACE = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first"}
PREPEND = {"type": "Prepend", "prepend": "\u2581"}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
UNIGRAM = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0]]}
SPM_BPE = {"type": "BPE", "vocab": {"<0x00>": 0}, "merges": [], "byte_fallback": True}


@pytest.mark.parametrize(
    "fields",
    [
        {"model": SPM_BPE, "pre_tokenizer": METASPACE},
        {"model": SPM_BPE, "normalizer": REPLACE, "pre_tokenizer": None},
        {
            "model": {**SPM_BPE, "byte_fallback": False},
            "normalizer": {"type": "Sequence", "normalizers": [PREPEND, REPLACE]},
        },
        {"model": UNIGRAM, "pre_tokenizer": METASPACE},
    ],
)
def test_sentencepiece_files_are_refused_and_what_works_is_told(
    fields: dict[str, object], tmp_path: Path
) -> None:
    """As Mistral's, Gemma's, Llama 2's and T5's are."""
    file = {"version": "1.0", "added_tokens": [], "normalizer": None, **fields}
    with pytest.raises(UsageError, match="load, but their text cannot be prepared"):
        Tokenizer.load(save(tmp_path, json.dumps(file).encode()))


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"model": 3}', b"\xff\xfe"])
def test_what_is_no_tokenizer_file_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"wanted a Hugging Face tokenizer\.json"):
        Tokenizer.load(save(tmp_path, data))
