# SPDX-License-Identifier: Apache-2.0
"""Reads a whole dataset again and compares it with what its manifest says."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.inspect.verify_mixture import MixtureRows
from pipelines.job.checksums import SUMS_NAME, read_sums
from pipelines.job.rejects import DIRECTORY, reject_files
from preprocessing.contracts.dataset_files import (
    INPUTS_NAME,
    fault,
    parse_inputs,
    parse_provenance,
    provenance_of,
    read_file,
    read_provenance,
)
from preprocessing.contracts.manifest import (
    MANIFEST_NAME,
    TOKENIZER_NAME,
    Manifest,
    Shard,
    config_hash,
)
from preprocessing.contracts.shards import record_format
from preprocessing.foundation.commands import count_of

BLOCK_ROWS = 4096


@dataclass
class _Totals:
    """What was found in a split so far; `mixture` knows its rows where it is one."""

    mixture: MixtureRows | None = None
    rows: int = 0
    documents: int = 0
    tokens: int = 0
    overlaps: int = 0


def verify(dataset: str, manifest: Manifest) -> Iterator[str]:
    """Checks everything a manifest promises, yielding a line for each part done.

    Checked are each shard's size and SHA-256, each record's layout and checksum, that
    segment lengths fit their row and ids their vocabulary, provenance segment by
    segment, totals, conservation (of documents, ids and, unless an earlier Quern wrote
    it, bytes of input), and every file against SHA256SUMS; a dataset of an earlier
    Quern has none, and then one line says so.

    Raises:
        WorkError: the first fault, by file and row.
    """
    sums = read_sums(dataset)
    _check_identity(dataset, manifest, sums)
    if not sums:
        yield f"no {SUMS_NAME}: rejects and origins are checked by their counts alone"
    total = _Totals()
    for split, line in manifest.splits.items():
        mixture = MixtureRows(sorted(line.sources)) if line.sources else None
        found = _Totals(mixture)
        for shard in line.shards:
            _check_shard(dataset, manifest, shard, sums, found)
        if mixture is not None:
            started = (_started(dataset, shard) for shard in line.shards)
            found.documents += mixture.without_start(started)
        _equal(f"tokens of {split}", found.tokens, line.tokens)
        tokens = count_of(found.tokens, "token")
        yield f"{split}: {count_of(found.rows, 'row')}, {tokens}"
        total.documents += found.documents
        total.tokens += found.tokens
        total.overlaps += found.overlaps
    counts = manifest.counts
    _equal("documents kept", total.documents, counts.kept)
    _equal("tokens_written", total.tokens, counts.tokens_written)
    _equal("overlap_tokens", total.overlaps, counts.overlap_tokens)
    _check_rejects(dataset, manifest, sums)
    yield from _check_inputs(dataset, manifest, sums)
    read = count_of(counts.read, "document")
    yield f"{read} read = {counts.kept:,} kept + the rejects listed"


def _check_identity(dataset: str, manifest: Manifest, sums: Mapping[str, str]) -> None:
    """Checks what says what the dataset is: manifest, configuration, tokenizer."""
    _check_sum(MANIFEST_NAME, manifest.dataset_hash, sums)
    if config_hash(manifest.config) != manifest.config_hash:
        raise fault(f"{MANIFEST_NAME} with the config of its config_hash", "another")
    sha256 = hashlib.sha256(read_file(dataset, TOKENIZER_NAME)).hexdigest()
    if sha256 != manifest.tokenizer_sha256:
        raise fault(f"{TOKENIZER_NAME} with the manifest's tokenizer_sha256", "another")
    _check_sum(TOKENIZER_NAME, sha256, sums)


def _check_sum(name: str, sha256: str, sums: Mapping[str, str]) -> None:
    if sums and sums.get(name) != sha256:
        raise fault(f"{name} with its sha256 in {SUMS_NAME}", sha256)


def _summed(dataset: str, name: str, sums: Mapping[str, str]) -> bytes:
    """Returns a file's bytes, which are those that were written."""
    data = read_file(dataset, name)
    _check_sum(name, hashlib.sha256(data).hexdigest(), sums)
    return data


