# SPDX-License-Identifier: Apache-2.0
"""The first half of a preparation: from input bytes to ids, scattered to shards.

    curated documents -> repeated lines out -> decontaminated -> hash, bands
                      -> personal data replaced -> examples of ids
                      -> chunks of 64 MB of text at most
                      -> documents by shard   (keys, places, lengths, ids)
                      -> fingerprints by key  (keys, content hashes, places, bands)

Documents travel once, as ids. Which of them are duplicates is decided meanwhile from
the fingerprints and applied where the shards are packed.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.blobs import Arrays, drained, take_runs, to_bytes
from pipelines.buckets import by_bucket
from pipelines.curate_task import (
    CurationBooks,
    Documents,
    after_rule,
    curated,
    drop_empty,
    reject,
    rule,
    sizes_of,
)
from pipelines.line_duplicates import LineLosers
from pipelines.plan import Job, Task
from pipelines.rejects import RejectBooks, RejectFile
from pipelines.rule_files import CONTAMINATION
from pipelines.shingle_files import keep_shingles
from pipelines.shuffle import runs, send
from pipelines.steps import Clock, Record, finished, write_record
from preprocessing import storage
from preprocessing.fingerprints import content_hash, order_hash
from preprocessing.objectives import make_examples
from preprocessing.rules import named
from preprocessing.rules.verdicts import Failure

if TYPE_CHECKING:
    from preprocessing.decontamination import Index

CHUNK_TEXT_BYTES = 64 << 20
# Of short documents the columns weigh more than the text: 54 bytes each, and copies.
CHUNK_DOCUMENTS = 1 << 18
KIND = "tasks"
PARTS = "parts"  # records of tasks under way: input bytes done so far
Elements = list[tuple[int, bytes]]


@dataclass
class Scattered:
    """What a task gives to the next stages, as Beam elements."""

    documents: Elements = field(default_factory=list)
    fingerprints: Elements = field(default_factory=list)


@dataclass
class Work:
    """What a task under way carries along."""

    job: Job
    task: Task
    rejects: RejectBooks
    line_losers: LineLosers | None
    clock: Clock = field(default_factory=Clock)
    books: CurationBooks = field(default_factory=CurationBooks)
    totals: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("documents", "tokens", "text_bytes", "lines_dropped"), 0
        )
    )
    contaminated: np.ndarray = field(init=False)  # documents by evaluation file
    shared_runs: set[int] = field(default_factory=set)  # of the contamination index
    batches: int = 0

    def __post_init__(self) -> None:
        files = len(self.job.config.decontaminate)
        self.contaminated = np.zeros(files, np.int64)


def tokenize_task(job: Job, task: Task, line_losers: Sequence[bytes] = ()) -> Scattered:
    """Reads a task's pieces and scatters their documents.

    A task whose record lies in the work directory is not done again when its blobs
    lie there too; where Beam itself carries them, they must be made again.

    Args:
        job: the job.
        task: the pieces to read.
        line_losers: the lines to drop, as gathered for this task.
    """
    done = finished(job, KIND, task.index)
    if done is not None and job.transport == done["transport"] == "files":
        return Scattered(
            _from_hex(done["document_blobs"]), _from_hex(done["fingerprint_blobs"])
        )
    scattered = Scattered()
    losers = LineLosers(job, line_losers) if "lines" in job.config.deduplicate else None
    with RejectFile(job.output, f"task-{task.index:05d}") as rejects:
        work = Work(job, task, rejects, losers)
        numbers = itertools.count()  # `enumerate` holds a chunk until the next is made
        for chunk, bytes_done in _chunks(work):
            with work.clock.part("scatter"):
                _scatter(job, task, next(numbers), chunk, scattered)
            del chunk
            write_record(job, PARTS, task.index, {"done": bytes_done})
    write_record(job, KIND, task.index, _record(work, scattered))
    return scattered


def _record(work: Work, scattered: Scattered) -> Record:
    inline = work.job.transport == "groupbykey"
    rejected = work.rejects.counts.total()
    return {
        **work.totals,
        "read": work.totals["documents"] + rejected,
        **work.books.record(),
        **work.rejects.record(),
        "contaminated": work.contaminated.tolist(),
        "shared_runs": sorted(work.shared_runs),
        "transport": work.job.transport,
        "input_bytes": work.task.size,
        "seconds": work.clock.seconds,
        "cpu_seconds": work.clock.cpu_seconds,
        "document_blobs": [] if inline else _to_hex(scattered.documents),
        "fingerprint_blobs": [] if inline else _to_hex(scattered.fingerprints),
    }


@dataclass(frozen=True)
class Chunk:
    """Some documents' rows: examples of ids, and fingerprints."""

    examples: Arrays
    fingerprints: Arrays


