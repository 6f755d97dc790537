# SPDX-License-Identifier: Apache-2.0
"""quern-inspect: shows, verifies, reads, searches and compares datasets.

It also estimates what a preparation will take before one is made.
"""

import argparse
from collections.abc import Iterator, Sequence
from typing import NoReturn

import numpy as np
import pyarrow.compute as pc

from pipelines.inspect.compare_datasets import compare_datasets
from pipelines.inspect.find_document import find_document
from pipelines.inspect.verify import verify
from preprocessing.contracts.dataset_files import read_provenance
from preprocessing.contracts.manifest import Manifest, read_manifest
from preprocessing.contracts.row_segments import RowSegment, row_segments
from preprocessing.contracts.shards import Shards
from preprocessing.foundation import storage
from preprocessing.foundation.commands import CommandParser, UsageError, count_of, run
from preprocessing.objectives.objectives import (
    ObjectiveConfig,
    original_ids,
    special_ids,
)
from preprocessing.tokenizer.tokenizer import Tokenizer

# What each action wants after its name.
ACTIONS = {
    "show": "DATASET",
    "verify": "DATASET",
    "row": "DATASET N",
    "find": "DATASET DOCUMENT_ID",
    "diff": "DATASET OTHER",
    "estimate": "and the flags of quern-prepare",
}


def cli() -> NoReturn:
    """Runs the command on the process's arguments."""
    run(main)


def main(argv: Sequence[str]) -> None:
    """Inspects a dataset."""
    if argv[:1] == ["estimate"]:
        # The only action without a dataset; its flags are another command's.
        from pipelines.inspect.estimate import estimate

        print(estimate(argv[1:]))
        return
    flags = _parser().parse_args(argv)
    wants_more = len(ACTIONS[flags.action].split()) - 1
    if flags.action == "estimate" or wants_more != len(flags.more):
        forms = ", ".join(f"{name} {wanted}" for name, wanted in ACTIONS.items())
        found = " ".join(argv)
        raise UsageError(f"wanted {forms}, found {found}. Give one of these")
    manifest = read_manifest(flags.dataset)
    if flags.action == "show":
        print(_shown(manifest))
    elif flags.action == "row":
        number = _number(flags.more[0])
        print(_row(flags.dataset, manifest, flags.split, number))
    else:
        for line in _lines(flags, manifest):
            print(line, flush=True)
    if flags.action == "verify":
        print(f"{flags.dataset} is whole: every byte, count and origin checked")


def _lines(flags: argparse.Namespace, manifest: Manifest) -> Iterator[str]:
    if flags.action == "verify":
        return verify(flags.dataset, manifest)
    if flags.action == "find":
        return find_document(flags.dataset, manifest, flags.more[0])
    other = flags.more[0]
    return compare_datasets(flags.dataset, manifest, other, read_manifest(other))


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(
            f"wanted a row's number after row DATASET, found '{text}'. Count from 0"
        ) from None


def _parser() -> CommandParser:
    parser = CommandParser(
        "quern-inspect",
        "show DATASET prints what a dataset holds; verify DATASET reads all of it "
        "again and fails at the first fault; row DATASET N prints one row, segment by "
        "segment, and where each comes from; find DATASET DOCUMENT_ID says which rows "
        "hold a document or why none does; diff DATASET OTHER says what differs; "
        "estimate and the flags of quern-prepare say what a preparation will take, "
        "from a thousandth of its input.",
    )
    parser.add_argument("action", choices=list(ACTIONS))
    parser.add_argument("dataset", metavar="DATASET", help="a dataset's directory")
    parser.add_argument(
        "more",
        nargs="*",
        metavar="MORE",
        help="row: its number; find: the document's id, key or PATH:OFFSET; diff: the "
        "other dataset",
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
    lines.append(f"sources          {count_of(len(manifest.sources), 'file')}")
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
    features = {n: x[0] for n, x in rows.read(np.array([number])).items()}
    origins = _origins(dataset, manifest, split, number)
    lines, filled = [], 0
    for place, segment in enumerate(row_segments(features)):
        origin = origins[place]
        lines.append(
            f"--- segment {place}: {count_of(len(segment.ids), 'id')} from id "
            f"{origin['start']} of document {origin['document']} "
            f"({origin['path']} at offset {origin['offset']})"
        )
        lines += _shown_segment(manifest, tokenizer, segment)
        filled += len(segment.ids)
    lines.append(f"--- {count_of(manifest.row_places - filled, 'id')} of padding")
    return "\n".join(lines)


def _shown_segment(
    manifest: Manifest, tokenizer: Tokenizer, segment: RowSegment
) -> list[str]:
    """Returns a segment's text: inputs, then targets, then what both were made from."""
    if manifest.objective == "causal":
        return [tokenizer.decode(segment.ids.tolist())]
    texts = tokenizer.bpe.text_tokens
    added = tokenizer.bpe.added.items()
    names = {id: name for name, id in added if name not in texts}

    def spelled(ids: np.ndarray) -> str:
        marks = np.flatnonzero([id in names for id in ids.tolist()])
        parts = [part.tolist() for part in np.split(ids, marks)]
        words = [tokenizer.decode(parts[0])]
        words += [names[part[0]] + tokenizer.decode(part[1:]) for part in parts[1:]]
        return "".join(words)

    lines = []
    if len(segment.inputs):
        lines.append(spelled(segment.inputs))
        lines.append(f"--- {count_of(len(segment.targets), 'id')} of targets")
    lines.append(spelled(segment.targets))
    objective = ObjectiveConfig(**manifest.config["objective"])
    special = special_ids(objective, tokenizer)
    if len(special):
        ids = original_ids(objective, special, segment.ids, len(segment.inputs))
        lines += ["--- made from", tokenizer.decode(ids.tolist())]
    return lines


def _origins(
    dataset: str, manifest: Manifest, split: str, number: int
) -> list[dict[str, object]]:
    """Returns the provenance of a row's segments, in order."""
    shards = manifest.splits[split].shards
    ends = np.cumsum([shard.rows for shard in shards])
    shard = int(np.searchsorted(ends, number, side="right"))
    table = read_provenance(dataset, shards[shard])
    return table.filter(pc.equal(table["row"], number)).to_pylist()


if __name__ == "__main__":
    cli()
