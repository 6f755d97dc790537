# SPDX-License-Identifier: Apache-2.0
"""Reads a whole dataset again and compares it with what its manifest says."""

import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from preprocessing import storage
from preprocessing.commands import WorkError
from preprocessing.manifest import Manifest, Shard
from preprocessing.shards import record_format

BLOCK_ROWS = 4096


@dataclass
class _Totals:
    """What was found in a split so far."""

    rows: int = 0
    documents: int = 0
    tokens: int = 0
    overlaps: int = 0


def verify(dataset: str, manifest: Manifest) -> Iterator[str]:
    """Checks everything a manifest promises, yielding a line for each part done.

    Checked are each shard's size and SHA-256, each record's layout and checksum, that
    segment lengths fit their row and ids their vocabulary, provenance segment by
    segment, totals, conservation, and the tokenizer's hash.

    Raises:
        WorkError: the first fault, by file and row.
    """
    data = _read(dataset, "tokenizer.json")
    if hashlib.sha256(data).hexdigest() != manifest.tokenizer_sha256:
        raise _fault("tokenizer.json with the manifest's tokenizer_sha256", "another")
    total = _Totals()
    for split, line in manifest.splits.items():
        found = _Totals()
        for shard in line.shards:
            _check_shard(dataset, manifest, shard, found)
        _equal(f"tokens of {split}", found.tokens, line.tokens)
        yield f"{split}: {found.rows:,} rows, {found.tokens:,} tokens"
        total.documents += found.documents
        total.tokens += found.tokens
        total.overlaps += found.overlaps
    counts = manifest.counts
    _equal("documents kept", total.documents, counts.kept)
    _equal("tokens_written", total.tokens, counts.tokens_written)
    _equal("overlap_tokens", total.overlaps, counts.overlap_tokens)
    _check_rejects(dataset, manifest)
    yield f"{counts.read:,} documents read = {counts.kept:,} kept + the rejects listed"


def _check_shard(
    dataset: str, manifest: Manifest, shard: Shard, found: _Totals
) -> None:
    data = _read(dataset, shard.name)
    frame_bytes = record_format(manifest).frame_bytes
    if len(data) != shard.size or len(data) != shard.rows * frame_bytes:
        raise _fault(f"{shard.name} of {shard.size} bytes", f"{len(data)} bytes")
    lengths = [np.zeros((0, manifest.max_segments), np.int64)]
    for start in range(0, shard.rows, BLOCK_ROWS):
        end = min(start + BLOCK_ROWS, shard.rows)
        block = memoryview(data)[start * frame_bytes : end * frame_bytes]
        frames = np.frombuffer(block, np.uint8).reshape(end - start, frame_bytes)
        lengths.append(_check_rows(manifest, shard, start, frames))
    # Last, so that a damaged row is named by its number where it can be.
    if hashlib.sha256(data).hexdigest() != shard.sha256:
        raise _fault(f"{shard.name} with sha256 {shard.sha256}", "another one")
    _check_provenance(dataset, shard, np.concatenate(lengths), found)
    found.rows += shard.rows


def _check_rows(
    manifest: Manifest, shard: Shard, start: int, frames: np.ndarray
) -> np.ndarray:
    """Checks a block and returns its segment lengths, int64 [rows, max_segments]."""
    try:
        tokens, lengths = record_format(manifest).decode(frames)
    except ValueError as error:
        raise _fault(
            f"whole rows in {shard.name}",
            f"a damaged one, counted from row {start}: {error}",
        ) from error
    lengths = lengths.astype(np.int64)
    empty = lengths == 0
    bad = (lengths.sum(axis=1) > tokens.shape[1]) | (lengths < 0).any(axis=1)
    bad |= empty[:, 0] | (empty[:, :-1] & ~empty[:, 1:]).any(axis=1)
    _refuse_rows(bad, f"segment lengths that fit their row in {shard.name}", start)
    beyond = (tokens.astype(np.int64) >= manifest.vocab_size).any(axis=1)
    _refuse_rows(beyond, f"ids below {manifest.vocab_size} in {shard.name}", start)
    return lengths


def _refuse_rows(bad: np.ndarray, wanted: str, start: int) -> None:
    if bad.any():
        raise _fault(wanted, f"others in row {start + int(np.argmax(bad))}")


def _check_provenance(
    dataset: str, shard: Shard, lengths: np.ndarray, found: _Totals
) -> None:
    """Compares the provenance with the segments that the rows hold."""
    name = f"provenance-{shard.name.removesuffix('.tfrecord')}.parquet"
    table = pq.read_table(io.BytesIO(_read(dataset, name)))
    rows, segments = np.nonzero(lengths)
    if not (
        len(table) == len(rows)
        and np.array_equal(table["row"].to_numpy(), rows + found.rows)
        and np.array_equal(table["segment"].to_numpy(), segments)
    ):
        raise _fault(f"a line of {name} for each segment of {shard.name}", "others")
    found.tokens += int(lengths.sum())
    overlaps = int(pc.sum(pc.greater(table["start"], 0)).as_py() or 0)
    found.overlaps += overlaps
    found.documents += len(rows) - overlaps


def _check_rejects(dataset: str, manifest: Manifest) -> None:
    directory = storage.join(dataset, "rejects")
    lines = sum(
        _read(directory, name).count(b"\n")
        for name in storage.list_names(directory)
        if re.fullmatch(r"[^.].*\.jsonl", name)
    )
    _equal("lines in rejects/", lines, sum(manifest.counts.rejected.values()))


def _read(dataset: str, name: str) -> bytes:
    try:
        return storage.read_bytes(storage.join(dataset, name))
    except FileNotFoundError:
        raise _fault(f"{name} in {dataset}", "no such file") from None


def _equal(what: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise _fault(f"{what} to be the manifest's {wanted}", str(found))


def _fault(wanted: str, found: str) -> WorkError:
    return WorkError(
        f"wanted {wanted}, found {found}. Copy the dataset again, or prepare it again"
    )