def _chunks(work: Work) -> Iterator[tuple[Chunk, int]]:
    """Yields some text as arrays, and the input bytes read so far.

    At most 64 MB and 262,144 documents, unless one batch has more.
    """
    chunks: list[Chunk] = []
    size = documents = bytes_read = 0
    batches = curated(work.job, work.task, work.rejects, work.clock, work.books)
    for batch, batch_bytes in batches:
        held = [batch]
        del batch  # its texts go, however large, with what is made of them
        chunk = encoded(work, held.pop())
        text_bytes = int(chunk.fingerprints["sizes"].sum())
        count = len(chunk.fingerprints["sizes"])
        if chunks and (
            size + text_bytes > CHUNK_TEXT_BYTES or documents + count > CHUNK_DOCUMENTS
        ):
            yield _joined(chunks), bytes_read
            chunks, size, documents = [], 0, 0
        bytes_read += batch_bytes
        if count:
            chunks.append(chunk)
            size, documents = size + text_bytes, documents + count
    if chunks:
        yield _joined(chunks), bytes_read


def _joined(chunks: list[Chunk]) -> Chunk:
    return Chunk(
        drained([chunk.examples for chunk in chunks]),
        drained([chunk.fingerprints for chunk in chunks]),
    )


def encoded(work: Work, documents: Documents) -> Chunk:
    """Turns documents into rows of ids and fingerprints."""
    job = work.job
    documents = _without_lines(work, documents)
    documents = _decontaminated(work, documents)
    fingerprints = _fingerprints(work, documents)
    if job.judge_only:
        _count(work, fingerprints, 0)
        return Chunk({}, fingerprints)
    documents = _without_personal_data(work, documents)
    with work.clock.part("encode"):
        examples = make_examples(
            job.config.objective,
            job.tokenizer(),
            documents.texts,
            documents.targets,
            documents.keys,
            job.config.sequence_length,
            job.config.seed,
        )
    sizes = sizes_of(documents.texts)
    if documents.targets is not None:
        sizes = sizes + sizes_of(documents.targets)
    if len(examples.too_long):
        kept = reject(
            "too_long",
            documents,
            [Failure(at, "ids", found, most) for at, found, most in examples.too_long],
            work.rejects,
        )
        fingerprints = {name: column[kept] for name, column in fingerprints.items()}
    rows = {
        "keys": documents.keys[examples.document],
        "offsets": documents.offsets[examples.document],
        "files": np.full(len(examples.document), documents.file, np.int32),
        # Of a document in several examples, the first stands for its bytes.
        "text_bytes": np.where(examples.first, sizes[examples.document], 0),
        "lengths": examples.lengths.astype(np.int64),
        "ids": _stored(examples.ids, job.config.layout.token_dtype),
    }
    if job.config.objective.name != "causal":
        rows |= {"start": examples.start, "prefix": examples.prefix}
    _count(work, fingerprints, len(rows["ids"]))
    return Chunk(rows, fingerprints)


