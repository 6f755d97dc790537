# SPDX-License-Identifier: Apache-2.0
"""Arrays as one blob of bytes, the only thing that travels between stages.

    [length of the header u32][header JSON: name, dtype, shape per array][arrays …]

Reading gives views of the blob, so a gathered value costs no copy.
"""

import struct
from collections.abc import Mapping, Sequence

import google_crc32c
import numpy as np
import pyarrow as pa

from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import WorkError
from preprocessing.foundation.string_buffers import array_of, views

Arrays = dict[str, np.ndarray]


def to_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Returns the arrays as one blob; the same arrays always give the same bytes."""
    items = [(name, np.ascontiguousarray(array)) for name, array in arrays.items()]
    header = strict_json.dumps(
        [[name, array.dtype.str, list(array.shape)] for name, array in items]
    ).encode()
    parts: list[bytes | memoryview] = [struct.pack("<I", len(header)), header]
    parts += [array.view(np.uint8).reshape(-1).data for _, array in items if array.size]
    return b"".join(parts)


def from_bytes(blob: bytes | memoryview) -> Arrays:
    """Returns the arrays of a blob, as read-only views of it."""
    (length,) = struct.unpack_from("<I", blob)
    at = 4 + length
    arrays = {}
    for name, dtype, shape in strict_json.loads(bytes(blob[4:at])):
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(blob, dtype, count, at).reshape(shape)
        at += arrays[name].nbytes
    return arrays


def write_blob(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Publishes arrays as a file of its own: their blob and its CRC32C."""
    blob = to_bytes(arrays)
    storage.write_atomically(path, blob + struct.pack("<I", google_crc32c.value(blob)))


def read_blob(path: str) -> Arrays:
    """Returns the arrays of a file that `write_blob` wrote.

    Raises:
        WorkError: it is not as it was written.
    """
    try:
        data = storage.read_bytes(path)
    except FileNotFoundError:
        data = b""
    blob, checksum = data[:-4], data[-4:]
    if checksum != struct.pack("<I", google_crc32c.value(blob)):
        raise WorkError(
            f"wanted {path} as it was written, it is gone or its checksum differs: the "
            "work directory was damaged. Remove the output and run again"
        )
    return from_bytes(blob)


def concatenated(parts: Sequence[Arrays]) -> Arrays:
    """Joins blobs that hold the same arrays, one after another."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def drained(parts: list[Arrays]) -> Arrays:
    """Joins as `concatenated` does, letting go of each part's arrays on the way."""
    names = list(parts[0])
    if len(parts) == 1:  # perhaps one huge document, not to be copied
        return {name: parts[0].pop(name) for name in names}
    return {name: np.concatenate([part.pop(name) for part in parts]) for name in names}


def take(arrays: Arrays, index: np.ndarray) -> Arrays:
    """Returns rows by index, int64; `ids` are runs of `lengths`, where they occur."""
    taken = {name: array[index] for name, array in arrays.items() if name != "ids"}
    if "ids" in arrays:
        taken["ids"] = take_runs(arrays["ids"], arrays["lengths"], index)
    return taken


def take_runs(values: np.ndarray, lengths: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Reorders runs of values: run i is the next `lengths[i]` of them.

    Arrow's `take` on binary strings copies a run at a time: 20 to 30 times quicker
    than an index per value, and 4 to 8 times quicker than slices in Python.

    Args:
        values: [sum of lengths], any fixed-width dtype.
        lengths: int64 [runs].
        order: int64, which runs to take, in this order.

    Returns:
        The values of the runs taken, one run after another.
    """
    if np.array_equal(order, np.arange(len(lengths))):
        return values  # perhaps one huge run, not to be copied
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    offsets *= values.itemsize
    runs = array_of(np.ascontiguousarray(values), offsets, pa.large_binary())
    data, edges = views(runs.take(pa.array(order)))
    return data[edges[0] : edges[-1]].view(values.dtype)
