# SPDX-License-Identifier: Apache-2.0
import functools
import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation.commands import UsageError
from preprocessing.tokenizer.byte_level import CHARACTER_OF_BYTE
from preprocessing.tokenizer.pre_tokenizing import (
    CL100K_PATTERN,
    LLAMA3_PATTERN,
    QWEN2_PATTERN,
    TEKKEN_PATTERN,
    pre_tokenizer_json,
)
from preprocessing.tokenizer.special_tokens import SpecialIds
from preprocessing.tokenizer.tokenizer import Tokenizer
from tests.scripts_corpus import (
    changed,
    documents,
    gpt2_style_tokenizer,
    hostile_strings,
    split_style_tokenizer,
)
from trainer.serving.graph_tokenizer import GraphTokenizer
from trainer.serving.sentencepiece_proto import InexactMerges, scored_pieces

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
NO_REGEX = {**BYTE_LEVEL, "use_regex": False}
# The core operations and the two of SentencePiece that TF Serving 2.16 links.
SENTENCEPIECE_OPS = {"SentencepieceOp", "SentencepieceTokenizeOp"}


@functools.cache
def tokenizer_of(data: bytes) -> Tokenizer:
    return Tokenizer(data, "tokenizer.json", SpecialIds(0, 1, 2))


@functools.cache
def own_graph() -> GraphTokenizer:
    return GraphTokenizer(tokenizer_of(gpt2_style_tokenizer()))


def with_model(data: bytes, **fields: object) -> bytes:
    file = json.loads(data)
    return changed(data, model={**file["model"], **fields})


def handmade(merges: list[tuple[str, str]], **options: object) -> Tokenizer:
    """A tokenizer that cuts no words and has just these merges."""
    vocab = {CHARACTER_OF_BYTE[byte]: byte for byte in range(256)}
    for left, right in merges:
        vocab.setdefault(left + right, len(vocab))
    model = {"type": "BPE", "vocab": vocab, "merges": merges, **options}
    file = {"added_tokens": [], "pre_tokenizer": NO_REGEX, "model": model}
    return tokenizer_of(json.dumps({"version": "1.0", **file}).encode())


def assert_same_ids(tokenizer: Tokenizer, texts: list[str]) -> None:
    found = GraphTokenizer(tokenizer).encode(tf.constant(texts))
    ids, lengths = tokenizer.encode_batch(texts)
    wrong = np.flatnonzero(found.row_lengths() != lengths)
    assert not len(wrong), ascii(texts[wrong[0]])
    np.testing.assert_array_equal(found.flat_values, ids)


@pytest.mark.smoke
def test_a_saved_model_gives_the_same_ids_and_text(tmp_path) -> None:
    tokenizer = tokenizer_of(gpt2_style_tokenizer())

    class Service(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokenizer = GraphTokenizer(tokenizer)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def serve(self, prompt: tf.Tensor) -> dict[str, tf.Tensor]:
            ids = self.tokenizer.encode(prompt)
            return {"ids": ids.values, "text": self.tokenizer.decode(ids)}

    service = Service()
    tf.saved_model.save(service, str(tmp_path), signatures={"serve": service.serve})
    served = tf.saved_model.load(str(tmp_path)).signatures["serve"]
    texts = [*documents(seed=4, count=20), "", "\0<|eos|>\0", "\ufeffmark"]
    answer = served(tf.constant(texts))
    np.testing.assert_array_equal(answer["ids"], tokenizer.encode_batch(texts)[0])
    wanted = [text.replace("\0", "").encode() for text in texts]
    assert answer["text"].numpy().tolist() == wanted


def test_the_graph_needs_only_core_operations_and_sentencepiece() -> None:
    graph_tokenizer = own_graph()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def echo(prompt: tf.Tensor) -> tf.Tensor:
        return graph_tokenizer.decode(graph_tokenizer.encode(prompt))

    graph = echo.get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    foreign = {node.op for node in nodes if "Sentencepiece" in node.op}
    assert foreign <= SENTENCEPIECE_OPS
    assert not {node.op for node in nodes} & {"PyFunc", "EagerPyFunc", "HashTableV2"}


@settings(deadline=None, max_examples=100)
@given(st.lists(st.binary(max_size=30), min_size=1, max_size=20))
def test_bytes_that_are_not_utf8_read_as_the_replacement_character(
    prompts: list[bytes],
) -> None:
    tokenizer = tokenizer_of(gpt2_style_tokenizer())
    texts = [prompt.decode("utf-8", "replace") for prompt in prompts]
    found = own_graph().encode(tf.constant(prompts))
    np.testing.assert_array_equal(found.flat_values, tokenizer.encode_batch(texts)[0])


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        # The first 256 and some are bytes: most of such rows are no UTF-8.
        st.lists(st.integers(0, 4000) | st.integers(0, 260), max_size=20),
        min_size=1,
        max_size=5,
    ),
    st.integers(0, 30),
)
def test_any_ids_decode_as_the_tokenizer_decodes_them(
    rows: list[list[int]], most: int
) -> None:
    """To valid UTF-8, wherever they are cut.

    Those beyond the tokenizer as well, which a model may have: they have no text.
    """
    tokenizer = tokenizer_of(gpt2_style_tokenizer())
    ids = tf.ragged.constant(rows, dtype=tf.int32, ragged_rank=1)
    found = [text.decode() for text in own_graph().decode(ids).numpy()]
    assert found == [tokenizer.decode(row) for row in rows]
    known = [[id for id in row if id < tokenizer.vocab_size] for row in rows]
    assert found == [tokenizer.decode(row) for row in known]
    sizes = tf.fill([len(rows)], most)
    found = [text.decode() for text in own_graph().decode(ids, sizes).numpy()]
    assert found == [tokenizer.decode(row, most) for row in rows]


