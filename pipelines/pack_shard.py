# SPDX-License-Identifier: Apache-2.0
"""The second half of a preparation: one range of the global order to its shards.

    blobs -> documents in the seed's order -> losers out -> train | validation
          -> packed rows -> records -> {split}-i-of-n.tfrecord
          -> where each segment comes from -> provenance, rows numbered in the shard

A shard of many short documents is gathered and packed in parts, ranges of the order
one after another, so that what a worker holds has a bound.

Row numbers of a whole split need the sizes of earlier shards, so the provenance waits
in the work directory until `write_provenance` knows them.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from pipelines.blobs import Arrays, drained, to_bytes
from pipelines.plan import PLANNERS, Job
from pipelines.shard_documents import VALIDATION, ShardDocuments, ShardInput
from pipelines.source_groups import source_groups
from pipelines.steps import Clock, Record, read_record, write_record
from preprocessing import storage
from preprocessing.fingerprints import seed_word
from preprocessing.packing import PackedRows, pack
from preprocessing.shards import shard_name, write_shard

KIND = "shards"
SPLITS = ("train", VALIDATION)


def pack_shard(job: Job, index: int, gathered: ShardInput) -> dict[str, int]:
    """Writes shard `index` of every split, unless its record says it is written.

    Returns:
        The rows of each split's shard.
    """
    done = read_record(job, KIND, index)
    if done is None:
        done = _pack(job, index, gathered)
        write_record(job, KIND, index, done)
    return {name: split["shard"]["rows"] for name, split in done["splits"].items()}


def _pack(job: Job, index: int, gathered: ShardInput) -> Record:
    clock, documents = Clock(), ShardDocuments(job, index, gathered)
    splits: dict[str, Record] = {}
    by_length, by_source = np.zeros(64, np.int64), Counter[str]()
    for split in splits_of(job):
        splits[split], tally = _write_split(job, split, index, documents, clock)
        by_length += tally.by_length
        by_source += tally.by_source
    return {
        "splits": splits,
        "parts": documents.parts,
        "dropped_documents": documents.dropped_documents,
        "dropped_tokens": documents.dropped_tokens,
        "length_histogram": np.trim_zeros(by_length, "b").tolist(),
        "tokens_by_source": dict(by_source),
        "seconds": clock.seconds,
        "cpu_seconds": clock.cpu_seconds,
    }


def splits_of(job: Job) -> tuple[str, ...]:
    """Returns the splits of the dataset: validation only where it gets a share."""
    return SPLITS if job.config.validation_fraction else SPLITS[:1]


def _write_split(
    job: Job, split: str, index: int, documents: ShardDocuments, clock: Clock
) -> tuple[Record, "_Tally"]:
    """Packs and writes one split's shard, and keeps its provenance for later."""
    tally = _Tally()
    frames = _frames(job, split, index, documents, tally, clock)
    shard = write_shard(job.output, shard_name(split, index, job.shards), frames)
    return {"shard": asdict(shard), **tally.counts}, tally


def _frames(
    job: Job,
    split: str,
    index: int,
    documents: ShardDocuments,
    tally: "_Tally",
    clock: Clock,
) -> Iterator[np.ndarray]:
    """Yields a split's records, part by part; each part's provenance is kept."""
    layout, first_row = job.config.layout, 0
    for number in range(documents.parts):
        with clock.part("gather"):
            part = documents.part(number, split)
        segments: list[Arrays] = []
        blocks = _packed(job, split, index, number, part)
        while True:
            with clock.part("pack"):
                block = next(blocks, None)
            if block is None:
                break
            segments.append(_segments(block, first_row))
            first_row += len(block.tokens)
            with clock.part("encode records"):
                encoded = layout.encode(block.tokens, block.segment_lengths)
            with clock.part("write"):
                yield encoded
        table = drained(segments) if segments else _no_segments()
        tally.add(job, part, table)
        with clock.part("write"):
            path = provenance_work_path(job, split, index, number)
            _keep_provenance(path, part, table)
        del part, blocks, table  # before the next part comes


def _packed(
    job: Job, split: str, index: int, number: int, part: Arrays
) -> Iterator[PackedRows]:
    seed = seed_word(job.config.seed, index, SPLITS.index(split))
    return pack(
        part["ids"],
        part["lengths"],
        job.config.layout,
        PLANNERS[job.config.packing],
        int(seed) + number,
        job.config.tokenizer.pad_id,
    )


class _Tally:
    """Adds up a split's documents and segments over the shard's parts."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(
            (
                "documents",
                "text_bytes",
                "tokens_encoded",
                "tokens_written",
                "overlap_tokens",
            ),
            0,
        )
        self.by_length = np.zeros(64, np.int64)
        self.by_source: Counter[str] = Counter()

    def add(self, job: Job, part: Arrays, table: Arrays) -> None:
        """Adds a part's documents and the segments they became."""
        lengths = part["lengths"]
        self.counts["documents"] += len(lengths)
        self.counts["text_bytes"] += int(part["text_bytes"].sum())
        self.counts["tokens_encoded"] += int(lengths.sum())
        self.counts["tokens_written"] += int(table["length"].sum())
        # Every segment that is not a document's first repeats one id.
        self.counts["overlap_tokens"] += int((table["start"] > 0).sum())
        powers = np.log2(np.maximum(lengths, 1)).astype(np.int64)
        self.by_length += np.bincount(powers, minlength=len(self.by_length))
        self.by_source.update(_by_source(job, part["files"], lengths))


def _segments(block: PackedRows, first_row: int) -> Arrays:
    return {
        "row": block.row + first_row,
        "segment": block.segment.astype(np.int32),
        "document": block.document,
        "start": block.start,
        "length": block.length,
    }


def _no_segments() -> Arrays:
    return {
        name: np.zeros(0, np.int32 if name == "segment" else np.int64)
        for name in ("row", "segment", "document", "start", "length")
    }


def provenance_work_path(job: Job, split: str, index: int, part: int) -> str:
    """Returns where the provenance of a shard's part waits for its row numbers."""
    return job.path("provenance", f"{split}-{index:05d}-{part:05d}")


def _keep_provenance(path: str, documents: Arrays, table: Arrays) -> None:
    document = table["document"]
    blob = to_bytes(
        {
            "row": table["row"],
            "segment": table["segment"],
            "start": table["start"],
            "keys": documents["keys"][document],
            "files": documents["files"][document],
            "offsets": documents["offsets"][document],
        }
    )
    storage.write_atomically(path, blob)


def _by_source(job: Job, files: np.ndarray, lengths: np.ndarray) -> dict[str, int]:
    names, group_of_file = source_groups(job.plan())
    tokens = np.bincount(group_of_file[files], lengths, minlength=len(names))
    return {
        name: int(count) for name, count in zip(names, tokens, strict=True) if count
    }
