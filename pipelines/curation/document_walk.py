# SPDX-License-Identifier: Apache-2.0
"""A document's way from its file to the rows that travel on, one way down.

    extents -> read -> clean -> address lists -> rules              curated
           -> repeated lines out -> decontaminated -> hash, bands  encoded
           -> personal data replaced -> examples of ids

Texts may be huge: a list is emptied where a name would hold on to what was before a
stage, or while others work with what is yielded.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pipelines.curation.curation import (
    by_address,
    cleaned,
    compared_by,
    decontaminated,
    rejected,
    ruled,
    without_lines,
    without_personal_data,
)
from pipelines.curation.dropped_lines import DroppedLines
from pipelines.curation.shingle_files import keep_shingles
from pipelines.job.blobs import Arrays
from pipelines.job.columns import (
    document_columns,
    fingerprint_columns,
    own_ids,
    rows_of,
)
from pipelines.job.plan import Job
from pipelines.job.task_work import TaskWork
from preprocessing.foundation import storage
from preprocessing.foundation.fingerprints import content_hash
from preprocessing.objectives.objectives import make_examples
from preprocessing.reading.documents import Documents
from preprocessing.reading.extents import Extent
from preprocessing.reading.readers import read_extent
from preprocessing.rules.verdicts import Failure, said


@dataclass(frozen=True)
class Encoded:
    """Some documents' rows as `columns` has them, and the input bytes read for them.

    `examples` have their ids besides; there are none where a job only judges.
    """

    examples: Arrays
    fingerprints: Arrays
    bytes_read: int


def curated(work: TaskWork) -> Iterator[Documents]:
    """Yields a task's documents that pass its rules."""
    held: list[Documents] = []
    for extent in work.task.extents:
        _check_unchanged(work.job, extent)
        number = _number(work.job, extent)
        batches = read_extent(extent, work.job.config.reader)
        while True:
            with work.clock.timed("read"):
                held += itertools.islice(batches, 1)
            if not held:
                break
            work.rejects.write(held[0].rejects)
            work.inputs.add(number, held[0])
            held.append(replace(held.pop(), file=number))
            for stage in (cleaned, by_address, ruled):
                held.append(stage(work, held.pop()))
            yield held.pop()
        # Once more: what was read must be what was there.
        _check_unchanged(work.job, extent)


def encoded(work: TaskWork, dropped: DroppedLines | None) -> Iterator[Encoded]:
    """Yields a task's rows, batch by batch.

    Args:
        work: the task.
        dropped: the lines to drop; None where repeated lines stay.
    """
    for documents in curated(work):
        held = [documents]
        del documents  # its texts go, however large, with what is made of them
        yield _rows(work, held.pop(), dropped)


def _rows(
    work: TaskWork, documents: Documents, dropped: DroppedLines | None
) -> Encoded:
    documents = without_lines(work, documents, dropped)
    documents = decontaminated(work, documents)
    count, ids = len(documents.keys), documents.ids
    own = own_ids([None] * count if ids is None else ids.to_pylist())
    fingerprints = _fingerprints(work, documents) | {"own_ids": own}
    examples: Arrays = {}
    if not work.job.judge_only:
        documents = without_personal_data(work, documents)
        examples, kept = _examples(work, documents, own)
        if not kept.all():
            fingerprints = {name: rows[kept] for name, rows in fingerprints.items()}
        work.totals["tokens"] += len(examples["ids"])
    work.totals["documents"] += len(fingerprints["keys"])
    work.totals["text_bytes"] += int(fingerprints["sizes"].sum())
    return Encoded(examples, fingerprints, documents.bytes_read)


def _fingerprints(work: TaskWork, documents: Documents) -> Arrays:
    """Returns what duplicates are found by."""
    config = work.job.config
    whole = compared_by(documents, config.cleaning is not None)
    with work.clock.timed("hash"):
        hashes = content_hash(whole)
    rows = {
        "keys": documents.keys,
        "hashes": hashes,
        "offsets": documents.offsets,
        "files": np.full(len(documents.keys), documents.file, np.int32),
        "sizes": documents.sizes,
    }
    if "near" in config.deduplicate:
        # Imported here: a compiler comes with it.
        from preprocessing.duplicates.minhash import DIGEST_BYTES, band_digests

        with work.clock.timed("minhash"):
            digests = band_digests(whole, config.near)
            width = config.near.bands * DIGEST_BYTES
            rows["bands"] = digests.reshape(len(digests), width)
            if config.near.jaccard:
                task, batch = work.task.index, work.batches
                rows |= keep_shingles(work.job, task, batch, whole)
    work.batches += 1
    return rows_of(fingerprint_columns(config), rows)


def _examples(
    work: TaskWork, documents: Documents, own: np.ndarray
) -> tuple[Arrays, np.ndarray]:
    """Returns documents' examples, and which of the documents fit, bool [n].

    `own` are the documents' own ids, bytes [n].
    """
    job, config = work.job, work.job.config
    with work.clock.timed("encode"):
        examples = make_examples(
            config.objective,
            job.tokenizer(),
            documents.texts,
            documents.targets,
            documents.keys,
            config.sequence_length,
            config.seed,
        )
    failures = [
        Failure(at, "ids", found, most, said("ids", found, "or less", most))
        for at, found, most in examples.too_long
    ]
    kept = rejected("too_long", documents, failures, work.rejects)
    sizes = documents.sizes + documents.target_sizes
    rows = {
        "keys": documents.keys[examples.document],
        "offsets": documents.offsets[examples.document],
        "files": np.full(len(examples.document), documents.file, np.int32),
        # Of a document in several examples, the first stands for its bytes.
        "text_bytes": np.where(examples.first, sizes[examples.document], 0),
        "lengths": examples.lengths.astype(np.int64),
        "start": examples.start,
        "prefix": examples.prefix,
    }
    rows = rows_of(document_columns(config), rows)
    if config.mixture is not None:  # which may draw no row of a document
        rows["own_ids"] = own[examples.document]
    return rows | {"ids": _stored(examples.ids, config.layout.token_dtype)}, kept


def _stored(ids: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Returns ids as rows store them, without a copy where only the sign differs."""
    return ids.view(dtype) if ids.itemsize == dtype.itemsize else ids.astype(dtype)


def _number(job: Job, extent: Extent) -> int:
    return job.plan().file_index[extent.relative]


def _check_unchanged(job: Job, extent: Extent) -> None:
    plan, at = job.plan(), _number(job, extent)
    storage.check_unchanged(extent.path, plan.sizes[at], plan.modified[at])
