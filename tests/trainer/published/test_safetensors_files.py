# SPDX-License-Identifier: Apache-2.0
"""Headers of safetensors files that do not describe the bytes behind them."""

import json

import numpy as np
import pytest

from preprocessing.foundation.commands import UsageError
from trainer.published.safetensors_files import read_header, read_into
from trainer.published.safetensors_writing import TensorToWrite, write_weights


def entry(start, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def written(path, header, size):
    """Writes a file with a header, a table or bytes, before `size` bytes."""
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(data).to_bytes(8, "little") + data + bytes(size))
    return str(path)


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ({"a": entry(0, 8), "b": entry(4, 12)}, 12),  # overlap
        ({"a": entry(0, 8), "b": entry(0, 8)}, 8),  # the same bytes
        ({"a": entry(0, 8), "b": entry(12, 20)}, 20),  # a hole
        ({"a": entry(4, 12)}, 12),  # a hole before
        ({"a": entry(0, 8)}, 7),  # too few bytes
        ({"a": entry(0, 8)}, 9),  # too many
        ({"a": entry(8, 0)}, 8),  # backwards
        ({"a": entry(0, 8, [3])}, 8),  # of another shape
        ({"a": entry(0, 8, [2], "F16")}, 8),  # of another type
        ({"a": entry(0, 8, [-2])}, 8),
        ({"a": entry(0, 8, [2.0])}, 8),
        ({"a": entry(0, 8, [True, 2])}, 8),
        ({"a": {"dtype": "F32", "shape": [2]}}, 8),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0]}}, 8),
        ({"a": 3}, 8),
        ([entry(0, 8)], 8),
        (b"no JSON", 8),
        (b"\xff\xfe", 8),
    ],
)
def test_a_header_that_does_not_fit_its_file_is_refused(tmp_path, header, size):
    path = written(tmp_path / "x.safetensors", header, size)
    with pytest.raises(UsageError, match="wanted a whole safetensors file"):
        read_header(path)


def test_a_header_longer_than_the_file_is_not_read(tmp_path):
    path = tmp_path / "x.safetensors"
    for length in (9, 1 << 40, (1 << 64) - 1):
        path.write_bytes(length.to_bytes(8, "little") + b"{}")
        with pytest.raises(UsageError, match="said to be a header"):
            read_header(str(path))


def test_tensors_lie_in_any_order_and_may_be_empty_or_of_types_unread(tmp_path):
    header = {
        "__metadata__": {"format": "pt"},
        "b": entry(8, 16),
        "a": entry(0, 8),
        "none": entry(8, 8, [0, 4]),
        "mask": entry(16, 20, [4], "U8"),
        "new": entry(20, 21, [2], "F4"),
    }
    found = read_header(written(tmp_path / "x.safetensors", header, 21))
    assert list(found["none"].shape) == [0, 4]
    assert set(found) == {"a", "b", "none", "mask", "new"}


def test_a_tensor_larger_than_a_read_is_whole(tmp_path):
    values = np.arange(1_100_000, dtype=np.float32).reshape(1100, 1000) / 1e6
    tensor = TensorToWrite("x", "F32", values.shape, lambda: values)
    write_weights(str(tmp_path), [tensor])
    found = read_header(str(tmp_path / "model.safetensors"))["x"]
    read = np.zeros([1000, 1100], np.float32)
    read_into(found, read.T)
    assert np.array_equal(read.T, values)
