# SPDX-License-Identifier: Apache-2.0
"""Every key of a configuration with its type, value and meaning, as text for people.

All is read from the dataclasses: types and defaults from their fields, meanings from
the "Attributes:" of their docstrings. Nothing is said twice, so nothing grows stale.
"""

import dataclasses
import inspect
import re
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from trainer.run.field_types import type_name

_INDENT = "      "
_ATTRIBUTE = re.compile(r"(\w+): (.*)")


@dataclass(frozen=True)
class Key:
    """A key of a configuration.

    Attributes:
        path: as `--set` takes it: "loop.total_steps".
        kind: what values it takes, in words.
        value: what it is, as `--set` would be given it.
        default: what it is where nothing sets it, likewise.
        meaning: what its dataclass says of it; empty if nothing.
    """

    path: str
    kind: str
    value: str
    default: str
    meaning: str


def first_sentence(docstring: str) -> str:
    """Returns the first sentence of a docstring, on one line."""
    paragraph = " ".join(inspect.cleandoc(docstring).split("\n\n")[0].split())
    return re.split(r"(?<=\.) ", paragraph)[0]


def attribute_meanings(docstring: str) -> dict[str, str]:
    """Returns {name: what is said of it} from a docstring's "Attributes:", unwrapped.

    Args:
        docstring: in Google's style; one without such a section says nothing.
    """
    section = re.search(
        r"^Attributes:\n((?:[ ]+.*\n|\n)*)", inspect.cleandoc(docstring) + "\n", re.M
    )
    found: dict[str, str] = {}
    name = ""
    for line in textwrap.dedent(section[1]).splitlines() if section else ():
        begins = _ATTRIBUTE.fullmatch(line)
        if begins:
            name, found[begins[1]] = begins[1], begins[2]
        elif line.strip():
            found[name] += f" {line.strip()}"
    return found


def meanings(kind: type) -> dict[str, str]:
    """Returns {field: its meaning} of a dataclass, from its own docstring first."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        found |= attribute_meanings(each.__doc__ or "")
    return found


def keys(config: Any, prefix: str = "") -> Iterator[Key]:
    """Yields the keys of a dataclass that are values, in its order; tables are not."""
    said, hints = meanings(type(config)), typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not dataclasses.is_dataclass(value):
            yield Key(
                f"{prefix}{field.name}",
                type_name(hints[field.name]).replace("null", "none"),
                as_flag(value),
                as_flag(field.default),
                said.get(field.name, ""),
            )


def as_flag(value: Any) -> str:
    """Returns a value as `--set` takes it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ",".join(map(as_flag, value))
    return str(value)


@dataclass(frozen=True)
class Table:
    """Keys that stand together.

    Attributes:
        heading: what they are called.
        about: what they are for.
        keys: in the order of their dataclass.
    """

    heading: str
    about: str
    keys: tuple[Key, ...]


def tables(config: Any) -> Iterator[Table]:
    """Yields a configuration's own values, then each of the dataclasses in it."""
    said = meanings(type(config))
    own = first_sentence(type(config).__doc__ or "")
    yield Table("configuration", own, tuple(keys(config)))
    for field in dataclasses.fields(config):
        inner = getattr(config, field.name)
        if dataclasses.is_dataclass(inner):
            about = said.get(field.name, "")
            yield Table(field.name, about, tuple(keys(inner, f"{field.name}.")))


def show(table: Table, width: int) -> list[str]:
    """Returns a table as lines of `width` columns, longer only where a word is."""
    lines = textwrap.wrap(f"{table.heading}: {table.about}", width)
    for key in table.keys:
        default = "" if key.value == key.default else f" (default {key.default})"
        lines.append(f"  {key.path}={key.value}{default}")
        said = f"{key.kind}; {key.meaning}" if key.meaning else key.kind
        lines += wrapped(said, width)
    return [*lines, ""]


def wrapped(text: str, width: int) -> list[str]:
    """Returns a text as indented lines of `width` columns, below what it explains."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=_INDENT,
        subsequent_indent=_INDENT,
        # Names are copied, and one that is cut is none.
        break_on_hyphens=False,
    )
