# SPDX-License-Identifier: Apache-2.0
"""JSON as RFC 8259 has it, in which no number is NaN or infinite.

Python's `json` writes and reads `NaN` and `Infinity`, which other readers (jq, DuckDB,
browsers, Arrow) take for damage. All JSON that Quern writes goes through here. What is
measured, and so can be anything, goes through `with_nulls` first.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

NOTE = "not_finite"


def dumps(
    value: Any,
    *,
    indent: int | None = None,
    sort_keys: bool = False,
    ensure_ascii: bool = True,
    default: Callable[[Any], Any] | None = None,
    separators: tuple[str, str] | None = None,
) -> str:
    """Returns JSON; parameters as `json.dumps` has them.

    Raises:
        ValueError: a number in it is NaN or infinite.
    """
    return json.dumps(
        value,
        indent=indent,
        sort_keys=sort_keys,
        ensure_ascii=ensure_ascii,
        default=default,
        separators=separators,
        allow_nan=False,
    )


def loads(
    text: str | bytes, parse_float: Callable[[str], float | int] | None = None
) -> Any:
    """Parses JSON; `parse_float` as `json.loads` has it.

    Raises:
        ValueError: it is none; `NaN`, `Infinity` and `-Infinity` are none.
    """
    return json.loads(text, parse_float=parse_float, parse_constant=_refuse)


def loads_measured(text: str | bytes) -> Any:
    """Parses JSON with None for `NaN` and the like, which Quern once wrote.

    Raises:
        ValueError: it is none.
    """
    return json.loads(text, parse_constant=lambda name: None)


def with_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns values with None for each number that is not finite, and a note on them.

    {"loss": nan, "step": 3} gives {"loss": None, "step": 3, "not_finite": {"loss":
    "NaN"}}; a key within a table is named by its path, with dots. Values that are all
    finite are returned as they are, without a note.
    """
    found = dict[str, str]()
    kept = {key: _replaced(value, key, found) for key, value in values.items()}
    return {**kept, NOTE: found} if found else kept


def _replaced(value: Any, path: str, found: dict[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {k: _replaced(v, f"{path}.{k}", found) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_replaced(v, f"{path}.{i}", found) for i, v in enumerate(value)]
    if not isinstance(value, float) or math.isfinite(value):
        return value
    found[path] = json.dumps(float(value))
    return None


def _refuse(name: str) -> Any:
    raise ValueError(f"{name}, which is no number of JSON's")
