# SPDX-License-Identifier: Apache-2.0
"""Reads safetensors files, a tensor at a time, from a disk or a bucket.

    8 bytes, little endian: n      n bytes of JSON: name -> dtype, shape, data_offsets
    the tensors' bytes, one after another, without holes

The format's own library reads no buckets, and gives bfloat16 to PyTorch alone; so this
is code of our own, which `tests/trainer/published/` compares with files it wrote.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError

# The types that are read, in the order in which the format's library writes them.
DTYPES: Mapping[str, np.dtype] = {
    "F32": np.dtype("<f4"),
    "BF16": np.dtype(tf.bfloat16.as_numpy_dtype),
    "F16": np.dtype("<f2"),
}
# Bytes of what may lie beside them.
_OTHERS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("I16", "U16"), 2),
    **dict.fromkeys(("I32", "U32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}
_LENGTH_BYTES = 8
_LONGEST_HEADER = 100_000_000  # the format's own limit
METADATA = "__metadata__"
# What is held of a tensor while it is read or written. Of a model of 419 MiB, 8 MB left
# another 30 with the allocator, in pieces.
CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies.

    Attributes:
        path: its file.
        name: the tensor's.
        dtype: as the format calls it.
        shape: its shape.
        start: of its bytes in the file.
        end: after them.
    """

    path: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: str) -> dict[str, StoredTensor]:
    """Returns the tensors of a file by name, as its header says.

    Raises:
        FileNotFoundError: there is no such file.
        UsageError: it is no safetensors file, or not a whole one.
    """
    size = storage.file_size(path)
    length = int.from_bytes(storage.read_range(path, 0, min(size, 8)), "little")
    first = _LENGTH_BYTES + length
    if size < _LENGTH_BYTES or length > _LONGEST_HEADER or first > size:
        raise _damaged(path, f"{size:,} bytes, {length:,} of them said to be a header")
    try:
        header = strict_json.loads(storage.read_range(path, _LENGTH_BYTES, first))
        entries = {name: _entry(x) for name, x in header.items() if name != METADATA}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(path, f"a header that cannot be read ({error})") from None
    found, end = {}, 0
    for name, (dtype, shape, start, stop) in sorted(
        entries.items(), key=lambda item: item[1][2:]
    ):
        if start != end or stop < start:
            raise _damaged(path, f"{name} at bytes {start:,} to {stop:,}, not {end:,}")
        wide = DTYPES[dtype].itemsize if dtype in DTYPES else _OTHERS.get(dtype)
        if wide is not None and stop - start != math.prod(shape) * wide:
            raise _damaged(
                path, f"{stop - start:,} bytes for {name}, {dtype} of {list(shape)}"
            )
        found[name] = StoredTensor(
            path, name, dtype, shape, first + start, first + stop
        )
        end = stop
    if first + end != size:
        raise _damaged(path, f"{size:,} bytes where its header says {first + end:,}")
    return found


def _entry(found: Mapping[str, Any]) -> tuple[str, tuple[int, ...], int, int]:
    """Returns an entry of a header: its type, shape and offsets.

    Raises:
        ValueError: a number is none, or below 0.
    """
    dtype, shape, (start, end) = found["dtype"], found["shape"], found["data_offsets"]
    for number in (*shape, start, end):
        if type(number) is not int or number < 0:
            raise ValueError(f"{number!r} for a size or an offset")
    return str(dtype), tuple(shape), start, end


def _damaged(path: str, found: str) -> UsageError:
    return UsageError(
        f"wanted a whole safetensors file at {path}, found {found}. Download it again"
    )


def parts(tensor: StoredTensor, row: int) -> Iterator[np.ndarray]:
    """Yields a tensor's numbers in order, a few rows at a time, flat.

    Args:
        tensor: of a type that is read.
        row: numbers of a row.
    """
    dtype = DTYPES[tensor.dtype]
    held = storage.CLOUD_READ_BYTES if storage.is_cloud(tensor.path) else CHUNK_BYTES
    size = max(1, held // max(1, row * dtype.itemsize)) * row * dtype.itemsize
    for start in range(tensor.start, tensor.end, size):
        data = storage.read_range(tensor.path, start, min(start + size, tensor.end))
        yield np.frombuffer(data, dtype)


def read_into(tensor: StoredTensor, view: np.ndarray) -> None:
    """Reads a tensor into a float32 view of as many numbers, in their order.

    Raises:
        UsageError: a number is NaN or infinite.
    """
    row, at = math.prod(view.shape[1:]), 0
    for part in parts(tensor, row):
        values = part.astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            raise UsageError(
                f"wanted finite weights in {tensor.path}, found NaN or infinity in "
                f"{tensor.name}. Take weights that are whole"
            )
        count = len(values) // row
        view[at : at + count] = values.reshape(count, *view.shape[1:])
        at += count
