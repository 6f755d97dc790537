# SPDX-License-Identifier: Apache-2.0
"""The texts of an evaluation file, whatever its shape, for decontamination."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.decompression import (
    DamagedInput,
    compression_of,
    decompress,
)
from preprocessing.reading.format_names import format_by_name


def evaluation_texts(path: str) -> pa.LargeStringArray:
    """Returns every text of an evaluation file, each field one of its own.

    Of JSONL and Parquet that is every string, however deep (a question, its choices,
    an answer); of other files, every run of lines between blank ones.

    Raises:
        UsageError: the file is not there, cannot be read, or holds no text.
    """
    try:
        texts = pa.array(_texts(path), pa.large_string())
    except (OSError, ValueError, DamagedInput) as error:
        raise UsageError(
            f"wanted an evaluation file at {path}, found: {error}. Name JSONL, Parquet "
            "or text (.jsonl, .parquet, .txt)"
        ) from None
    if not len(texts):
        raise UsageError(
            f"wanted texts in the evaluation file {path}, found none. Check "
            "--decontaminate"
        )
    return texts


def _texts(path: str) -> Iterator[str]:
    kind = format_by_name(path)
    if kind is None:
        raise ValueError("a name that tells no format")
    with storage.open_input(path) as stored:
        if kind == "parquet":
            for batch in pq.ParquetFile(stored).iter_batches():
                for row in batch.to_pylist():
                    yield from _strings(row)
            return
        compression = compression_of(path)
        packed = compression != "none"
        parts = decompress(stored, compression) if packed else [stored.read()]
        data = b"".join(parts).decode()
    if kind == "jsonl":
        for line in data.splitlines():
            if line.strip():
                yield from _strings(json.loads(line))
        return
    for block in data.replace("\r\n", "\n").split("\n\n"):
        if block.strip():
            yield block


def _strings(value: Any) -> Iterator[str]:
    """Yields the strings in a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)
