# SPDX-License-Identifier: Apache-2.0
"""What a task's documents go through before anything is made of them.

    pieces -> batches -> clean -> address lists -> rules in their order -> documents

Each stage leaves its count of documents and bytes, the waterfall of the report.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from pipelines.plan import Job, Task
from pipelines.rejects import RejectBooks
from pipelines.rule_files import ALLOWED, BLOCKED
from pipelines.steps import Clock, Record
from preprocessing import storage
from preprocessing.documents import DocumentBatch, Piece, Reject
from preprocessing.normalize import clean, is_empty
from preprocessing.readers import read_piece
from preprocessing.rules import addresses, named
from preprocessing.rules.verdicts import Failure, Judged, Rule

EXCERPT_BYTES = 240
# A batch of fewer documents that still count is worth copying.
_LEAST_KEPT = 0.5


@dataclass(frozen=True)
class Documents:
    """Some documents of one file, in file order; columns as in `DocumentBatch`.

    `file` is the file's number in the plan.
    """

    file: int
    relative: str
    texts: pa.LargeStringArray
    keys: np.ndarray
    offsets: np.ndarray
    urls: pa.LargeStringArray | None
    targets: pa.LargeStringArray | None

    def where(self, keep: np.ndarray) -> "Documents":
        """Returns the documents chosen by a mask, bool [n]."""
        if keep.all():
            return self
        mask = pa.array(keep)
        return replace(
            self,
            texts=self.texts.filter(mask),
            keys=self.keys[keep],
            offsets=self.offsets[keep],
            urls=self.urls if self.urls is None else self.urls.filter(mask),
            targets=self.targets if self.targets is None else self.targets.filter(mask),
        )


@dataclass
class CurationBooks:
    """What a task counts on the way.

    Attributes:
        stages: documents and bytes of text after each stage, in order.
        lengths: documents as read with 2^i to 2^(i+1) - 1 bytes of text, int64 [64].
        languages: documents by language, where one was asked for.
        language_bytes: bytes of text likewise.
        replaced: pieces of personal data replaced, by kind.
        without_address: documents that address lists could not judge.
    """

    stages: dict[str, list[int]] = field(default_factory=dict)
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(64, np.int64))
    languages: Counter[str] = field(default_factory=Counter)
    language_bytes: Counter[str] = field(default_factory=Counter)
    replaced: Counter[str] = field(default_factory=Counter)
    without_address: int = 0

    def after(
        self, stage: str, documents: Documents, kept: np.ndarray | None = None
    ) -> None:
        """Counts what is left after a stage: all documents, or those of a mask."""
        sizes = sizes_of(documents.texts)
        if kept is not None:
            sizes = sizes[kept]
        total = self.stages.setdefault(stage, [0, 0])
        total[0] += len(sizes)
        total[1] += int(sizes.sum())

    def record(self) -> Record:
        """Returns what the task's record keeps of it."""
        return {
            "stages": self.stages,
            "lengths_before": np.trim_zeros(self.lengths, "b").tolist(),
            "languages": dict(self.languages),
            "language_bytes": dict(self.language_bytes),
            "replaced": dict(self.replaced),
            "without_address": self.without_address,
        }


def curated(
    job: Job, task: Task, rejects: RejectBooks, clock: Clock, books: CurationBooks
) -> Iterator[tuple[Documents, int]]:
    """Yields a task's documents that pass its rules, and the bytes read since the last.

    Args:
        job: the job.
        task: the pieces to read.
        rejects: gets the documents that do not.
        clock: gets the time of each part.
        books: gets the counts.
    """
    for batch in _batches(job, task, clock):
        rejects.write(batch.rejects)
        bytes_read = batch.bytes_read
        # Texts may be huge: a list is emptied where a name would hold on to what was
        # before a step, or while others work with what is yielded.
        held = [_cleaned(job, batch, rejects, clock, books)]
        del batch
        held.append(_by_address(job, held.pop(), rejects, clock, books))
        yield _ruled(job, held.pop(), rejects, clock, books), bytes_read


def _ruled(
    job: Job,
    documents: Documents,
    rejects: RejectBooks,
    clock: Clock,
    books: CurationBooks,
) -> Documents:
    """Returns the documents that pass all rules.

    Those that fail stay in the batch while the texts are the same object, since rules
    keep what they found in a batch for the next one: words cost as much as the rules.
    """
    kept = np.ones(len(documents.keys), bool)
    for config in job.config.rules:
        if config.name == named.PERSONAL_DATA:
            continue  # replaced after duplicates are looked for, as in FineWeb
        with clock.part(config.name):
            if config.name == named.LANGUAGE:
                judged = _by_language(config, documents, books)
            else:
                judged = rule(job, config.name)(documents.texts)
            failures = [failure for failure in judged.failures if kept[failure.place]]
            kept &= reject(config.name, documents, failures, rejects)
            changed = judged.texts is not documents.texts
            if changed or kept.sum() < _LEAST_KEPT * len(kept):
                documents = replace(documents, texts=judged.texts).where(kept)
                kept = np.ones(len(documents.keys), bool)
        books.after(config.name, documents, kept)
    return documents.where(kept)


def after_rule(
    name: str, documents: Documents, judged: Judged, rejects: RejectBooks
) -> Documents:
    """Returns what a rule leaves of documents; the others become rejects."""
    kept = reject(name, documents, judged.failures, rejects)
    return replace(documents, texts=judged.texts).where(kept)


