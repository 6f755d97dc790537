# SPDX-License-Identifier: Apache-2.0
"""Writes safetensors files, a few rows of a tensor at a time, and shards of them."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError
from trainer.published.safetensors_files import CHUNK_BYTES, DTYPES, METADATA
from trainer.published.weight_files import INDEX_NAME, WEIGHTS_NAME

# From there on there are several files, as Hugging Face's libraries have long had it.
SHARD_BYTES = 5_000_000_000
# The header's end is a multiple of it, so that numbers lie where they can be mapped.
_HEADER_ALIGNMENT = 8


@dataclass(frozen=True)
class TensorToWrite:
    """A tensor, and what gives its numbers.

    Attributes:
        name: the tensor's.
        dtype: what it is written as: one of `DTYPES`.
        shape: its shape.
        read: gives float32 numbers in its order, as an array of any shape that has as
            many.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]

    @property
    def size(self) -> int:
        """Bytes of its numbers."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize

    def chunks(self) -> Iterator[bytes]:
        """Yields its numbers as they are written.

        Raises:
            UsageError: a number is not finite in its type.
        """
        values, dtype = self.read(), DTYPES[self.dtype]
        row = math.prod(values.shape[1:])
        rows = max(1, CHUNK_BYTES // max(1, 4 * row))
        for start in range(0, len(values), rows):
            with np.errstate(over="ignore"):
                part = np.ascontiguousarray(values[start : start + rows]).astype(dtype)
            if not np.isfinite(part.astype(np.float32)).all():
                raise UsageError(
                    f"wanted finite weights to write, found NaN or infinity in "
                    f"{self.name} as {self.dtype}. Export an earlier checkpoint"
                )
            yield part.tobytes()


def write_weights(
    directory: str, tensors: Sequence[TensorToWrite], shard_bytes: int = SHARD_BYTES
) -> None:
    """Writes tensors into a directory: one file, or shards and their index.

    Args:
        directory: where.
        tensors: what; each is read when it is written, one at a time.
        shard_bytes: bytes of tensors that a file has at most, but for one that is
            larger alone.
    """
    shards = _shards(sorted(tensors, key=lambda each: each.name), shard_bytes)
    if len(shards) == 1:
        _write_file(storage.join(directory, WEIGHTS_NAME), shards[0])
        return
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write_file(storage.join(directory, name), shard)
        places |= {tensor.name: name for tensor in shard}
    index = {
        "metadata": {
            "total_parameters": sum(math.prod(tensor.shape) for tensor in tensors),
            "total_size": sum(tensor.size for tensor in tensors),
        },
        "weight_map": dict(sorted(places.items())),
    }
    data = strict_json.dumps(index, indent=2) + "\n"
    storage.write_atomically(storage.join(directory, INDEX_NAME), data.encode())


def _shards(tensors: Sequence[TensorToWrite], most: int) -> list[list[TensorToWrite]]:
    """Returns the tensors of each file, in their order."""
    shards: list[list[TensorToWrite]] = [[]]
    held = 0
    for tensor in tensors:
        if shards[-1] and held + tensor.size > most:
            shards.append([])
            held = 0
        shards[-1].append(tensor)
        held += tensor.size
    return shards


def _write_file(path: str, tensors: Sequence[TensorToWrite]) -> None:
    # The order of the format's own library: by type, then by name.
    order = list(DTYPES)
    inside = sorted(tensors, key=lambda each: (order.index(each.dtype), each.name))
    with storage.atomic_file(path) as file:
        file.write(_header(inside))
        for tensor in inside:
            _write_tensor(file, tensor)


def _header(tensors: Sequence[TensorToWrite]) -> bytes:
    # What says that PyTorch's layout is meant; transformers refuses files without it.
    entries: dict[str, Mapping[str, object]] = {METADATA: {"format": "pt"}}
    at = 0
    for tensor in tensors:
        offsets = [at, at + tensor.size]
        entries[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": offsets,
        }
        at = offsets[1]
    text = strict_json.dumps(
        entries, ensure_ascii=False, separators=(",", ":")
    ).encode()
    text += b" " * (-len(text) % _HEADER_ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _write_tensor(file: BinaryIO, tensor: TensorToWrite) -> None:
    for data in tensor.chunks():
        file.write(data)
