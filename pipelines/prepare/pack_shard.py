# SPDX-License-Identifier: Apache-2.0
"""The second half of a preparation: one range of the global order to its shards.

    blobs -> documents in the seed's order -> duplicates out -> train | validation
          -> packed rows -> records -> {split}-i-of-n.tfrecord
          -> where each segment comes from -> provenance, rows numbered in the shard

A shard of many short documents is gathered and packed in parts, ranges of the order
one after another, so that what a worker holds has a bound.

Row numbers of a whole split need the sizes of earlier shards, so the provenance waits
in the work directory until `write_provenance` knows them. The rows of a mixture wait
there too: each is of one source, and where it goes is known when all are packed
(mixture_order.py).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace

import numpy as np

from pipelines.job.blobs import Arrays, drained, take, write_blob
from pipelines.job.checksums import FileSum
from pipelines.job.columns import SEGMENT, empty, rows_of
from pipelines.job.plan import PLANNERS, WORK_NAME, Job
from pipelines.job.source_groups import source_groups
from pipelines.job.steps import Clock, Record, finished, read_record, write_record
from pipelines.prepare.shard_documents import VALIDATION, ShardDocuments, ShardInput
from preprocessing.contracts.shards import shard_name, write_shard
from preprocessing.foundation import storage
from preprocessing.foundation.commands import WorkError
from preprocessing.foundation.fingerprints import word_of
from preprocessing.packing.packing import PackedRows, pack

KIND = "shards"
ROWS = "rows"  # packed rows that wait for their place in a mixture
SPLITS = ("train", VALIDATION)


def pack_shard(job: Job, index: int, gathered: ShardInput) -> dict[str, int]:
    """Writes shard `index` of every split, unless its record says it is written.

    Returns:
        The rows of each split's shard.
    """
    done = finished(job, KIND, index)
    if done is None:
        done = _pack(job, index, gathered)
        write_record(job, KIND, index, done)
    return {name: split["shard"]["rows"] for name, split in done["splits"].items()}


def packed_record(job: Job, index: int) -> Record:
    """Returns the record of shard `index`, which `pack_shard` left.

    Raises:
        WorkError: there is none.
    """
    packed = read_record(job, KIND, index)
    if packed is None:
        raise WorkError(
            f"wanted the record of shard {index}, found none: the work directory was "
            "damaged. Remove the output and run again"
        )
    return packed


def packed_path(job: Job, split: str, index: int) -> str:
    """Returns where the packed rows of a shard lie: their place, or a mixture's."""
    directory = job.output if job.config.mixture is None else job.path(ROWS)
    return storage.join(directory, shard_name(split, index, job.shards))


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
        "files": [shard_sum(job, split["shard"]) for split in splits.values()],
        "parts": documents.parts,
        "dropped_documents": documents.dropped_documents,
        "dropped_tokens": documents.dropped_tokens,
        "length_histogram": np.trim_zeros(by_length, "b").tolist(),
        "tokens_by_source": dict(by_source),
        "seconds": clock.seconds,
        "cpu_seconds": clock.cpu_seconds,
    }


def shard_sum(job: Job, shard: Record) -> FileSum:
    """Returns the sum of packed rows, as records keep it."""
    waits = job.config.mixture is not None
    name = f"{WORK_NAME}/{ROWS}/{shard['name']}" if waits else shard["name"]
    return {"name": name, "size": shard["size"], "sha256": shard["sha256"]}


def splits_of(job: Job) -> tuple[str, ...]:
    """Returns the splits of the dataset: validation only where it gets a share."""
    return SPLITS if job.config.validation_fraction else SPLITS[:1]


def _write_split(
    job: Job, split: str, index: int, documents: ShardDocuments, clock: Clock
) -> tuple[Record, "_Tally"]:
    """Packs and writes one split's shard, and keeps its provenance for later."""
    tally = _Tally()
    frames = _frames(job, split, index, documents, tally, clock)
    directory, name = packed_path(job, split, index).rsplit("/", 1)
    shard = write_shard(directory, name, frames)
    return {"shard": asdict(shard), "runs": tally.runs, **tally.counts}, tally


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
        with clock.timed("gather"):
            part = documents.part(number, split)
        segments: list[Arrays] = []
        blocks = _packed(job, split, index, number, part)
        while True:
            with clock.timed("pack"):
                source, block = next(blocks, (0, None))
            if block is None:
                break
            segments.append(_segments(block, first_row))
            first_row += block.rows
            tally.add_rows(source, block.rows)
            with clock.timed("encode records"):
                encoded = layout.encode(block.features)
            with clock.timed("write"):
                yield encoded
        table = drained(segments) if segments else empty(SEGMENT)
        tally.add(job, part, table)
        with clock.timed("write"):
            path = provenance_work_path(job, split, index, number)
            _keep_provenance(job, path, part, table)
        del part, blocks, table  # before the next part comes


