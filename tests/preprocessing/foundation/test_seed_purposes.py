# SPDX-License-Identifier: Apache-2.0
"""No two purposes of a seed share a number, and none is drawn for by a bare one."""

import ast
from enum import IntEnum
from pathlib import Path

import pytest

from preprocessing.foundation import seed_purposes
from preprocessing.foundation.fingerprints import (
    key_hash,
    keys_of_offsets,
    seed_word,
    word_of,
)
from preprocessing.foundation.seed_purposes import (
    FillInMiddleDraw,
    NearPurpose,
    PrefixDraw,
    Purpose,
    SpanCorruptionDraw,
)

ROOT = Path(__file__).parents[3]
SOURCES = [
    path
    for room in ("preprocessing", "pipelines", "trainer")
    for path in sorted((ROOT / room).rglob("*.py"))
]
# Every number in use, once more: who changes one changes the bytes of datasets.
NUMBERS = {
    Purpose: {
        "ORDER": 1,
        "SPLIT": 2,
        "EXAMPLES": 3,
        "LINE_OWNERS": 4,
        "MIXED_DATASETS": 5,
    },
    NearPurpose: {"MULTIPLIERS": 1, "SHIFTS": 2},
    PrefixDraw: {"LENGTH": 0},
    SpanCorruptionDraw: {"BORDERS": 0},
    FillInMiddleDraw: {"MOVE": 0, "FORM": 1, "ONE_CUT": 2, "OTHER_CUT": 3},
}
# Where words are made of numbers that are no purposes: shards, windows, parts.
WITHOUT_PURPOSE = {
    "pipelines/prepare/pack_shard.py",
    "preprocessing/packing/packing.py",
    "preprocessing/packing/pair_packing.py",
    "preprocessing/objectives/examples.py",  # a draw of an example's own word
    "preprocessing/foundation/fingerprints.py",
}


def lists():
    found = [each for each in vars(seed_purposes).values() if isinstance(each, type)]
    return [each for each in found if issubclass(each, IntEnum) and each is not IntEnum]


def calls(name):
    """Yields (file, arguments) of each call of a function of that name."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = isinstance(node, ast.Call) and getattr(
                node.func, "id", getattr(node.func, "attr", None)
            )
            if called == name:
                given = [*node.args, *(word.value for word in node.keywords)]
                yield path.relative_to(ROOT).as_posix(), given


def test_numbers_are_distinct_and_stay_what_they_are():
    assert {each: {m.name: m.value for m in each} for each in lists()} == NUMBERS
    for each in lists():
        # An alias, a second name of a number, is a member that iteration leaves out.
        assert len(each.__members__) == len(list(each)), each.__name__


@pytest.mark.parametrize("name", ["seed_word", "key_hash", "draw"])
def test_nobody_draws_for_a_bare_number(name):
    found = list(calls(name))
    assert found
    for file, arguments in found:
        for argument in arguments:
            bare = isinstance(argument, ast.Constant)
            constant = isinstance(argument, ast.Name) and argument.id.isupper()
            assert not bare, f"{file}: {name}(… {ast.unparse(argument)})"
            assert not constant, f"{file}: {name}(… {ast.unparse(argument)})"


def test_words_without_a_purpose_are_made_in_the_known_places_alone():
    assert {file for file, _ in calls("word_of")} == WITHOUT_PURPOSE


def test_every_purpose_is_drawn_for():
    used = {
        ast.unparse(node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    }
    listed = {f"{each.__name__}.{member.name}" for each in lists() for member in each}
    assert listed <= used


def test_one_seed_gives_each_purpose_words_and_orders_of_its_own():
    keys = keys_of_offsets("file", range(20))
    words = {int(seed_word(7, purpose)) for purpose in Purpose}
    orders = {key_hash(7, purpose, keys).tobytes() for purpose in Purpose}
    assert len(words) == len(orders) == len(Purpose)
    assert seed_word(7, Purpose.ORDER, 3) == word_of(7, 1, 3)
