# SPDX-License-Identifier: Apache-2.0
"""The second half of a preparation: one range of the global order to its shards.

    blobs -> documents in the seed's order -> losers out -> train | validation
          -> packed rows -> records -> {split}-i-of-n.tfrecord
          -> where each segment comes from -> provenance, rows numbered in the shard

Row numbers of a whole split need the sizes of earlier shards, so the provenance waits
in the work directory until `write_provenance` knows them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from pipelines.blobs import Arrays, concatenated, from_bytes, take_runs, to_bytes
from pipelines.duplicates import validates
from pipelines.plan import PLANNERS, Job
from pipelines.shuffle import receive
from pipelines.source_groups import source_groups
from pipelines.steps import Clock, Record, read_record, write_record
from preprocessing import storage
from preprocessing.fingerprints import order_hash, seed_word, split_hash
from preprocessing.packing import PackedRows, pack
from preprocessing.shards import shard_name, write_shard

KIND = "shards"
SPLITS = ("train", "validation")


@dataclass
class ShardInput:
    """What is gathered for one shard, still as Beam values."""

    documents: list[bytes] = field(default_factory=list)
    losers: list[bytes] = field(default_factory=list)
    forced: list[bytes] = field(default_factory=list)


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
    clock = Clock()
    with clock.part("gather"):
        documents = _documents(job, gathered.documents)
        lost = _lost(job, documents, gathered.losers)
        order = _order(job, documents)
        order = order[~lost[order]]
        chosen = _chosen(job, documents, gathered.forced)[order]
    splits = {}
    for split in splits_of(job):
        rows = order[chosen if split == "validation" else ~chosen]
        with clock.part("gather"):
            part = _select(documents, rows)
        splits[split] = _write_split(job, split, index, part, clock)
    return {
        "splits": splits,
        "dropped_documents": int(lost.sum()),
        "dropped_tokens": int(documents["lengths"][lost].sum()),
        "length_histogram": _histogram(documents["lengths"][order]),
        "tokens_by_source": _by_source(
            job, documents["files"][order], documents["lengths"][order]
        ),
        "seconds": clock.seconds,
        "cpu_seconds": clock.cpu_seconds,
    }


def splits_of(job: Job) -> tuple[str, ...]:
    """Returns the splits of the dataset: validation only where it gets a share."""
    return SPLITS if job.config.validation_fraction else SPLITS[:1]


def _documents(job: Job, values: Sequence[bytes]) -> Arrays:
    """Returns everything gathered, in no particular order."""
    parts = [from_bytes(blob) for blob in receive(job.work, values)]
    return concatenated(parts) if parts else _no_documents(job)


def _order(job: Job, rows: Arrays) -> np.ndarray:
    """Returns the documents' places in the seed's order, int64 [n].

    Two keys may share a hash and two documents a key (a repeated id), so the order is
    made whole by the rest of what names a document.
    """
    hashes = order_hash(job.config.seed, rows["keys"])
    words = np.ascontiguousarray(rows["keys"]).view(">u8").astype(np.uint64)
    return np.lexsort((rows["offsets"], words[:, 1], words[:, 0], hashes))


def _chosen(job: Job, rows: Arrays, forced: Sequence[bytes]) -> np.ndarray:
    """Tells which documents go to validation, bool [n]."""
    chosen = validates(job, split_hash(job.config.seed, rows["keys"]))
    for blob in forced:
        chosen |= (rows["keys"] == from_bytes(blob)["keys"]).all(axis=1)
    return chosen


def _lost(job: Job, rows: Arrays, losers: Sequence[bytes]) -> np.ndarray:
    """Tells which rows are among the losers, by key and offset, bool [n]."""
    parts = [from_bytes(blob) for blob in receive(job.work, losers)]
    if not parts:
        return np.zeros(len(rows["keys"]), bool)
    out = concatenated(parts)
    return np.isin(_names(rows), _names(out))


def _names(rows: Arrays) -> np.ndarray:
    """Returns (key, offset) of each row as one comparable value."""
    offsets = np.ascontiguousarray(rows["offsets"], ">i8").view(np.uint8)
    names = np.hstack([rows["keys"], offsets.reshape(-1, 8)])
    # Three big-endian words compare as a record; bytes would lose trailing zeros.
    words = np.ascontiguousarray(names).view(">u8").astype("<u8")
    return np.ascontiguousarray(words).view([("a", "<u8"), ("b", "<u8"), ("c", "<u8")])[
        :, 0
    ]


def _select(rows: Arrays, index: np.ndarray) -> Arrays:
    """Returns documents by index, their ids with them."""
    chosen = {name: column[index] for name, column in rows.items() if name != "ids"}
    chosen["ids"] = take_runs(rows["ids"], rows["lengths"], index)
    return chosen


def _no_documents(job: Job) -> Arrays:
    return {
        "keys": np.zeros((0, 16), np.uint8),
        "offsets": np.zeros(0, np.int64),
        "files": np.zeros(0, np.int32),
        "text_bytes": np.zeros(0, np.int64),
        "lengths": np.zeros(0, np.int64),
        "ids": np.zeros(0, job.config.layout.token_dtype),
    }


def _write_split(
    job: Job, split: str, index: int, documents: Arrays, clock: Clock
) -> Record:
    """Packs and writes one split's shard, and keeps its provenance for later."""
    layout = job.config.layout
    segments: list[Arrays] = []
    first_row = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal first_row
        blocks = pack(
            documents["ids"],
            documents["lengths"],
            layout,
            PLANNERS[job.config.packing],
            int(seed_word(job.config.seed, index, SPLITS.index(split))),
            job.config.tokenizer.pad_id,
        )
        while True:
            with clock.part("pack"):
                block = next(blocks, None)
            if block is None:
                return
            segments.append(_segments(block, first_row))
            first_row += len(block.tokens)
            with clock.part("encode records"):
                encoded = layout.encode(block.tokens, block.segment_lengths)
            with clock.part("write"):
                yield encoded

    shard = write_shard(job.output, shard_name(split, index, job.shards), frames())
    table = concatenated(segments) if segments else _no_segments()
    with clock.part("write"):
        _keep_provenance(job, split, index, documents, table)
    return {
        "shard": asdict(shard),
        "documents": len(documents["lengths"]),
        "text_bytes": int(documents["text_bytes"].sum()),
        "tokens_encoded": int(documents["lengths"].sum()),
        "tokens_written": int(table["length"].sum()),
        # Every segment that is not a document's first repeats one id.
        "overlap_tokens": int((table["start"] > 0).sum()),
    }


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


def provenance_work_path(job: Job, split: str, index: int) -> str:
    """Returns where a shard's provenance waits for its row numbers."""
    return job.path("provenance", f"{split}-{index:05d}")


def _keep_provenance(
    job: Job, split: str, index: int, documents: Arrays, table: Arrays
) -> None:
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
    storage.write_atomically(provenance_work_path(job, split, index), blob)


def _histogram(lengths: np.ndarray) -> list[int]:
    """Returns how many documents have 2^i to 2^(i+1) - 1 ids, for each i."""
    if not len(lengths):
        return []
    return np.bincount(np.log2(np.maximum(lengths, 1)).astype(np.int64)).tolist()


def _by_source(job: Job, files: np.ndarray, lengths: np.ndarray) -> dict[str, int]:
    names, group_of_file = source_groups(job.plan())
    tokens = np.bincount(group_of_file[files], lengths, minlength=len(names))
    return {
        name: int(count) for name, count in zip(names, tokens, strict=True) if count
    }
