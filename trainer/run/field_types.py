# SPDX-License-Identifier: Apache-2.0
"""Values of configuration files and texts of flags, as a field's annotation wants.

A field is a `bool`, `int`, `float` or `str`, one of the values of a `Literal`, a list
of such (`tuple[int, ...]`), or any of these or `None`.
"""

import math
import types
import typing
from collections.abc import Callable
from typing import Any

from preprocessing.foundation.commands import UsageError, suggest


def as_field(key: str, value: Any, annotation: Any) -> Any:
    """Returns a value from JSON or TOML as its field's type.

    Raises:
        UsageError: it is of another type; the line names `key` and what was wanted.
    """
    return _converted(key, value, annotation, _from_value)


def text_as_field(key: str, text: str, annotation: Any) -> Any:
    """Returns the text of a flag as its field's type; commas part the items of a list.

    Raises:
        UsageError: it spells no such value; the line names `key` and what was wanted.
    """
    return _converted(key, text, annotation, _from_text)


_Reader = Callable[[Any, Any], Any]


def _converted(key: str, value: Any, annotation: Any, reader: _Reader) -> Any:
    try:
        return _first(value, annotation, reader)
    except ValueError:
        wanted = type_name(annotation)
        names = [name for name in _choices(annotation) if isinstance(name, str)]
        hint = suggest(value, names) if isinstance(value, str) else ""
        raise UsageError(
            f"wanted {wanted} for {key}, found {value!r}.{hint} Change the value"
        ) from None


def _first(value: Any, annotation: Any, reader: _Reader) -> Any:
    """Returns what the first type that takes the value makes of it."""
    # A text may say none where it could also be a string.
    for kind in sorted(_members(annotation), key=lambda kind: kind is not _NONE):
        try:
            return reader(value, kind)
        except (ValueError, OverflowError):
            continue
    raise ValueError(value)


def _members(annotation: Any) -> tuple[Any, ...]:
    """Returns the types an annotation allows: (int, NoneType) for `int | None`."""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return typing.get_args(annotation)
    return (annotation,)


def _from_value(value: Any, kind: Any) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in _LISTS and isinstance(value, list | tuple):
        return origin(_first(each, inner[0], _from_value) for each in value)
    if origin is typing.Literal and any(
        value == one and type(value) is type(one) for one in inner
    ):
        return value
    finite = not isinstance(value, float) or math.isfinite(value)
    if type(value) is kind and finite:
        return value
    if kind is float and type(value) is int:
        return float(value)
    raise ValueError(value)


def _from_text(text: str, kind: Any) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in _LISTS:
        items = text.split(",") if text.strip() else []
        return origin(_first(each.strip(), inner[0], _from_text) for each in items)
    if origin is typing.Literal:
        kinds = {type(one): None for one in inner}
        return _from_value(_first(text, typing.Union[*kinds], _from_text), kind)
    if kind not in _READERS:
        raise ValueError(text)
    return _READERS[kind](text)


def type_name(annotation: Any) -> str:
    """Returns how people are told what an annotation allows."""
    names = []
    for kind in _members(annotation):
        inner = typing.get_args(kind)
        if typing.get_origin(kind) is typing.Literal:
            names.append(f"one of {', '.join(map(str, inner))}")
        elif typing.get_origin(kind) in _LISTS:
            names.append(f"a list, each {type_name(inner[0])}")
        else:
            names.append(_TYPE_NAMES.get(kind, str(kind)))
    return " or ".join(names)


def _choices(annotation: Any) -> list[Any]:
    return [
        one
        for kind in _members(annotation)
        if typing.get_origin(kind) is typing.Literal
        for one in typing.get_args(kind)
    ]


def _read_bool(text: str) -> bool:
    try:
        return {"true": True, "false": False}[text.lower()]
    except KeyError:
        raise ValueError(text) from None


def _read_int(text: str) -> int:
    number = float(text)  # So that 1e6 may be written for a million steps.
    if not number.is_integer():
        raise ValueError(text)
    return int(number) if "e" in text.lower() else int(text)


def _read_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _read_none(text: str) -> None:
    if text.lower() not in ("none", "null"):
        raise ValueError(text)


_NONE: Any = types.NoneType
_LISTS = (tuple, list)
_READERS: dict[Any, Callable[[str], Any]] = {
    _NONE: _read_none,
    bool: _read_bool,
    int: _read_int,
    float: _read_float,
    str: str,
}
_TYPE_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    _NONE: "null",
}
