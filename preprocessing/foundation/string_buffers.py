# SPDX-License-Identifier: Apache-2.0
"""Arrow's strings as what they are in memory: bytes, and where each string ends.

    data    t h e c a t s a t        string i is data[edges[i]:edges[i + 1]]
    edges   0     3     6     9

Nothing is copied either way, since a text may have hundreds of megabytes. A slice of an
array has the edges of its own strings and the data of all, so `data[: edges[0]]` may
hold others. A null has no bytes that mean anything, so arrays with one are refused.
"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

_EDGES: dict[pa.DataType, np.dtype] = {
    pa.string(): np.dtype(np.int32),
    pa.binary(): np.dtype(np.int32),
    pa.large_string(): np.dtype(np.int64),
    pa.large_binary(): np.dtype(np.int64),
}


class Views(NamedTuple):
    """An array of strings [n] as its bytes, uint8, and its edges in them, [n + 1].

    Edges are int64 for large strings and large binary, int32 for the others. Both are
    views of the array's own memory, and read-only: a compiled loop is compiled once
    more for arrays that could be written.
    """

    data: np.ndarray
    edges: np.ndarray


def views(strings: pa.Array) -> Views:
    """Returns the bytes and edges of strings or binary values [n], none of them null.

    Raises:
        ValueError: they are of another type, or one is null.
    """
    kind = _EDGES.get(strings.type)
    if kind is None or strings.null_count:
        found = strings.type if kind is None else f"{strings.null_count} nulls"
        raise ValueError(
            f"wanted strings without nulls, found {found}. Cast or fill them first"
        )
    _, offsets, data = strings.buffers()
    # An array without strings may have neither buffer.
    edges = np.frombuffer(offsets or bytes(kind.itemsize), kind)
    return Views(
        _read_only(np.frombuffer(data or b"", np.uint8)),
        _read_only(edges[strings.offset : strings.offset + len(strings) + 1]),
    )


def array_of(data: Any, edges: np.ndarray, kind: pa.DataType | None = None) -> pa.Array:
    """Returns the strings that `views` would give back as (data, edges).

    Args:
        data: what has a buffer: an array, bytes, a buffer of Arrow's. It stays in use
            and must not change.
        edges: ascending places in it, [n + 1], which is copied only where its integers
            are not those of the type; of no edges there is no string.
        kind: one of Arrow's types of strings and binary values; large strings if None.
    """
    kind = pa.large_string() if kind is None else kind
    edges = np.ascontiguousarray(edges, _EDGES[kind])
    buffers = [None, pa.py_buffer(edges), pa.py_buffer(data)]
    return pa.Array.from_buffers(kind, max(0, len(edges) - 1), buffers)


def sizes_of(strings: pa.Array) -> np.ndarray:
    """Returns the bytes of each string, as `views` takes them, int64 [n]."""
    return np.diff(views(strings).edges).astype(np.int64, copy=False)


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.view()
    array.setflags(write=False)
    return array
