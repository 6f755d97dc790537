# SPDX-License-Identifier: Apache-2.0
"""ids(graph(raw prompt)) = ids(corpus(raw document)) = ids(`tokenizers`(text))."""

import functools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.tokenizer.pre_tokenizing import (
    GPT2_PATTERN,
    LLAMA3_PATTERN,
    O200K_PATTERN,
)
from preprocessing.tokenizer.tokenizer import Tokenizer
from tests import scripts_corpus
from trainer.serving.graph_tokenizer import GraphTokenizer

PATTERNS = {"gpt2": GPT2_PATTERN, "llama3": LLAMA3_PATTERN, "o200k": O200K_PATTERN}
STYLES = ("gpt2", "llama3")


@functools.cache
def _file(style: str) -> bytes:
    if style == "gpt2":
        return scripts_corpus.gpt2_style_tokenizer()
    return scripts_corpus.split_style_tokenizer(PATTERNS[style])


def _load(directory: Path, style: str) -> Tokenizer:
    path = directory / "tokenizer.json"
    path.write_bytes(_file(style))
    return Tokenizer.load(str(path))


def _graph_ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    graph = GraphTokenizer(tokenizer)
    signature = [tf.TensorSpec([None], tf.string)]
    encode = tf.function(graph.encode, input_signature=signature, autograph=False)
    return encode(tf.constant(texts)).to_list()


def _corpus_ids(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    ids, lengths = tokenizer.encode_batch(texts)
    return [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])]


def _reference_ids(style: str, texts: list[str]) -> list[list[int]]:
    plain = [text.replace("\0", "") for text in texts]
    batch = scripts_corpus.reference(_file(style)).encode_batch_fast(
        plain, add_special_tokens=False
    )
    return [encoding.ids for encoding in batch]


def _assert_law(tokenizer: Tokenizer, style: str, texts: list[str]) -> None:
    assert tokenizer.encoder.fallback_reason is None
    wanted = _reference_ids(style, texts)
    for found in (_corpus_ids(tokenizer, texts), _graph_ids(tokenizer, texts)):
        wrong = [i for i in range(len(texts)) if found[i] != wanted[i]]
        assert not wrong, [ascii(texts[i]) for i in wrong[:3]]


@pytest.mark.smoke
@pytest.mark.parametrize("style", STYLES)
def test_documents_in_many_scripts_have_one_encoding(
    style: str, tmp_path: Path
) -> None:
    texts = scripts_corpus.documents(seed=2, count=2000)
    assert sum(not text.isascii() for text in texts) >= 1000
    assert len(scripts_corpus.SENTENCES) >= 10
    tokenizer = _load(tmp_path, style)
    _assert_law(tokenizer, style, texts)
    _, lengths = tokenizer.encode_batch(texts)
    # The documents put the merges to use: 4 bytes a token or more.
    assert sum(len(text.encode()) for text in texts) > 4 * lengths.sum()


@pytest.mark.parametrize("style", STYLES)
def test_hostile_strings_have_one_encoding(style: str, tmp_path: Path) -> None:
    texts = scripts_corpus.hostile_strings(seed=3, count=20_000)
    _assert_law(_load(tmp_path, style), style, texts)


def test_cased_patterns_have_one_encoding(tmp_path: Path) -> None:
    texts = scripts_corpus.hostile_strings(seed=4, count=3000)
    texts += scripts_corpus.documents(seed=5, count=300)
    _assert_law(_load(tmp_path, "o200k"), "o200k", texts)
