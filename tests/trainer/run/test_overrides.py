# SPDX-License-Identifier: Apache-2.0
"""Any configuration of dataclasses is changed by files and flags, key by key."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.foundation.commands import UsageError
from trainer.run.overrides import changed, flattened, parse_pairs


@dataclass(frozen=True)
class Layers:
    kind: Literal["full", "sliding"] = "full"
    windows: tuple[int, ...] = ()
    names: tuple[Literal["attention", "gru"], ...] = ("gru",)
    every: Literal[1, 2] | None = 1
    rate: float | None = None
    note: str | None = None


@dataclass(frozen=True)
class Model:
    layers: Layers = field(default_factory=Layers)
    bias: bool = False
    seed: int = 0


FINITE = st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.text("abcxyz-/.", min_size=1).filter(lambda word: word != "none")
LAYERS = st.builds(
    Layers,
    kind=st.sampled_from(["full", "sliding"]),
    windows=st.lists(st.integers()).map(tuple),
    names=st.lists(st.sampled_from(["attention", "gru"])).map(tuple),
    every=st.sampled_from([1, 2, None]),
    rate=st.none() | FINITE,
    note=st.none() | WORDS,
)
MODELS = st.builds(Model, layers=LAYERS, bias=st.booleans(), seed=st.integers())


def spelled(value):
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value)


@given(MODELS)
def test_any_configuration_is_reached_by_its_json_and_by_a_flag_for_each_key(model):
    stored = json.loads(json.dumps(dataclasses.asdict(model)))
    assert changed(Model(), stored) == model
    pairs = [f"{key}={spelled(value)}" for key, value in flattened(model).items()]
    assert changed(Model(), parse_pairs(Model(), pairs)) == model


@pytest.mark.parametrize(
    ("pair", "complaint"),
    [
        (
            "layers.kind=slidng",
            "wanted one of full, sliding for layers.kind, found 'slidng'. Did you mean "
            "sliding? Change the value",
        ),
        (
            "layers.windows=1,b",
            "wanted a list, each an integer for layers.windows, found '1,b'. Change "
            "the value",
        ),
        (
            "layers.names=gru,gro",
            "wanted a list, each one of attention, gru for layers.names, found "
            "'gru,gro'. Change the value",
        ),
        (
            "layers.every=3",
            "wanted one of 1, 2 or null for layers.every, found '3'. Change the value",
        ),
    ],
)
def test_a_flag_of_another_type_is_refused_on_one_line(pair, complaint):
    with pytest.raises(UsageError) as caught:
        parse_pairs(Model(), [pair])
    assert str(caught.value) == complaint


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "half"),
        ("windows", 3),
        ("windows", [1, 2.5]),
        ("windows", [True]),
        ("every", True),
        ("every", 1.0),
        ("rate", float("inf")),
        ("rate", "1"),
        ("note", 3),
    ],
)
def test_a_files_value_of_another_type_is_refused_by_its_key(key, value):
    with pytest.raises(UsageError, match=rf"^wanted .* for layers\.{key}, found "):
        changed(Model(), {"layers": {key: value}})