def _packed(
    job: Job, split: str, index: int, number: int, part: Arrays
) -> Iterator[tuple[int, PackedRows]]:
    """Yields blocks of rows and their source, 0 where there is no mixture."""
    seed = word_of(job.config.seed, index, SPLITS.index(split))
    for source, places in _of_one_source(job, part):
        documents = part if places is None else take(part, places)
        for block in pack_blocks(job, documents, int(seed) + number, source):
            if places is None:
                yield source, block
            else:
                yield source, replace(block, document=places[block.document])


def pack_blocks(
    job: Job, documents: Arrays, seed: int, source: int
) -> Iterator[PackedRows]:
    """Yields blocks of rows of documents, or of their examples, of one source."""
    ids, lengths = documents["ids"], documents["lengths"]
    layout, pad_id = job.config.layout, job.config.tokenizer.pad_id
    prefix = documents.get("prefix")
    if prefix is not None and layout.target_length is not None:
        # Imported here: a compiler comes with it.
        from preprocessing.packing.pair_packing import pack_pairs

        return pack_pairs(ids, lengths, prefix, layout, seed, pad_id, source)
    planner = PLANNERS[job.config.packing]
    return pack(ids, lengths, layout, planner, seed, pad_id, prefix, source)


def _of_one_source(job: Job, part: Arrays) -> Iterator[tuple[int, np.ndarray | None]]:
    """Yields each source and its documents' places; None for all of them."""
    if job.config.mixture is None:
        yield 0, None
        return
    sources = _sources(job, part["files"])
    for source in np.unique(sources).tolist():
        yield source, np.flatnonzero(sources == source)


def _sources(job: Job, files: np.ndarray) -> np.ndarray:
    """Returns the source in the mixture of each file number, int64 [n]."""
    _, source_of_file = source_groups(job.plan(), job.config.mixture)
    return source_of_file[files]


class _Tally:
    """Adds up a split's documents and segments over the shard's parts.

    Attributes:
        runs: [source, rows] of neighbouring rows of one source, in file order.
    """

    def __init__(self) -> None:
        self.runs: list[list[int]] = []
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

    def add_rows(self, source: int, rows: int) -> None:
        """Adds rows that follow those added before."""
        if self.runs and self.runs[-1][0] == source:
            self.runs[-1][1] += rows
        else:
            self.runs.append([source, rows])

    def add(self, job: Job, part: Arrays, table: Arrays) -> None:
        """Adds a part's documents and the segments they became."""
        lengths = part["lengths"]
        starts = part.get("start", np.zeros(len(lengths)))
        # Of the examples of a document, only the first begins it.
        self.counts["documents"] += int((starts == 0).sum())
        self.counts["text_bytes"] += int(part["text_bytes"].sum())
        self.counts["tokens_encoded"] += int(lengths.sum())
        self.counts["tokens_written"] += int(table["length"].sum())
        # Every segment that is not a document's or example's first repeats one id.
        self.counts["overlap_tokens"] += int((table["start"] > 0).sum())
        powers = np.log2(np.maximum(lengths, 1)).astype(np.int64)
        self.by_length += np.bincount(powers, minlength=len(self.by_length))
        self.by_source.update(_by_source(job, part["files"], lengths))


def _segments(block: PackedRows, first_row: int) -> Arrays:
    rows = {
        "row": block.row + first_row,
        "segment": block.segment.astype(np.int32),
        "document": block.document,
        "start": block.start,
        "length": block.length,
    }
    return rows_of(SEGMENT, rows)


def provenance_work_path(job: Job, split: str, index: int, part: int) -> str:
    """Returns where the provenance of a shard's part waits for its row numbers."""
    return job.path("provenance", f"{split}-{index:05d}-{part:05d}")


def _keep_provenance(job: Job, path: str, documents: Arrays, table: Arrays) -> None:
    document = table["document"]
    start = table["start"]
    if "start" in documents:
        start = start + documents["start"][document]
    columns = {
        "row": table["row"],
        "segment": table["segment"],
        "start": start,
        "keys": documents["keys"][document],
        "files": documents["files"][document],
        "offsets": documents["offsets"][document],
    }
    if job.config.mixture is not None:
        columns["source"] = _sources(job, columns["files"])
        columns["length"] = table["length"]
        columns["overlap"] = table["start"] > 0
        columns["text_bytes"] = _text_bytes(documents, table)
        columns["own_ids"] = documents["own_ids"][document]
    write_blob(path, columns)


def _text_bytes(documents: Arrays, table: Arrays) -> np.ndarray:
    """Returns each segment's part of its document's text, by its ids, int64 [n].

    The parts of a document add up to the whole; an id that two segments share counts
    in the first.
    """
    document, start = table["document"], table["start"]
    size, ids = documents["text_bytes"][document], documents["lengths"][document]
    begin = np.where(start > 0, start + 1, 0)
    return size * (start + table["length"]) // ids - size * begin // ids


def _by_source(job: Job, files: np.ndarray, lengths: np.ndarray) -> dict[str, int]:
    names, group_of_file = source_groups(job.plan(), job.config.mixture)
    tokens = np.bincount(group_of_file[files], lengths, minlength=len(names))
    return {
        name: int(count) for name, count in zip(names, tokens, strict=True) if count
    }
