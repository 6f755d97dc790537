# SPDX-License-Identifier: Apache-2.0
"""quern-inspect: shows a dataset, verifies it byte by byte, or reads one row aloud."""

import io
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.verify import verify
from preprocessing import storage
from preprocessing.commands import CommandParser, UsageError, run
from preprocessing.manifest import Manifest, read_manifest
from preprocessing.shards import Shards
from preprocessing.tokenizer import Tokenizer

ACTIONS = ("show", "verify", "row")


def cli() -> NoReturn:
    """Runs the command on the process's arguments."""
    run(main)


def main(argv: Sequence[str]) -> None:
    """Inspects a dataset."""
    flags = _parser().parse_args(argv)
    if (flags.action == "row") != (flags.number is not None):
        raise UsageError(
            "wanted show DATASET, verify DATASET or row DATASET N, found "
            f"{' '.join(argv)}. Give the row's number to row alone"
        )
    manifest = read_manifest(flags.dataset)
    if flags.action == "show":
        print(_shown(manifest))
    elif flags.action == "verify":
        for line in verify(flags.dataset, manifest):
            print(line, flush=True)
        print(f"{flags.dataset} is whole: every byte, count and origin checked")
    else:
        print(_row(flags.dataset, manifest, flags.split, flags.number))


def _parser() -> CommandParser:
    parser = CommandParser(
        "quern-inspect",
        "show prints what a dataset holds; verify reads all of it again and fails at "
        "the first fault; row prints the text of one row, segment by segment, and "
        "where each comes from.",
    )
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("dataset", metavar="DATASET", help="a dataset's directory")
    parser.add_argument(
        "number", nargs="?", type=int, metavar="N", help="the row, for row"
    )
    parser.add_argument("--split", default="train", help="the row's split")
    return parser


def _shown(manifest: Manifest) -> str:
    counts = manifest.counts
    lines = [
        f"dataset hash     {manifest.dataset_hash}",
        f"objective        {manifest.objective}, sequence length "
        f"{manifest.sequence_length:,}, ids as {manifest.token_dtype}",
        f"tokenizer        {manifest.vocab_size:,} ids, bos {manifest.bos_id}, eos "
        f"{manifest.eos_id}, pad {manifest.pad_id}, sha256 {manifest.tokenizer_sha256}",
        f"documents        {counts.read:,} read, {counts.kept:,} kept",
    ]
    lines += [
        f"  rejected       {count:,} {reason}"
        for reason, count in counts.rejected.items()
    ]
    lines.append(
        f"tokens           {counts.tokens_encoded:,} encoded + "
        f"{counts.overlap_tokens:,} overlaps = {counts.tokens_written:,} written + "
        f"{counts.dropped_tokens:,} dropped"
    )
    lines.append(f"sources          {len(manifest.sources):,} files")
    lines.append(f"{'split':<12}{'rows':>12}{'tokens':>16}{'text bytes':>16}  shards")
    lines += [
        f"{name:<12}{split.rows:>12,}{split.tokens:>16,}{split.text_bytes:>16,}  "
        f"{len(split.shards):,}"
        for name, split in manifest.splits.items()
    ]
    return "\n".join(lines)


def _row(dataset: str, manifest: Manifest, split: str, number: int) -> str:
    """Returns the decoded segments of a row, each under a line that says its origin."""
    rows = Shards(dataset, manifest, split)
    if not 0 <= number < rows.num_rows:
        raise UsageError(
            f"wanted a row of {split} in {dataset}, found {number}. Name one from 0 to "
            f"{rows.num_rows - 1}"
        )
    tokenizer = Tokenizer.restore(
        storage.join(dataset, "tokenizer.json"),
        bos_id=manifest.bos_id,
        eos_id=manifest.eos_id,
        pad_id=manifest.pad_id,
    )
    tokens, lengths = rows.read(np.array([number]))
    lengths = lengths[0][lengths[0] > 0]
    origins = _origins(dataset, manifest, split, number)
    lines, at = [], 0
    for segment, length in enumerate(lengths.tolist()):
        origin = origins[segment]
        lines.append(
            f"--- segment {segment}: {length} ids from id {origin['start']} of "
            f"document {origin['document']} "
            f"({origin['path']} at offset {origin['offset']})"
        )
        lines.append(tokenizer.decode(tokens[0, at : at + length].tolist()))
        at += length
    lines.append(f"--- {tokens.shape[1] - at} ids of padding")
    return "\n".join(lines)


def _origins(
    dataset: str, manifest: Manifest, split: str, number: int
) -> list[dict[str, object]]:
    """Returns the provenance of a row's segments, in order."""
    shards = manifest.splits[split].shards
    ends = np.cumsum([shard.rows for shard in shards])
    shard = int(np.searchsorted(ends, number, side="right"))
    name = f"provenance-{shards[shard].name.removesuffix('.tfrecord')}.parquet"
    data = storage.read_bytes(storage.join(dataset, name))
    table = pq.read_table(io.BytesIO(data))
    return table.filter(pc.equal(table["row"], number)).to_pylist()


if __name__ == "__main__":
    cli()
