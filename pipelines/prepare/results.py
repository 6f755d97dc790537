# SPDX-License-Identifier: Apache-2.0
"""What the steps' records add up to: the manifest's numbers, checked, and the report's.

Conservation is checked on numbers that were counted independently: documents read and
ids encoded where files are read, rows and segments where shards are written.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.curation.rule_files import contamination_index
from pipelines.duplicates import line_duplicates
from pipelines.job.checksums import FileSum
from pipelines.job.input_files import InputCounts, InputFiles
from pipelines.job.plan import WORK_NAME, Job
from pipelines.job.rejects import (
    DUPLICATE,
    EXAMPLES,
    NEAR_DUPLICATE,
    NOT_DRAWN,
    REPEATED,
)
from pipelines.job.steps import Record, read_records
from pipelines.prepare import mix_shards, pack_shard, provenance, tokenize_task
from preprocessing.contracts.manifest import Counts, Manifest, Shard, Source, Split
from preprocessing.foundation.commands import UsageError, WorkError
from preprocessing.foundation.storage import InputFile

if TYPE_CHECKING:
    from preprocessing.duplicates import decontamination

# Rejects that were asked for: they say nothing against the input.
_ASKED_FOR = (DUPLICATE, NEAR_DUPLICATE, NOT_DRAWN, "contaminated", "addresses")


@dataclass(frozen=True)
class Stage:
    """What is left after a stage: its name, documents and bytes of their text."""

    name: str
    documents: int
    text_bytes: int


@dataclass(frozen=True)
class Results:
    """The job's totals.

    Attributes:
        counts: the manifest's counts, conservation checked.
        splits: the manifest's splits.
        inputs: the input's files, bytes conserved.
        stages: what is left after each stage, from "read" to "kept".
        examples: a few rejects of each reason and check.
        checks: documents by "reason check" of their reject.
        lengths_before: documents read with 2^i to 2^(i+1) - 1 bytes, for each i.
        length_histogram: documents with 2^i to 2^(i+1) - 1 ids, for each i.
        tokens_by_source: ids of documents kept, by source, file or directory.
        languages: [documents, bytes] by language, where one was asked for.
        cluster_sizes: clusters of 2^i to 2^(i+1) - 1 near duplicates, for each i.
        lines: lines looked at, dropped, where repeated lines are.
        replaced: pieces of personal data replaced, by kind.
        contamination: a line for each evaluation file.
        seconds: worker seconds in each stage of the work.
        cpu_seconds: processor seconds of all tasks and shards.
        peak_memory: bytes, of the largest worker.
        files: what the dataset keeps, by name.
    """

    counts: Counts
    splits: Mapping[str, Split]
    inputs: InputFiles
    stages: Sequence[Stage]
    examples: Mapping[str, Sequence[Mapping[str, Any]]]
    checks: Mapping[str, int]
    lengths_before: Sequence[int]
    length_histogram: Sequence[int]
    tokens_by_source: Mapping[str, int]
    languages: Mapping[str, Sequence[int]] = field(default_factory=dict)
    cluster_sizes: Sequence[int] = ()
    lines: tuple[int, int] = (0, 0)
    replaced: Mapping[str, int] = field(default_factory=dict)
    contamination: Sequence["decontamination.EvaluationTask"] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    peak_memory: int = 0
    files: Sequence[FileSum] = ()

    @property
    def input_bytes(self) -> int:
        """Bytes of the input files."""
        return self.inputs.totals.size


def collect(job: Job) -> Results:
    """Adds up the records of a job whose graph has run.

    Raises:
        UsageError: the input holds no documents.
        WorkError: the records do not add up.
    """
    lines = read_records(job, line_duplicates.FOUND)
    tasks = read_records(job, tokenize_task.KIND)
    judged = [
        record
        for kind in (REPEATED, DUPLICATE, NEAR_DUPLICATE)
        for record in read_records(job, kind)
    ]
    shards = read_records(job, pack_shard.KIND)
    mixed = read_records(job, mix_shards.KIND)
    if not _sum(tasks, "read"):
        raise UsageError(
            "wanted documents in the input, found none: its files hold only blank "
            "space. Check --input and --format"
        )
    rejecting = tasks + judged + mixed
    rejected = _added(rejecting, "rejected")
    timed = lines + tasks + shards + mixed
    near = read_records(job, NEAR_DUPLICATE)
    return Results(
        counts=_counts(job, tasks, shards, mixed, rejected),
        splits=_splits(job, shards, mixed),
        inputs=_inputs(job, tasks),
        stages=_stages(tasks, rejecting),
        examples=_examples(rejecting),
        checks=dict(_added(rejecting, "checks")),
        lengths_before=_histogram(tasks, "lengths_before"),
        length_histogram=_histogram(shards, "length_histogram"),
        tokens_by_source=dict(_added(shards, "tokens_by_source")),
        languages=_languages(tasks),
        cluster_sizes=_histogram(near, "cluster_sizes"),
        lines=(_sum(lines, "lines"), _sum(tasks, "lines_dropped")),
        replaced=dict(_added(tasks, "replaced")),
        contamination=_contamination(job, tasks),
        seconds=dict(_added(timed, "seconds")),
        cpu_seconds=sum(record["cpu_seconds"] for record in timed),
        peak_memory=max(record["peak_memory"] for record in timed),
        files=_files(rejecting + shards + read_records(job, provenance.KIND)),
    )


def _inputs(job: Job, tasks: list[Record]) -> InputFiles:
    """Returns what was read of each file; bytes and documents are checked."""
    counts, plan = InputCounts(), job.plan()
    for record in tasks:
        counts.restore(record["inputs"])
    files = InputFiles.of(plan.files, plan.sizes, counts)
    found = int(files.documents.sum())
    _equal("documents of all files", found, _sum(tasks, "read"))
    return files


def _files(records: list[Record]) -> list[FileSum]:
    """Returns what steps left for good, by name; not what waited in the work."""
    every = (file for record in records for file in record["files"])
    kept = (file for file in every if not file["name"].startswith(f"{WORK_NAME}/"))
    return sorted(kept, key=lambda file: file["name"])


def _counts(
    job: Job,
    tasks: list[Record],
    shards: list[Record],
    mixed: list[Record],
    rejected: Mapping[str, int],
) -> Counts:
    """Returns the counts; conservation is checked, and a failure names the count."""
    read = _sum(tasks, "read")
    if job.judge_only:
        kept = read - sum(rejected.values())
        return Counts(read, kept, dict(sorted(rejected.items())), 0, 0, 0, 0)
    splits = [split for record in shards for split in record["splits"].values()]
    packed, encoded = _sum(splits, "documents"), _sum(tasks, "tokens")
    lost = sum(rejected.get(kind, 0) for kind in (REPEATED, DUPLICATE, NEAR_DUPLICATE))
    undrawn = rejected.get(NOT_DRAWN, 0)
    _equal("documents that the shards dropped", _sum(shards, "dropped_documents"), lost)
    _equal("documents read", read, packed - undrawn + sum(rejected.values()))
    _equal(
        "ids that the shards received",
        _sum(splits, "tokens_encoded") + _sum(shards, "dropped_tokens"),
        encoded,
    )
    written = _sum(splits, "tokens_written")
    overlaps, dropped = _sum(splits, "overlap_tokens"), 0
    if mixed:
        mixes = [split for record in mixed for split in record["splits"].values()]
        written = sum(numbers[1] for split in mixes for numbers in split["sources"])
        overlaps = _sum(mixes, "overlap_tokens")
        dropped = _sum(mixed, "dropped_tokens")
    return Counts(
        read=read,
        kept=packed - undrawn,
        rejected=dict(sorted(rejected.items())),
        tokens_encoded=encoded - _sum(shards, "dropped_tokens"),
        tokens_written=written,
        overlap_tokens=overlaps,
        dropped_tokens=dropped,
    )


def _stages(tasks: list[Record], rejecting: list[Record]) -> list[Stage]:
    """Returns the waterfall: what tasks counted, then what later steps took away."""
    totals: dict[str, list[int]] = {}
    for record in tasks:
        for name, (documents, size) in record["stages"].items():
            total = totals.setdefault(name, [0, 0])
            total[0] += documents
            total[1] += size
    text_bytes = totals["readable"][1] if totals else 0
    stages = [Stage("read", _sum(tasks, "read"), text_bytes)]
    stages += [Stage(name, *total) for name, total in totals.items()]
    left = [_sum(tasks, "documents"), _sum(tasks, "text_bytes")]
    if left[0] != stages[-1].documents:
        stages.append(Stage("too_long", *left))
    rejected = _added(rejecting, "rejected")
    sizes = _added(rejecting, "rejected_bytes")
    for name in (REPEATED, DUPLICATE, NEAR_DUPLICATE, NOT_DRAWN):
        if name in rejected:
            left = [left[0] - rejected[name], left[1] - sizes[name]]
            stages.append(Stage(name, *left))
    return [*stages, Stage("kept", *left)]


def _languages(tasks: list[Record]) -> dict[str, list[int]]:
    documents = _added(tasks, "languages")
    sizes = _added(tasks, "language_bytes")
    return {code: [documents[code], sizes[code]] for code in sorted(documents)}


def _contamination(
    job: Job, tasks: list[Record]
) -> list["decontamination.EvaluationTask"]:
    if not job.config.decontaminate:
        return []
    documents = np.sum([record["contaminated"] for record in tasks], axis=0)
    runs = sorted({run for record in tasks for run in record["shared_runs"]})
    index = contamination_index(job)
    return index.report(documents.astype(np.int64), np.array(runs, np.int64))


def _equal(what: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise WorkError(
            f"wanted the job's counters to agree, found {what}: {found} for {wanted}. "
            "This is a defect in Quern: report it, and do not use the output"
        )


def check_reject_fraction(job: Job, results: Results, most: float) -> None:
    """Stops a job that cannot use more of its input than it was allowed to.

    Duplicates, and what rules reject, are not counted: that was asked for.

    Raises:
        WorkError: the fraction is above `most`; it names reasons and an example.
    """
    counts = results.counts
    asked_for = {*_ASKED_FOR, *(rule.name for rule in job.config.rules)}
    faults = {
        reason: number
        for reason, number in counts.rejected.items()
        if reason not in asked_for
    }
    share = sum(faults.values()) / counts.read
    if share <= most:
        return
    reasons = sorted(faults, key=lambda reason: -faults[reason])
    named = ", ".join(f"{reason} {faults[reason]}" for reason in reasons[:3])
    example = next(
        lines[0]
        for lines in results.examples.values()
        if lines[0]["reason"] == reasons[0]
    )
    raise WorkError(
        f"wanted at most {most:.1%} of documents rejected (--max_reject_fraction), "
        f"found {share:.1%} of {counts.read}: {named}; the first is {example['path']} "
        f"at offset {example['offset']}: {example['detail']}. Repair the input or "
        "allow more; all are listed in rejects/"
    )


def manifest_of(job: Job, files: Sequence[InputFile], results: Results) -> Manifest:
    """Returns the dataset's manifest."""
    config, layout = job.config, job.config.layout
    return Manifest(
        sequence_length=config.sequence_length,
        objective=config.objective.name,
        token_dtype=layout.token_dtype.name,
        vocab_size=config.tokenizer.vocab_size,
        bos_id=config.tokenizer.bos_id,
        eos_id=config.tokenizer.eos_id,
        pad_id=config.tokenizer.pad_id,
        tokenizer_sha256=config.tokenizer.sha256,
        config=config.to_dict(),
        config_hash=config.hash,
        seed=config.seed,
        max_segments=layout.max_segments,
        record_bytes=layout.record_bytes,
        features=layout.features(),
        splits=results.splits,
        counts=results.counts,
        sources=tuple(Source(file.relative, file.size) for file in files),
        input=results.inputs.totals,
    )


