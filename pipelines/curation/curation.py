# SPDX-License-Identifier: Apache-2.0
"""What documents go through between reading and encoding, a stage a function.

    clean -> address lists -> rules in their order -> repeated lines out
          -> decontaminated ... personal data replaced

Each takes documents and gives those that are left, and leaves its count of documents
and bytes, the waterfall of the report. document_walk.py puts them in a row.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.curation.dropped_lines import DroppedLines
from pipelines.curation.rule_files import address_lists, contamination_index
from pipelines.job.plan import Job
from pipelines.job.rejects import RejectCounts
from pipelines.job.task_work import TaskWork
from preprocessing.reading.documents import Documents, Reject
from preprocessing.rules import addresses, named
from preprocessing.rules.normalize import clean, is_empty
from preprocessing.rules.verdicts import Failure, Judged, Rule

EXCERPT_BYTES = 240
# A batch of fewer documents that still count is worth copying.
_LEAST_KEPT = 0.5


def cleaned(work: TaskWork, documents: Documents) -> Documents:
    """Returns the documents, cleaned; those left empty are rejected."""
    work.after("readable", documents)
    powers = np.log2(np.maximum(documents.sizes, 1)).astype(np.int64)
    work.lengths += np.bincount(powers, minlength=len(work.lengths))
    cleaning, targets = work.job.config.cleaning, documents.targets
    with work.clock.timed("clean"):
        documents = replace(
            documents,
            texts=clean(documents.texts, cleaning),
            targets=targets and clean(targets, cleaning),
        )
        detail = "nothing left after cleaning" if cleaning else "nothing but blanks"
        documents = _without_empty(documents, detail, work.rejects)
    work.after("clean", documents)
    return documents


def by_address(work: TaskWork, documents: Documents) -> Documents:
    """Returns the documents that the address lists let pass."""
    job, urls = work.job, documents.urls
    if not (job.config.block or job.config.allow):
        return documents
    with work.clock.timed("addresses"):
        work.without_address += addresses.count_without(urls, len(documents.keys))
        if urls is not None:
            failures = addresses.judge(urls, address_lists(job))
            kept = rejected("addresses", documents, failures, work.rejects)
            documents = documents.where(kept)
    work.after("addresses", documents)
    return documents


def ruled(work: TaskWork, documents: Documents) -> Documents:
    """Returns the documents that pass all rules.

    Those that fail stay in the batch while the texts are the same object, since rules
    keep what they found in a batch for the next one: words cost as much as the rules.
    """
    kept = np.ones(len(documents.keys), bool)
    for config in work.job.config.rules:
        if config.name == named.PERSONAL_DATA:
            continue  # replaced after duplicates are looked for, as in FineWeb
        with work.clock.timed(config.name):
            if config.name == named.LANGUAGE:
                judged = _by_language(work, config, documents)
            else:
                judged = _rule(work.job, config.name)(documents.texts)
            failures = [failure for failure in judged.failures if kept[failure.place]]
            kept &= rejected(config.name, documents, failures, work.rejects)
            changed = judged.texts is not documents.texts
            if changed or kept.sum() < _LEAST_KEPT * len(kept):
                documents = replace(documents, texts=judged.texts).where(kept)
                kept = np.ones(len(documents.keys), bool)
        work.after(config.name, documents, kept)
    return documents.where(kept)


def _by_language(
    work: TaskWork, config: named.RuleConfig, documents: Documents
) -> Judged:
    # Imported here: a model is loaded with it.
    from preprocessing.rules import language

    found = language.identify(documents.texts)
    counts, sizes = language.shares(documents.texts, found)
    work.languages += counts
    work.language_bytes += sizes
    thresholds = language.LanguageThresholds(
        tuple(config.thresholds["languages"]), config.thresholds["least"]
    )
    return Judged(documents.texts, language.failures(found, thresholds))


def without_lines(
    work: TaskWork, documents: Documents, dropped: DroppedLines | None
) -> Documents:
    """Drops the lines that another document owns, and judges again what is left."""
    if dropped is None:
        return documents
    with work.clock.timed("lines"):
        texts, changed = dropped.drop(documents)
        work.totals["lines_dropped"] += int(changed.sum())
        detail = "every line of it lies in other documents"
        documents = replace(documents, texts=texts)
        documents = _without_empty(documents, detail, work.rejects)
        # As in C4: a page that lost lines must still have its sentences.
        for config in work.job.config.rules:
            if config.name.startswith("c4@"):
                judged = _rule(work.job, config.name)(documents.texts)
                failures = judged.failures
                kept = rejected(config.name, documents, failures, work.rejects)
                documents = replace(documents, texts=judged.texts).where(kept)
    work.after("lines", documents)
    return documents


def decontaminated(work: TaskWork, documents: Documents) -> Documents:
    """Rejects documents in which texts of evaluation files occur."""
    config = work.job.config
    if not config.decontaminate:
        return documents
    # Imported here: a compiler comes with it.
    from preprocessing.duplicates.decontamination import (
        ContaminationThresholds,
        judge,
    )

    with work.clock.timed("decontaminate"):
        index = contamination_index(work.job)
        thresholds = ContaminationThresholds(ngram=config.decontaminate_ngram)
        whole = compared_by(documents, config.cleaning is not None)
        judged, matches = judge(whole, index, thresholds)
        work.contaminated += index.documents_by_file(matches)
        work.shared_runs.update(np.unique(matches.ngrams).tolist())
        kept = rejected("contaminated", documents, judged.failures, work.rejects)
        documents = documents.where(kept)
    work.after("decontaminate", documents)
    return documents


def without_personal_data(work: TaskWork, documents: Documents) -> Documents:
    """Replaces personal data where a rule asks for it."""
    for config in work.job.config.rules:
        if config.name == named.PERSONAL_DATA:
            # Imported here: the expressions take a moment to compile.
            from preprocessing.rules import personal_data

            switches = personal_data.Switches(**config.thresholds)
            with work.clock.timed(config.name):
                found = personal_data.replace(documents.texts, switches)
                work.replaced += found.counts
                documents = replace(documents, texts=found.texts)
                if documents.targets is not None:
                    found = personal_data.replace(documents.targets, switches)
                    work.replaced += found.counts
                    documents = replace(documents, targets=found.texts)
    return documents


def compared_by(documents: Documents, cleaned: bool) -> pa.LargeStringArray:
    """Returns what a document is compared by: its text, and a pair's target too."""
    if documents.targets is None:
        return documents.texts
    # NUL is in no text that cleaning has seen, so pairs differ where their parts do.
    nul = pa.scalar("\0", pa.large_string())
    parts = [documents.texts, documents.targets]
    if not cleaned:
        parts = [_without_nul(part) for part in parts]
    return pc.binary_join_element_wise(*parts, nul)


def _without_nul(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """Returns texts with NUL spelled otherwise, different ones still different."""
    return pc.replace_substring(pc.replace_substring(texts, "\1", "\1\1"), "\0", "\1\2")


def rejected(
    name: str, documents: Documents, failures: Sequence[Failure], rejects: RejectCounts
) -> np.ndarray:
    """Writes failures as rejects; returns the mask of the documents kept, bool [n]."""
    sizes = documents.sizes
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
            detail=failure.words,
            document=documents.keys[at].tobytes().hex(),
            size=int(sizes[at]),
            check=failure.check,
            value=failure.value,
            threshold=failure.threshold,
            excerpt=excerpt,
            id=documents.id_of(at),
        )
        rejects.write([line])
    return kept


def _without_empty(
    documents: Documents, detail: str, rejects: RejectCounts
) -> Documents:
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
            id=documents.id_of(int(at)),
        )
        for at in np.flatnonzero(empty)
    )
    return documents.where(~empty)


def _rule(job: Job, name: str) -> Rule:
    """Returns one of the job's rules, built once per process."""
    return _rules(job.config.hash, job.config.rules)[name]


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