def _check_shard(
    dataset: str,
    manifest: Manifest,
    shard: Shard,
    sums: Mapping[str, str],
    found: _Totals,
) -> None:
    data = read_file(dataset, shard.name)
    frame_bytes = record_format(manifest).frame_bytes
    if len(data) != shard.size or len(data) != shard.rows * frame_bytes:
        raise fault(f"{shard.name} of {shard.size} bytes", f"{len(data)} bytes")
    lengths = [np.zeros((0, manifest.max_segments), np.int64)]
    sources = [np.zeros(0, np.uint8)]
    for start in range(0, shard.rows, BLOCK_ROWS):
        end = min(start + BLOCK_ROWS, shard.rows)
        block = memoryview(data)[start * frame_bytes : end * frame_bytes]
        frames = np.frombuffer(block, np.uint8).reshape(end - start, frame_bytes)
        in_block, source = _check_rows(manifest, shard, start, frames)
        lengths.append(in_block)
        sources.append(source)
    # Last, so that a damaged row is named by its number where it can be.
    if hashlib.sha256(data).hexdigest() != shard.sha256:
        raise fault(f"{shard.name} with sha256 {shard.sha256}", "another one")
    _check_sum(shard.name, shard.sha256, sums)
    segments = np.concatenate(lengths)
    table = _check_provenance(dataset, shard, segments, sums, found)
    _count(manifest, shard, segments, np.concatenate(sources), table, found)
    found.rows += shard.rows