def reject(
    name: str, documents: Documents, failures: Sequence[Failure], rejects: RejectBooks
) -> np.ndarray:
    """Writes failures as rejects; returns the mask of the documents kept, bool [n]."""
    sizes = sizes_of(documents.texts)
    kept = np.ones(len(documents.keys), bool)
    for failure in failures:
        at = failure.place
        kept[at] = False
        excerpt = ""
        if rejects.wants_example(name, failure.check):
            start = documents.texts[at].as_buffer()[:EXCERPT_BYTES]
            excerpt = start.to_pybytes().decode(errors="ignore")
        line = Reject(
            reason=name,
            relative=documents.relative,
            offset=int(documents.offsets[at]),
            detail=f"{failure.check} {failure.value}, wanted {failure.threshold}",
            document=documents.keys[at].tobytes().hex(),
            size=int(sizes[at]),
            check=failure.check,
            value=failure.value,
            threshold=failure.threshold,
            excerpt=excerpt,
        )
        rejects.write([line])
    return kept


def drop_empty(documents: Documents, detail: str, rejects: RejectBooks) -> Documents:
    """Returns documents that hold more than white space; the others are rejects."""
    empty = is_empty(documents.texts)
    if not empty.any():
        return documents
    rejects.write(
        Reject(
            reason="empty",
            relative=documents.relative,
            offset=int(documents.offsets[at]),
            detail=detail,
            document=documents.keys[at].tobytes().hex(),
        )
        for at in np.flatnonzero(empty)
    )
    return documents.where(~empty)


def sizes_of(texts: pa.LargeStringArray) -> np.ndarray:
    """Returns the UTF-8 bytes of each text, int64 [n]."""
    offsets = np.frombuffer(texts.buffers()[1], np.int64)
    return np.diff(offsets[texts.offset : texts.offset + len(texts) + 1])


def rule(job: Job, name: str) -> Rule:
    """Returns one of the job's rules, built once per process."""
    return _rules(job.config.hash, job.config.rules)[name]


def _batches(job: Job, task: Task, clock: Clock) -> Iterator[DocumentBatch]:
    for piece in task.pieces:
        _check_unchanged(job, piece)
        batches = read_piece(piece, job.config.reader)
        while True:
            with clock.part("read"):
                held = [*itertools.islice(batches, 1)]
            if not held:
                break
            yield held.pop()
        # Once more: what was read must be what was there.
        _check_unchanged(job, piece)


def _check_unchanged(job: Job, piece: Piece) -> None:
    plan = job.plan()
    at = plan.file_index[piece.relative]
    storage.check_unchanged(piece.path, plan.sizes[at], plan.modified[at])


def _cleaned(
    job: Job,
    batch: DocumentBatch,
    rejects: RejectBooks,
    clock: Clock,
    books: CurationBooks,
) -> Documents:
    """Returns a batch's documents, cleaned; those left empty are rejected."""
    documents = Documents(
        file=job.plan().file_index[batch.relative],
        relative=batch.relative,
        texts=batch.texts,
        keys=batch.keys,
        offsets=batch.offsets.astype(np.int64),
        urls=batch.urls,
        targets=batch.targets,
    )
    books.after("readable", documents)
    powers = np.log2(np.maximum(sizes_of(documents.texts), 1)).astype(np.int64)
    books.lengths += np.bincount(powers, minlength=len(books.lengths))
    with clock.part("clean"):
        documents = replace(
            documents,
            texts=clean(documents.texts, job.config.cleaning),
            targets=batch.targets and clean(batch.targets, job.config.cleaning),
        )
        documents = drop_empty(documents, "nothing left after cleaning", rejects)
    books.after("clean", documents)
    return documents


def _by_address(
    job: Job,
    documents: Documents,
    rejects: RejectBooks,
    clock: Clock,
    books: CurationBooks,
) -> Documents:
    if not (job.config.block or job.config.allow):
        return documents
    with clock.part("addresses"):
        books.without_address += addresses.count_without(
            documents.urls, len(documents.keys)
        )
        if documents.urls is not None:
            failures = addresses.judge(documents.urls, _lists(job))
            kept = reject("addresses", documents, failures, rejects)
            documents = documents.where(kept)
    books.after("addresses", documents)
    return documents


def _by_language(
    config: named.RuleConfig, documents: Documents, books: CurationBooks
) -> Judged:
    # Imported here: a model is loaded with it.
    from preprocessing.rules import language

    found = language.identify(documents.texts)
    counts, sizes = language.shares(documents.texts, found)
    books.languages += counts
    books.language_bytes += sizes
    thresholds = language.Thresholds(
        tuple(config.thresholds["languages"]), config.thresholds["least"]
    )
    return Judged(documents.texts, language.failures(found, thresholds))


def _lists(job: Job) -> addresses.AddressLists:
    """Returns the job's address lists, read once per process."""
    block = job.path(BLOCKED) if job.config.block else None
    allow = job.path(ALLOWED) if job.config.allow else None
    return _address_lists(block, allow, job.config.hash)


@functools.lru_cache(maxsize=1)
def _address_lists(
    block: str | None, allow: str | None, config: str
) -> addresses.AddressLists:
    return addresses.AddressLists(
        block=addresses.read_list([block]) if block else None,
        allow=addresses.read_list([allow]) if allow else None,
    )


_built: dict[str, dict[str, Rule]] = {}


def _rules(config: str, rules: Sequence[named.RuleConfig]) -> dict[str, Rule]:
    if config not in _built:
        _built.clear()
        _built[config] = {
            rule.name: named.build(rule)
            for rule in rules
            if rule.name not in (named.LANGUAGE, named.PERSONAL_DATA)
        }
    return _built[config]
