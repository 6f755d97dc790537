# SPDX-License-Identifier: Apache-2.0
"""What the steps' records add up to: the manifest's numbers, checked, and the report's.

Conservation is checked on numbers that were counted independently: documents read and
ids encoded where files are read, rows and segments where shards are written.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines import pack_shard, tokenize_task
from pipelines.plan import Job
from pipelines.rejects import DUPLICATE, EXAMPLES, REPEATED
from pipelines.steps import Record, read_records
from preprocessing.commands import UsageError, WorkError
from preprocessing.manifest import Counts, Manifest, Shard, Source, Split
from preprocessing.storage import InputFile


@dataclass(frozen=True)
class Results:
    """The job's totals.

    Attributes:
        counts: the manifest's counts, conservation checked.
        splits: the manifest's splits.
        input_bytes: bytes of the input files.
        examples: a few rejects of each reason.
        length_histogram: documents with 2^i to 2^(i+1) - 1 ids, for each i.
        tokens_by_source: ids of documents kept, by file or directory.
        seconds: worker seconds in each part of the work.
        cpu_seconds: processor seconds of all tasks and shards.
        peak_memory: bytes, of the largest worker.
    """

    counts: Counts
    splits: Mapping[str, Split]
    input_bytes: int
    examples: Mapping[str, Sequence[Mapping[str, Any]]]
    length_histogram: Sequence[int]
    tokens_by_source: Mapping[str, int]
    seconds: Mapping[str, float] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    peak_memory: int = 0


def collect(job: Job) -> Results:
    """Adds up the records of a job whose graph has run.

    Raises:
        UsageError: the input holds no documents.
        WorkError: the records do not add up.
    """
    tasks = read_records(job, tokenize_task.KIND)
    judged = read_records(job, REPEATED) + read_records(job, DUPLICATE)
    shards = read_records(job, pack_shard.KIND)
    rejected, examples = _rejected(tasks + judged)
    read = _sum(tasks, "read")
    if not read:
        raise UsageError(
            "wanted documents in the input, found none: its files hold only blank "
            "space. Check --input and --format"
        )
    return Results(
        counts=_counts(tasks, shards, rejected),
        splits={name: _split(name, shards) for name in pack_shard.SPLITS},
        input_bytes=_sum(tasks, "input_bytes"),
        examples=examples,
        length_histogram=_histogram(shards),
        tokens_by_source=dict(_added(shards, "tokens_by_source")),
        seconds=dict(_added(tasks + shards, "seconds")),
        cpu_seconds=sum(record["cpu_seconds"] for record in tasks + shards),
        peak_memory=max(record["peak_memory"] for record in tasks + shards),
    )


def _counts(
    tasks: list[Record], shards: list[Record], rejected: Mapping[str, int]
) -> Counts:
    """Returns the counts; conservation is checked, and a failure names the count."""
    parts = [part for record in shards for part in record["splits"].values()]
    read, kept = _sum(tasks, "read"), _sum(parts, "documents")
    lost = rejected.get(REPEATED, 0) + rejected.get(DUPLICATE, 0)
    encoded = _sum(tasks, "tokens")
    _equal("documents that the shards dropped", _sum(shards, "dropped_documents"), lost)
    _equal("documents read", read, kept + sum(rejected.values()))
    _equal(
        "ids that the shards received",
        _sum(parts, "tokens_encoded") + _sum(shards, "dropped_tokens"),
        encoded,
    )
    return Counts(
        read=read,
        kept=kept,
        rejected=dict(sorted(rejected.items())),
        tokens_encoded=encoded - _sum(shards, "dropped_tokens"),
        tokens_written=_sum(parts, "tokens_written"),
        overlap_tokens=_sum(parts, "overlap_tokens"),
        dropped_tokens=0,
    )


def _equal(what: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise WorkError(
            f"wanted the books to balance, found {what}: {found} where {wanted} were "
            "expected. This is a defect in Quern: report it, and do not use the output"
        )


def check_reject_fraction(results: Results, most: float) -> None:
    """Stops a job that loses more of its input than it was allowed to.

    Duplicates are not counted: dropping them is what was asked for.

    Raises:
        WorkError: the fraction is above `most`; it names reasons and an example.
    """
    counts = results.counts
    faults = {
        reason: number
        for reason, number in counts.rejected.items()
        if reason != DUPLICATE
    }
    share = sum(faults.values()) / counts.read
    if share <= most:
        return
    reasons = sorted(faults, key=lambda reason: -faults[reason])
    named = ", ".join(f"{reason} {faults[reason]}" for reason in reasons[:3])
    example = results.examples[reasons[0]][0]
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
        objective="causal",
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
    )


def _split(name: str, shards: list[Record]) -> Split:
    """Returns a split; one that was given no share has no rows and no shards."""
    parts = [record["splits"][name] for record in shards if name in record["splits"]]
    lines = tuple(Shard(**part["shard"]) for part in parts)
    return Split(
        rows=sum(line.rows for line in lines),
        tokens=_sum(parts, "tokens_written"),
        text_bytes=_sum(parts, "text_bytes"),
        shards=lines,
    )


def _rejected(
    records: list[Record],
) -> tuple[Counter[str], dict[str, list[dict[str, Any]]]]:
    counts: Counter[str] = Counter()
    examples: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        counts.update(record["rejected"])
        for reason, lines in record["examples"].items():
            kept = examples.setdefault(reason, [])
            kept += lines[: EXAMPLES - len(kept)]
    return counts, examples


def _histogram(shards: list[Record]) -> list[int]:
    total: list[int] = []
    for record in shards:
        lengths = record["length_histogram"]
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