def _check_rows(
    manifest: Manifest, shard: Shard, start: int, frames: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Checks a block of rows.

    Returns:
        Their segment lengths, int64 [rows, max_segments], and sources in a mixture,
        uint8 [rows].
    """
    try:
        features = record_format(manifest).decode(frames)
    except ValueError as error:
        raise fault(
            f"whole rows in {shard.name}",
            f"a damaged one, counted from row {start}: {error}",
        ) from error
    total = np.zeros((len(frames), manifest.max_segments), np.int64)
    for name in ("tokens", "inputs", "targets"):
        if name not in features:
            continue
        ids, side = features[name], "" if name == "tokens" else f"{name}_"
        lengths = features[f"{side}segment_lengths"].astype(np.int64)
        empty = lengths == 0
        bad = (lengths.sum(axis=1) > ids.shape[1]) | (lengths < 0).any(axis=1)
        bad |= empty[:, 0] | (empty[:, :-1] & ~empty[:, 1:]).any(axis=1)
        # Each example has a segment on both sides.
        bad |= ((total > 0).any(axis=1)) & ((total == 0) != empty).any(axis=1)
        _refuse_rows(bad, f"segment lengths that fit their row in {shard.name}", start)
        beyond = (ids.astype(np.int64) >= manifest.vocab_size).any(axis=1)
        _refuse_rows(beyond, f"ids below {manifest.vocab_size} in {shard.name}", start)
        total += lengths
    _check_marks(shard, start, features)
    none = np.zeros((len(frames), 1), np.uint8)
    return total, features.get("sources", none)[:, 0]


def _check_marks(shard: Shard, start: int, features: Mapping[str, np.ndarray]) -> None:
    """Checks that prefixes lie in their segments and targets are what can be one."""
    if "prefix_lengths" in features:
        beyond = features["prefix_lengths"] > features["segment_lengths"]
        wanted = f"prefixes no longer than their segments in {shard.name}"
        _refuse_rows(beyond.any(axis=1), wanted, start)
    if "loss_mask" in features:
        lengths = features["segment_lengths"].astype(np.int64)
        ends = np.cumsum(lengths, axis=1)
        bits = np.unpackbits(features["loss_mask"], axis=1, bitorder="little")
        bad = (
            bits.cumsum(axis=1)[:, -1]
            != np.take_along_axis(
                np.pad(bits.cumsum(axis=1), ((0, 0), (1, 0))), ends[:, -1:], axis=1
            ).ravel()
        )
        rows, segments = np.nonzero(lengths)
        firsts = (ends - lengths)[rows, segments]
        bad[rows[bits[rows, firsts] > 0]] = True
        _refuse_rows(
            bad, f"a loss_mask of ids that can be targets in {shard.name}", start
        )


def _refuse_rows(bad: np.ndarray, wanted: str, start: int) -> None:
    if bad.any():
        raise fault(wanted, f"others in row {start + int(np.argmax(bad))}")


def _check_provenance(
    dataset: str,
    shard: Shard,
    lengths: np.ndarray,
    sums: Mapping[str, str],
    found: _Totals,
) -> pa.Table:
    """Compares the provenance with the segments that the rows hold, and returns it."""
    name = provenance_of(shard)
    table = parse_provenance(_summed(dataset, name, sums), name)
    rows, segments = np.nonzero(lengths)
    if not (
        len(table) == len(rows)
        and np.array_equal(table["row"].to_numpy(), rows + found.rows)
        and np.array_equal(table["segment"].to_numpy(), segments)
    ):
        raise fault(f"a line of {name} for each segment of {shard.name}", "others")
    return table


def _count(
    manifest: Manifest,
    shard: Shard,
    lengths: np.ndarray,
    sources: np.ndarray,
    table: pa.Table,
    found: _Totals,
) -> None:
    """Adds up a shard's documents and ids; of rows that are repeated the ids alone."""
    again = np.zeros(len(lengths), bool)
    if found.mixture is not None:
        wanted = f"rows of {shard.name} from the files of their source"
        _refuse_rows(found.mixture.misplaced(sources, table), wanted, 0)
        again = found.mixture.repeated(sources, table)
    found.tokens += int(lengths.sum())
    fresh = ~again[table["row"].to_numpy() - found.rows]
    later = fresh & (table["start"].to_numpy() > 0)
    found.documents += int(fresh.sum() - later.sum())
    # Only causal documents are cut where they share an id.
    found.overlaps += int(later.sum()) if manifest.objective == "causal" else 0
    found.overlaps += int(lengths[again].sum())


def _started(dataset: str, shard: Shard) -> pa.ChunkedArray:
    """Returns the documents of a shard's segments that start one."""
    table = read_provenance(dataset, shard, ["document", "start"])
    return table["document"].filter(pc.equal(table["start"], 0))


def _check_rejects(dataset: str, manifest: Manifest, sums: Mapping[str, str]) -> None:
    there = reject_files(dataset)
    listed = {name for name in sums if name.startswith(f"{DIRECTORY}/")}
    missing = listed.difference(there)
    if missing:
        raise fault(f"{min(missing)}, listed in {SUMS_NAME}", "no such file")
    lines = sum(_summed(dataset, name, sums).count(b"\n") for name in there)
    _equal("lines in rejects/", lines, sum(manifest.counts.rejected.values()))


def _check_inputs(
    dataset: str, manifest: Manifest, sums: Mapping[str, str]
) -> Iterator[str]:
    """Compares what was read of each file with the manifest; earlier ones say nothing.

    Yields:
        A line that says it.
    """
    totals = manifest.input
    if totals is None:
        return
    table = parse_inputs(_summed(dataset, INPUTS_NAME, sums))
    sources = [(source.path, source.size) for source in manifest.sources]
    found = [*zip(table["path"].to_pylist(), table["bytes"].to_pylist(), strict=True)]
    if found != sources:
        raise fault(f"the manifest's sources in {INPUTS_NAME}", "others")
    bad = pc.less(table["bytes"], table["bytes_read"])
    bad = pc.or_(bad, pc.less(table["bytes_read"], 0))
    if pc.any(bad).as_py():
        raise fault(f"no more bytes read than there are in {INPUTS_NAME}", "more")
    _equal(
        f"documents in {INPUTS_NAME}",
        _summed_up(table, "documents"),
        manifest.counts.read,
    )
    _equal("bytes of input", _summed_up(table, "bytes"), totals.size)
    _equal("bytes of input read", _summed_up(table, "bytes_read"), totals.read)
    yield (
        f"{totals.size:,} bytes of input = {totals.read:,} read + "
        f"{totals.not_read:,} not read"
    )


def _summed_up(table: pa.Table, name: str) -> int:
    return pc.sum(table[name]).as_py() or 0


def _equal(what: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise fault(f"{what} to be the manifest's {wanted}", str(found))
