# SPDX-License-Identifier: Apache-2.0
"""Added tokens that are text are found inside the graph as in `tokenizers`."""

import functools
import json

import pytest
import tensorflow as tf
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation.commands import UsageError
from preprocessing.tokenizer.pre_tokenizing import LLAMA3_PATTERN
from preprocessing.tokenizer.special_tokens import SpecialIds
from preprocessing.tokenizer.tokenizer import Tokenizer
from tests.family_tokenizers import ODD_TOKENS, family, pieces_of, plain, with_added
from tests.scripts_corpus import (
    gpt2_style_tokenizer,
    hostile_strings,
    reference,
    split_style_tokenizer,
)
from trainer.serving import id_law
from trainer.serving.graph_tokenizer import GraphTokenizer

FAMILIES = ("phi", "neox", "llama3", "qwen2", "olmo2", "smollm", "threes", "prefix")
FAMILIES = (*FAMILIES, "gpt2", "odd llama3", "odd nfc")
SIGNATURE = [tf.TensorSpec([None], tf.string)]


@functools.cache
def file_of(name: str) -> bytes:
    if name == "odd llama3":
        return with_added(split_style_tokenizer(LLAMA3_PATTERN), ODD_TOKENS)
    return family(name)


@functools.cache
def tokenizer_of(name: str) -> Tokenizer:
    return Tokenizer(file_of(name), name, SpecialIds(0, 1, 2))


@functools.cache
def encoder_of(name: str):
    graph = GraphTokenizer(tokenizer_of(name))
    return tf.function(graph.encode, input_signature=SIGNATURE, autograph=False)


@functools.cache
def loaded(name: str) -> tokenizers.Tokenizer:
    return reference(file_of(name))


def assert_law(name: str, texts: list[str]) -> None:
    found = encoder_of(name)(tf.constant(texts)).to_list()
    plain = [text.replace("\0", "") for text in texts]
    batch = loaded(name).encode_batch_fast(plain, add_special_tokens=False)
    for text, here, there in zip(texts, found, batch, strict=True):
        assert here == there.ids, ascii(text)


@pytest.mark.parametrize("name", FAMILIES)
def test_prompts_have_the_ids_of_tokenizers(name: str) -> None:
    piece = st.sampled_from(pieces_of(name))
    text = st.lists(piece, max_size=14).map("".join)

    @settings(deadline=None, max_examples=6, derandomize=True)
    @given(texts=st.lists(text, min_size=8, max_size=24))
    def law(texts: list[str]) -> None:
        assert_law(name, texts)

    law()
    assert_law(name, hostile_strings(seed=32, count=60))
    assert_law(name, [""])


def test_a_saved_model_gives_the_ids_and_the_text(tmp_path) -> None:
    class Service(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokenizer = GraphTokenizer(tokenizer_of("phi"))

        @tf.function(input_signature=SIGNATURE, autograph=False)
        def serve(self, prompt: tf.Tensor) -> dict[str, tf.Tensor]:
            ids = self.tokenizer.encode(prompt)
            return {"ids": ids.values, "text": self.tokenizer.decode(ids)}

    service = Service()
    tf.saved_model.save(service, str(tmp_path), signatures={"serve": service.serve})
    served = tf.saved_model.load(str(tmp_path)).signatures["serve"]
    texts = ["def f():\n        return 1\t\t# x", "   ", "", " " * 70 + "é"]
    answer = served(tf.constant(texts))
    wanted = [id for text in texts for id in loaded("phi").encode(text).ids]
    assert answer["ids"].numpy().tolist() == wanted
    assert answer["text"].numpy().tolist() == [text.encode() for text in texts]
    graph = service.serve.get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    ops = {node.op for node in nodes}
    assert {op for op in ops if "Table" in op or "PyFunc" in op} == set()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_law_that_releases_are_checked_by_tries_the_tokens(name: str) -> None:
    tried = []

    def encode(texts: list[str]) -> list[list[int]]:
        tried.extend(texts)
        return encoder_of(name)(tf.constant(texts)).to_list()

    count, complaint = id_law.difference(tokenizer_of(name), encode)
    assert complaint is None
    assert count == len(tried)
    token = max(tokenizer_of(name).bpe.text_tokens, default="")
    assert sum(token in text for text in tried) > 3


def test_more_tokens_than_an_expression_takes_are_refused() -> None:
    names = [f"<name {number}>" for number in range(4000)]
    data = with_added(gpt2_style_tokenizer(), plain(*names))
    tokenizer = Tokenizer(data, "f", SpecialIds(0, 1, 2))
    with pytest.raises(UsageError, match="added tokens of 42,890 bytes in all"):
        GraphTokenizer(tokenizer)


def test_a_token_of_text_that_is_an_entry_too_is_found_as_either() -> None:
    """As a token between other words, and as a whole word that skips the merges."""
    file = json.loads(gpt2_style_tokenizer())
    file["model"]["ignore_merges"] = True
    file["model"]["vocab"]["zqzq"] = len(file["model"]["vocab"])
    token = {"id": file["model"]["vocab"]["zqzq"], "content": "zqzq", "special": False}
    flags = {"single_word": True, "lstrip": False, "rstrip": False, "normalized": True}
    file["added_tokens"].append({**token, **flags})
    data = json.dumps(file).encode()
    texts = ["a zqzq b", "_zqzq b", "zqzqx", "zqzq", "1zqzq"]
    graph = GraphTokenizer(Tokenizer(data, "f", SpecialIds(0, 1, 2)))
    batch = reference(data).encode_batch_fast(texts)
    assert graph.encode(tf.constant(texts)).to_list() == [one.ids for one in batch]
