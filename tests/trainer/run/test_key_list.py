# SPDX-License-Identifier: Apache-2.0
"""Keys are told from the dataclasses: none without its meaning."""

from dataclasses import dataclass, field

from trainer.models.model import FAMILIES
from trainer.run.config import RunConfig
from trainer.run.key_list import (
    Key,
    attribute_meanings,
    first_sentence,
    keys,
    show,
    tables,
)
from trainer.run.overrides import flattened


@dataclass(frozen=True)
class Inner:
    """A table.

    Attributes:
        rate: of something, which takes a second
            line: and a colon.
        silent_too: not a field.
    """

    rate: float | None = None
    silent: bool = True


@dataclass(frozen=True)
class Outer(Inner):
    """What holds the table. A second sentence.

    Attributes:
        inner: what it is for.

    Raises:
        rate: no meaning of a key.
    """

    rate: float | None = 2.0
    inner: Inner = field(default_factory=Inner)


def test_a_sections_lines_are_told_unwrapped_and_what_follows_it_is_not() -> None:
    assert attribute_meanings(Inner.__doc__ or "") == {
        "rate": "of something, which takes a second line: and a colon.",
        "silent_too": "not a field.",
    }
    assert attribute_meanings(Outer.__doc__ or "") == {"inner": "what it is for."}
    assert attribute_meanings("Says nothing of attributes.") == {}
    assert first_sentence(Outer.__doc__ or "") == "What holds the table."


def test_a_class_says_what_its_bases_said_and_tells_values_as_flags_take_them() -> None:
    rate = "of something, which takes a second line: and a colon."
    assert list(keys(Outer(rate=None), "outer.")) == [
        Key("outer.rate", "a number or none", "none", "2.0", rate),
        Key("outer.silent", "true or false", "true", "true", ""),
    ]


def test_lines_are_no_wider_than_asked_and_tell_a_default_that_was_changed() -> None:
    own, inner = tables(Outer(rate=None))
    assert own.heading == "configuration" and inner.about == "what it is for."
    assert show(inner, 30) == [
        "inner: what it is for.",
        "  inner.rate=none",
        "      a number or none; of",
        "      something, which takes a",
        "      second line: and a",
        "      colon.",
        "  inner.silent=true",
        "      true or false",
        "",
    ]
    assert "  rate=none (default 2.0)" in show(own, 30)


def test_every_key_of_a_run_has_a_meaning_for_every_family() -> None:
    for family, kind in FAMILIES.items():
        config = RunConfig(model=kind(family=family))
        told = [key for table in tables(config) for key in table.keys]
        assert {key.path for key in told} == set(flattened(config))
        assert not [key.path for key in told if not key.meaning]
        assert not [table.heading for table in tables(config) if not table.about]