def _stored(ids: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Returns ids as rows store them, without a copy where only the sign differs."""
    return ids.view(dtype) if ids.itemsize == dtype.itemsize else ids.astype(dtype)


def _count(work: Work, fingerprints: Arrays, tokens: int) -> None:
    work.totals["documents"] += len(fingerprints["keys"])
    work.totals["text_bytes"] += int(fingerprints["sizes"].sum())
    work.totals["tokens"] += tokens


def _without_lines(work: Work, documents: Documents) -> Documents:
    """Drops the lines that another document owns, and judges again what is left."""
    if work.line_losers is None:
        return documents
    with work.clock.part("lines"):
        texts, changed = work.line_losers.drop(documents)
        work.totals["lines_dropped"] += int(changed.sum())
        documents = drop_empty(
            replace(documents, texts=texts),
            "every line of it lies in other documents",
            work.rejects,
        )
        # As in C4: a page that lost lines must still have its sentences.
        for config in work.job.config.rules:
            if config.name.startswith("c4@"):
                judged = rule(work.job, config.name)(documents.texts)
                documents = after_rule(config.name, documents, judged, work.rejects)
    work.books.after("lines", documents)
    return documents


def _decontaminated(work: Work, documents: Documents) -> Documents:
    """Rejects documents in which texts of evaluation files occur."""
    config = work.job.config
    if not config.decontaminate:
        return documents
    # Imported here: a compiler comes with it.
    from preprocessing.decontamination import Thresholds, judge

    with work.clock.part("decontaminate"):
        index = contamination_index(work.job)
        thresholds = Thresholds(ngram=config.decontaminate_ngram)
        judged, matches = judge(_whole(documents), index, thresholds)
        work.contaminated += index.documents_by_file(matches)
        work.shared_runs.update(np.unique(matches.ngrams).tolist())
        kept = reject("contaminated", documents, judged.failures, work.rejects)
        documents = documents.where(kept)
    work.books.after("decontaminate", documents)
    return documents


def _without_personal_data(work: Work, documents: Documents) -> Documents:
    """Replaces personal data where a rule asks for it."""
    for config in work.job.config.rules:
        if config.name == named.PERSONAL_DATA:
            # Imported here: the expressions take a moment to compile.
            from preprocessing.rules import personal_data

            switches = personal_data.Switches(**config.thresholds)
            with work.clock.part(config.name):
                found = personal_data.replace(documents.texts, switches)
                work.books.replaced += found.counts
                documents = replace(documents, texts=found.texts)
                if documents.targets is not None:
                    found = personal_data.replace(documents.targets, switches)
                    work.books.replaced += found.counts
                    documents = replace(documents, targets=found.texts)
    return documents


def _fingerprints(work: Work, documents: Documents) -> Arrays:
    """Returns what duplicates are found by."""
    whole = _whole(documents)
    with work.clock.part("hash"):
        hashes = content_hash(whole)
    rows = {
        "keys": documents.keys,
        "hashes": hashes,
        "offsets": documents.offsets,
        "files": np.full(len(documents.keys), documents.file, np.int32),
        "sizes": sizes_of(documents.texts),
    }
    if "near" in work.job.config.deduplicate:
        # Imported here: a compiler comes with it.
        from preprocessing.minhash import DIGEST_BYTES, band_digests

        near = work.job.config.near
        with work.clock.part("minhash"):
            digests = band_digests(whole, near)
            rows["bands"] = digests.reshape(len(digests), near.bands * DIGEST_BYTES)
            if near.jaccard:
                task, batch = work.task.index, work.batches
                rows |= keep_shingles(work.job, task, batch, whole)
    work.batches += 1
    return rows


def _whole(documents: Documents) -> pa.LargeStringArray:
    """Returns what a document is compared by: its text, and a pair's target too."""
    if documents.targets is None:
        return documents.texts
    # NUL is in no text that cleaning has seen, so pairs differ where their parts do.
    nul = pa.scalar("\0", pa.large_string())
    return pc.binary_join_element_wise(documents.texts, documents.targets, nul)


def contamination_index(job: Job) -> "Index":
    """Returns the runs of the job's evaluation files, read once per process."""
    return _contamination_index(job.path(CONTAMINATION), job.config.hash)


@functools.lru_cache(maxsize=1)
def _contamination_index(path: str, config: str) -> "Index":
    from preprocessing.decontamination import Index

    return Index.from_bytes(storage.read_bytes(path))


def _scatter(
    job: Job, task: Task, number: int, chunk: Chunk, scattered: Scattered
) -> None:
    """Sends a chunk's documents to their shards and its fingerprints to buckets."""
    name = f"shuffle/{{}}-{task.index:05d}-{number:05d}"
    if not job.judge_only:
        scattered.documents += send(
            job.transport,
            job.work,
            name.format("documents"),
            _by_shard(job, chunk.examples),
        )
    scattered.fingerprints += send(
        job.transport,
        job.work,
        name.format("fingerprints"),
        by_bucket(job, chunk.fingerprints, "keys"),
    )


def _by_shard(job: Job, chunk: Arrays) -> Elements:
    """Returns a blob of documents for each shard, in the shard's order."""
    hashes = order_hash(job.config.seed, chunk["keys"])
    order = np.argsort(hashes, kind="stable")
    columns = {name: column[order] for name, column in chunk.items() if name != "ids"}
    ids = take_runs(chunk["ids"], chunk["lengths"], order)
    ends = np.cumsum(columns["lengths"])
    starts = ends - columns["lengths"]
    blobs = []
    sizes = columns["lengths"] * ids.itemsize + 44
    for shard, rows in runs(job.ranges(hashes[order]), sizes):
        arrays = {name: column[rows] for name, column in columns.items()}
        arrays["ids"] = ids[starts[rows.start] : ends[rows.stop - 1]]
        blobs.append((shard, to_bytes(arrays)))
    return blobs


def _to_hex(elements: Elements) -> list[list[object]]:
    return [[key, value.hex()] for key, value in elements]


def _from_hex(elements: list[list[str]]) -> Elements:
    return [(int(key), bytes.fromhex(value)) for key, value in elements]
