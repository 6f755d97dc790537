# SPDX-License-Identifier: Apache-2.0
"""Two tokenizer files are told apart by the ids they give, not by their bytes."""

import functools
import json
from collections.abc import Callable
from typing import Any

import pytest
import tokenizers

from preprocessing.tokenizer import byte_level
from preprocessing.tokenizer.byte_level import ByteLevelBPE
from preprocessing.tokenizer.comparison import first_difference, ids_digest
from tests.family_tokenizers import family

SHAPES = ("gpt2", "neox", "llama3", "qwen2", "olmo2", "smollm", "prefix", "odd nfc")


@functools.cache
def parsed(data: bytes) -> ByteLevelBPE:
    return byte_level.parse(data, "tokenizer.json")


@pytest.mark.parametrize("name", SHAPES)
def test_a_file_written_anew_gives_the_same_ids(name: str) -> None:
    """As `tokenizers` writes it, with other fields around what decides ids."""
    data = family(name)
    tree = json.loads(tokenizers.Tokenizer.from_str(data.decode()).to_str(pretty=True))
    tree |= {"truncation": None, "padding": None, "post_processor": None}
    anew = json.dumps(tree, indent=1).encode()
    assert anew != data
    assert ids_digest(parsed(anew)) == ids_digest(parsed(data))
    assert first_difference(parsed(anew), parsed(data)) is None


@pytest.mark.parametrize("there", SHAPES)
@pytest.mark.parametrize("here", SHAPES)
def test_digests_are_equal_where_nothing_differs(here: str, there: str) -> None:
    ours, theirs = parsed(family(here)), parsed(family(there))
    equal = ids_digest(ours) == ids_digest(theirs)
    assert equal == (here == there) == (first_difference(ours, theirs) is None)


def _swapped(tree: Any) -> None:
    vocab = tree["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]


def _later(tree: Any) -> None:
    tree["model"]["merges"].append(tree["model"]["merges"].pop(103))


def _shorter(tree: Any) -> None:
    del tree["model"]["merges"][-1]


def _special(tree: Any) -> None:
    tree["added_tokens"][-1]["special"] = True


def _stripping(tree: Any) -> None:
    tree["added_tokens"][-1]["rstrip"] = True


def _gone(tree: Any) -> None:
    del tree["added_tokens"][-1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_swapped, "token 'a' is 67 here and 68 there"),
        (_later, "merge 103 is "),
        (_shorter, " here and missing there"),
        (_special, "token '  ' has special False here and True there"),
        (_stripping, "token '  ' has rstrip False here and True there"),
        (_gone, "token '  ' is 3022 here and missing there"),
        (
            lambda tree: tree.update(normalizer=None),
            "its normaliser is NFC here and none there",
        ),
        (
            lambda tree: tree["model"].update(ignore_merges=True),
            "its ignore_merges is False here and True there",
        ),
        (
            lambda tree: tree["pre_tokenizer"].update(add_prefix_space=True),
            "its add_prefix_space is False here and True there",
        ),
        (
            lambda tree: tree["pre_tokenizer"].update(use_regex=False),
            " here and none there",
        ),
    ],
)
def test_the_first_difference_is_told_in_words(
    change: Callable[[Any], None], told: str
) -> None:
    tree = json.loads(family("neox"))
    change(tree)
    ours, theirs = parsed(family("neox")), parsed(json.dumps(tree).encode())
    found = first_difference(ours, theirs)
    assert found is not None and told in found, found
    assert ids_digest(ours) != ids_digest(theirs)