@pytest.mark.parametrize("pattern", [CL100K_PATTERN, QWEN2_PATTERN, TEKKEN_PATTERN])
def test_other_published_patterns_have_the_same_ids(pattern: str) -> None:
    texts = hostile_strings(seed=10, count=2000) + documents(seed=10, count=100)
    assert_same_ids(tokenizer_of(split_style_tokenizer(pattern)), texts)


def test_a_tokenizer_that_cuts_no_words_has_the_same_ids() -> None:
    data = changed(gpt2_style_tokenizer(), pre_tokenizer=NO_REGEX)
    texts = hostile_strings(seed=11, count=1000) + documents(seed=11, count=50)
    assert_same_ids(tokenizer_of(data), texts)


def test_a_megabyte_without_a_break_is_encoded() -> None:
    tokenizer = tokenizer_of(gpt2_style_tokenizer())
    assert_same_ids(tokenizer, ["a" * 1_000_000, " " * 1_000_000, "中" * 300_000])


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_random_merges_are_exact_or_refused(data: st.DataObject) -> None:
    """Made-up merges of every shape, not only those that training yields."""
    words = ["a", "b", "c"]
    merges: list[tuple[str, str]] = []
    for _ in range(data.draw(st.integers(1, 12))):
        pair = (data.draw(st.sampled_from(words)), data.draw(st.sampled_from(words)))
        if pair not in merges and len("".join(pair)) <= 8:
            merges.append(pair)
            words.append("".join(pair))
    merges = data.draw(st.permutations(merges)) if data.draw(st.booleans()) else merges
    tokenizer = handmade(merges)
    texts = data.draw(st.lists(st.text("abc", max_size=30), min_size=20, max_size=40))
    try:
        scored_pieces(tokenizer.bpe)
    except InexactMerges:
        return
    assert_same_ids(tokenizer, texts)


def test_a_file_that_lists_every_split_of_every_entry_has_the_same_ids() -> None:
    """As files converted from tiktoken's ranks do, Llama 3's among them."""
    file = json.loads(split_style_tokenizer(LLAMA3_PATTERN))
    vocab = file["model"]["vocab"]
    words = [word for word in sorted(vocab, key=vocab.get) if "<|" not in word]
    splits = [(w[:place], w[place:]) for w in words for place in range(1, len(w))]
    known = [(left, right) for left, right in splits if {left, right} <= vocab.keys()]
    assert len(known) > len(words)
    file["model"].update(merges=known, ignore_merges=True)
    texts = documents(seed=13, count=200) + hostile_strings(seed=13, count=2000)
    assert_same_ids(tokenizer_of(json.dumps(file).encode()), texts)


def test_splits_of_an_entry_that_lie_apart_keep_their_ranks() -> None:
    """As no file made from tiktoken's has them: "a" + "bc" is the last of all."""
    splits = [("b", "c"), ("a", "b"), ("ab", "c"), ("bc", "d"), ("a", "bc")]
    assert_same_ids(handmade(splits), ["abcd", "abc", "abab", "bcd", "aabcdd"])


def test_merges_before_those_of_their_parts_are_refused() -> None:
    tokenizer = handmade([("ab", "c"), ("a", "b"), ("b", "c")])
    with pytest.raises(UsageError, match="comes before its parts"):
        GraphTokenizer(tokenizer)


def test_whole_words_that_skip_the_merges_have_the_same_ids() -> None:
    data = with_model(gpt2_style_tokenizer(), ignore_merges=True)
    merges = json.loads(data)["model"]["merges"]
    for left in (len(merges), len(merges) - 300, 0):
        tokenizer = tokenizer_of(with_model(data, merges=merges[:left]))
        texts = documents(seed=12, count=60) + hostile_strings(seed=12, count=200)
        assert_same_ids(tokenizer, texts)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"normalizer": {"type": "NFKC"}}, "normaliser NFKC"),
        (
            {
                "pre_tokenizer": {
                    "type": "Sequence",
                    "pretokenizers": [
                        pre_tokenizer_json(LLAMA3_PATTERN)["pretokenizers"][0],
                        {**NO_REGEX, "add_prefix_space": True},
                    ],
                }
            },
            "add_prefix_space behind a Split",
        ),
    ],
)
def test_what_the_graph_cannot_do_is_refused_by_name(
    fields: dict[str, object], named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        GraphTokenizer(tokenizer_of(changed(gpt2_style_tokenizer(), **fields)))


def test_an_unknown_pattern_is_refused_by_name() -> None:
    data = split_style_tokenizer(r"\p{L}+|\P{L}+")
    with pytest.raises(UsageError, match="pattern"):
        GraphTokenizer(tokenizer_of(data))
