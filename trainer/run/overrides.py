# SPDX-License-Identifier: Apache-2.0
"""Changes nested frozen dataclasses from files and flags, refusing what is unknown.

Both `--config` (JSON or TOML) and `--set key.path=value` end in `changed`, which
checks every key and type and validates each dataclass once, with all its changes.
"""

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from preprocessing.foundation.commands import UsageError, suggest
from trainer.run.field_types import as_field, text_as_field

Config = TypeVar("Config")


def changed(config: Config, changes: Mapping[str, Any], prefix: str = "") -> Config:
    """Returns `config`, a dataclass, with nested `changes` applied.

    Raises:
        UsageError: a key is unknown, a value has the wrong type, or the dataclass
            refuses the result.
    """
    hints = _field_types(config)
    values = {}
    for name, value in changes.items():
        key = f"{prefix}{name}"
        if name not in hints:
            raise _unknown(key, name, hints, prefix)
        current = getattr(config, name)
        if not dataclasses.is_dataclass(current):
            values[name] = as_field(key, value, hints[name])
        elif isinstance(value, Mapping):
            values[name] = changed(current, value, f"{key}.")
        else:
            raise UsageError(
                f"wanted a table of keys for {key}, found {value!r}. Write {key}.NAME"
            )
    return dataclasses.replace(config, **values)  # type: ignore[type-var]


def parse_pairs(config: Any, pairs: Iterable[str]) -> dict[str, Any]:
    """Returns the nested changes that `key.path=value` pairs ask of `config`.

    A value's text is read as its field's type; the last pair of a key wins.

    Raises:
        UsageError: a pair has no `=`, names no field, or its text is not of its type.
    """
    changes: dict[str, Any] = {}
    for pair in pairs:
        path, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(
                f"wanted --set key.path=value, found {pair}. Put = between them"
            )
        *tables, name = path.split(".")
        inner, branch, prefix = config, changes, ""
        for table in tables:
            inner = _table(inner, table, prefix)
            branch = branch.setdefault(table, {})
            prefix += f"{table}."
        hints = _field_types(inner)
        if name not in hints:
            raise _unknown(path, name, hints, prefix)
        if dataclasses.is_dataclass(getattr(inner, name)):
            raise UsageError(
                f"wanted a value's key in --set {pair}, {path} is a table. Write "
                f"{path}.NAME=value"
            )
        branch[name] = text_as_field(path, text, hints[name])
    return changes


def flattened(config: Any, prefix: str = "") -> dict[str, Any]:
    """Returns every value of a nested dataclass under its `key.path`."""
    flat = {}
    for field in dataclasses.fields(config):
        value, key = getattr(config, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            flat.update(flattened(value, f"{key}."))
        else:
            flat[key] = value
    return flat


def _table(config: Any, name: str, prefix: str) -> Any:
    hints = _field_types(config)
    if name not in hints:
        raise _unknown(f"{prefix}{name}", name, hints, prefix)
    inner = getattr(config, name)
    if not dataclasses.is_dataclass(inner):
        raise UsageError(
            f"wanted a table of keys before the dot, {prefix}{name} is a single value. "
            f"Write {prefix}{name}=value"
        )
    return inner


def _field_types(config: Any) -> dict[str, Any]:
    """Returns name -> annotation of a dataclass's fields."""
    hints = typing.get_type_hints(type(config))
    return {field.name: hints[field.name] for field in dataclasses.fields(config)}


def _unknown(key: str, name: str, known: Mapping[str, Any], prefix: str) -> UsageError:
    names = [f"{prefix}{other}" for other in known]
    hint = suggest(f"{prefix}{name}", names)
    where = f"of {prefix[:-1]}" if prefix else "of the configuration"
    return UsageError(
        f"wanted a key {where}, found unknown {key}.{hint} Known: {', '.join(names)}"
    )
