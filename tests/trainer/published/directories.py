# SPDX-License-Identifier: Apache-2.0
"""Published directories for tests: copies with something changed."""

import json
import shutil

import numpy as np

from tests.trainer.published.parity import DECODERS
from trainer.published.safetensors_files import DTYPES, parts, read_header
from trainer.published.safetensors_writing import TensorToWrite, write_weights


def copied(name, directory, **fields):
    """Copies a decoder without its weights, fields changed (None takes one out)."""
    shutil.copytree(
        DECODERS / name, directory, ignore=shutil.ignore_patterns("*.npz", "*.safe*")
    )
    config = json.loads((directory / "config.json").read_text())
    config = {k: v for k, v in {**config, **fields}.items() if v is not None}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def arrays(directory):
    """Returns the tensors of `model.safetensors` as float32 arrays, by name."""
    found = read_header(str(directory / "model.safetensors"))
    read = {name: np.concatenate(list(parts(x, 64))) for name, x in found.items()}
    return {
        name: values.astype(np.float32).reshape(found[name].shape)
        for name, values in read.items()
    }


def write_arrays(directory, values, dtype="F32", shard_bytes=5_000_000_000):
    """Writes arrays as a directory's weights."""
    assert dtype in DTYPES
    tensors = [
        TensorToWrite(name, dtype, each.shape, lambda each=each: each)
        for name, each in values.items()
    ]
    write_weights(str(directory), tensors, shard_bytes)
