# SPDX-License-Identifier: Apache-2.0
"""What differs between two datasets: how they were made, what is in them, and where."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from preprocessing.contracts.dataset_files import read_provenance
from preprocessing.contracts.manifest import Manifest
from preprocessing.foundation.commands import count_of
from preprocessing.foundation.string_buffers import views

_MOST_SOURCES = 10


def compare_datasets(
    one: str, first: Manifest, other: str, second: Manifest
) -> Iterator[str]:
    """Yields a line for each difference, `one` first; one line if there is none.

    Reads both provenances: 16 bytes of memory for each document.
    """
    if first.dataset_hash == second.dataset_hash:
        yield f"the same dataset: {first.dataset_hash}"
        return
    yield from _fields("config", first.config, second.config)
    for name in ("tokenizer_sha256", "objective", "token_dtype", "schema_version"):
        yield from _fields(name, getattr(first, name), getattr(second, name))
    yield from _sources(first, second)
    yield from _fields("input", *(_totals(each) for each in (first, second)))
    yield from _fields(
        "counts", dataclasses.asdict(first.counts), dataclasses.asdict(second.counts)
    )
    for name in sorted({*first.splits, *second.splits}):
        yield from _split(name, first, second)
    yield from _documents(_split_of_key(one, first), _split_of_key(other, second))


def _fields(name: str, first: Any, second: Any) -> Iterator[str]:
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for key in sorted({*first, *second}):
            yield from _fields(f"{name}.{key}", first.get(key), second.get(key))
    elif first != second:
        yield f"{name}: {_shown(first)} | {_shown(second)}"


def _shown(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "nothing" if value is None else str(value)


def _totals(manifest: Manifest) -> dict[str, int] | None:
    """Returns what was read of the input; None where an earlier Quern did not say."""
    return None if manifest.input is None else dataclasses.asdict(manifest.input)


def _sources(first: Manifest, second: Manifest) -> Iterator[str]:
    sizes = [{s.path: s.size for s in each.sources} for each in (first, second)]
    changed = [
        path
        for path in sorted({*sizes[0], *sizes[1]})
        if sizes[0].get(path) != sizes[1].get(path)
    ]
    for path in changed[:_MOST_SOURCES]:
        shown = (_shown(size.get(path)) for size in sizes)
        yield f"source {path}, bytes: {' | '.join(shown)}"
    if len(changed) > _MOST_SOURCES:
        yield f"and {count_of(len(changed) - _MOST_SOURCES, 'more source')}"


def _split(name: str, first: Manifest, second: Manifest) -> Iterator[str]:
    splits = [each.splits.get(name) for each in (first, second)]
    for field in ("rows", "tokens", "text_bytes", "sources"):
        values = [split and getattr(split, field) for split in splits]
        yield from _fields(f"{name}.{field}", *values)
    hashes = [{s.sha256 for s in split.shards} if split else set() for split in splits]
    yield (
        f"{name}.shards: {len(hashes[0] & hashes[1]):,} the same, "
        f"{len(hashes[0] - hashes[1]):,} | {len(hashes[1] - hashes[0]):,} of their own"
    )


def _split_of_key(dataset: str, manifest: Manifest) -> dict[str, np.ndarray]:
    """Returns the documents of each split, sorted keys of 16 bytes."""
    keys = {}
    for split, line in manifest.splits.items():
        parts = [np.zeros(0, "V16")]
        for shard in line.shards:
            column = read_provenance(dataset, shard, ["document"])["document"]
            parts.append(_binary(column.combine_chunks()))
        keys[split] = np.unique(np.concatenate(parts).view("S16"))
    return keys


def _binary(column: pa.StringArray) -> np.ndarray:
    """Returns keys in hex as 16 bytes each."""
    data, edges = views(column)
    digits = data[edges[0] : edges[-1]]
    values = np.where(digits > ord("9"), digits - ord("a") + 10, digits - ord("0"))
    pairs = values.astype(np.uint8).reshape(-1, 2)
    return np.ascontiguousarray(pairs[:, 0] << 4 | pairs[:, 1]).view("V16")


def _documents(
    first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]
) -> Iterator[str]:
    every = [np.concatenate(list(each.values())) for each in (first, second)]
    both = len(np.intersect1d(*every))
    yield (
        f"documents: {both:,} in both, {len(every[0]) - both:,} | "
        f"{len(every[1]) - both:,} of their own"
    )
    stay = sum(
        len(np.intersect1d(first[name], second[name]))
        for name in first
        if name in second
    )
    if stay != both:
        yield f"documents in another split: {both - stay:,}"