def _splits(job: Job, shards: list[Record], mixed: list[Record]) -> dict[str, Split]:
    """Returns the splits; one that was given no share has no rows and no shards."""
    if not mixed:
        return {name: _split(name, shards) for name in pack_shard.SPLITS}
    return {name: _mixed_split(job, name, mixed) for name in pack_shard.SPLITS}


def _split(name: str, shards: list[Record]) -> Split:
    splits = [record["splits"][name] for record in shards if name in record["splits"]]
    lines = tuple(Shard(**split["shard"]) for split in splits)
    return Split(
        rows=sum(line.rows for line in lines),
        tokens=_sum(splits, "tokens_written"),
        text_bytes=_sum(splits, "text_bytes"),
        shards=lines,
    )


def _mixed_split(job: Job, name: str, mixed: list[Record]) -> Split:
    splits = [record["splits"][name] for record in mixed if name in record["splits"]]
    lines = tuple(Shard(**split["shard"]) for split in splits)
    assert job.config.mixture is not None
    names = job.config.mixture.names
    by_source = [split["sources"] for split in splits] or [[[0] * 3] * len(names)]
    totals = np.sum(by_source, 0)
    return Split(
        rows=sum(line.rows for line in lines),
        tokens=int(totals[:, 1].sum()),
        text_bytes=int(totals[:, 2].sum()),
        shards=lines,
        sources={
            source: dict(zip(("rows", "tokens", "text_bytes"), line, strict=True))
            for source, line in zip(names, totals.tolist(), strict=True)
        },
    )


def _examples(records: list[Record]) -> dict[str, list[dict[str, Any]]]:
    examples: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        for name, lines in record["examples"].items():
            kept = examples.setdefault(name, [])
            kept += lines[: EXAMPLES - len(kept)]
    return examples


def _histogram(records: list[Record], name: str) -> list[int]:
    total: list[int] = []
    for record in records:
        lengths = record[name]
        total += [0] * (len(lengths) - len(total))
        for place, count in enumerate(lengths):
            total[place] += count
    return total


def _added(records: list[Record], name: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for record in records:
        total.update(record[name])
    return total


def _sum(records: list[Record], name: str) -> int:
    return sum(record[name] for record in records)
