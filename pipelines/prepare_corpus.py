# SPDX-License-Identifier: Apache-2.0
"""quern-prepare: raw text to a dataset of packed, shuffled, tokenized rows.

    read -> clean -> tokenize -> shuffle -> drop duplicates -> pack -> records

One Beam graph does it (prepare/prepare_graph.py), which finds duplicates by their
fingerprints while the documents travel. The same input, configuration and seed give the
same bytes, whatever the runner, the number of workers or of restarts.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

import pyarrow.parquet as pq

from pipelines.beam.progress import Progress, amount, watch
from pipelines.beam.runners import (
    available_workers,
    is_local,
    parse_with_beam_flags,
    run_pipeline,
)
from pipelines.duplicates import line_duplicates
from pipelines.job.checksums import check_sizes, check_sums, summed_file, write_sums
from pipelines.job.input_files import MOST_NAMED, check_unread
from pipelines.job.plan import SIZES, Job, Plan, PlanSizes, count_shards
from pipelines.job.shuffle import Transport
from pipelines.job.steps import intact_record, record_number
from pipelines.prepare import (
    mix_shards,
    pack_shard,
    prepare_flags,
    tokenize_task,
    workspace,
)
from pipelines.prepare.dry_run import contamination_lines, dry_run_table
from pipelines.prepare.prepare_input import Asked, asked_for
from pipelines.prepare.results import (
    Results,
    check_reject_fraction,
    collect,
    manifest_of,
)
from pipelines.report.report import write_report
from preprocessing.contracts.dataset_files import INPUTS_NAME
from preprocessing.contracts.manifest import (
    MANIFEST_NAME,
    TOKENIZER_NAME,
    Manifest,
    read_manifest,
    write_manifest,
)
from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import count_of, run, stopping_on_request

if TYPE_CHECKING:
    import apache_beam as beam


def cli() -> NoReturn:
    """Runs the command on the process's arguments."""
    run(main)


def main(argv: Sequence[str], sizes: PlanSizes = SIZES) -> None:
    """Prepares a dataset; SIGTERM stops it at any moment as `Interrupted`.

    Args:
        argv: flags.
        sizes: how the input is cut.
    """
    with stopping_on_request():
        prepare(argv, sizes, workspace.end)


def prepare(
    argv: Sequence[str],
    sizes: PlanSizes,
    end: Callable[[Job], object] = lambda job: None,
) -> Job | None:
    """Prepares as `main` does, but leaves the work directory beside the dataset.

    Args:
        argv: flags.
        sizes: how the input is cut.
        end: is called when all is published.

    Returns:
        The job; None where nothing is written (`--dry_run`).
    """
    start = time.monotonic()
    flags, beam_args = parse_with_beam_flags(prepare_flags.parser(), argv)
    if not is_local(flags.runner):  # its workers have directories of their own
        flags.output = storage.absolute(flags.output)
    asked = asked_for(flags, sizes)
    plan, shards = asked.plan, count_shards(asked.plan, sizes)
    workers = flags.workers or available_workers()
    if flags.dry_run:
        with tempfile.TemporaryDirectory(prefix="quern-dry-run-") as place:
            job = Job(f"{place}/dry", asked.config, shards, "files", True)
            _begin(job, asked)
            _run(job, plan, flags.runner, workers, beam_args)
            results = collect(job)
            print(dry_run_table(results))
            _check_unread(flags, results)
        return None
    job = Job(flags.output, asked.config, shards, _transport(flags))
    workspace.check_free(job)
    if workspace.is_finished(job):
        _say_finished(job, asked)
        workspace.tidy(job)
        return job
    with workspace.claimed(job) as (ours, claim):
        if workspace.is_finished(job):  # by another, while this one waited
            _say_finished(job, asked)
        else:
            results = _make(ours, asked, flags, beam_args)
            _check_unread(flags, results, "; rejects/ lists all of it")
            check_reject_fraction(job, results, flags.max_reject_fraction)
            claim.check()
            _publish(ours, asked, results, time.monotonic() - start, workers)
            claim.check()
        end(ours)
    return job


def _make(
    job: Job, asked: Asked, flags: argparse.Namespace, beam_args: Sequence[str]
) -> Results:
    """Makes everything but what is published at the end, or what is left of it."""
    workers = flags.workers or available_workers()
    tasks = len(asked.plan.tasks)
    if workspace.state(job, asked.files) == "unfinished":
        found = (intact_record(job, tokenize_task.KIND, n) for n in range(tasks))
        done = sum(record is not None for record in found)
        print(f"going on in {job.output}: {done} of {tasks} tasks are done")
    if asked.tokenizer.bpe.beyond_graphs is not None:
        print(
            "quern-export will refuse what is trained on this dataset: no graph can "
            f"reproduce this of its tokenizer: {asked.tokenizer.bpe.beyond_graphs}"
        )
    _begin(job, asked)
    _run(job, asked.plan, flags.runner, workers, beam_args)
    return collect(job)


def _check_unread(flags: argparse.Namespace, results: Results, where: str = "") -> None:
    usual = flags.max_reject_fraction
    check_unread(results.inputs, flags.max_unread_fraction, usual, where)


def _begin(job: Job, asked: Asked) -> None:
    tokenizer = asked.tokenizer.json_bytes
    workspace.begin(job, asked.plan, asked.files, tokenizer, asked.rule_files)


def _transport(flags: argparse.Namespace) -> Transport:
    if flags.shuffle != "auto":
        return flags.shuffle
    return "files" if is_local(flags.runner) else "groupbykey"


def _run(
    job: Job, plan: Plan, runner: str, workers: int, beam_args: Sequence[str]
) -> None:
    """Runs the graph and reports its progress."""

    def build(pipeline: "beam.Pipeline") -> None:
        # Imported here: the runner imports Beam first, without its cloud parts.
        from pipelines.prepare.prepare_graph import build_graph

        build_graph(pipeline, job, len(plan.tasks))

    with watch(_Poll(job, plan)):
        run_pipeline(build, runner, workers, beam_args)


class _Poll:
    """Looks at the work directory: which tasks and shards have left their record."""

    def __init__(self, job: Job, plan: Plan) -> None:
        self._job, self._plan = job, plan
        self._total = sum(task.size for task in plan.tasks)

    def __call__(self) -> Progress:
        """Returns input bytes by how far the last stage begun has come with them."""
        for stage, kind in (("mixing", mix_shards.KIND), ("packing", pack_shard.KIND)):
            shards = len(self._finished(kind))
            if shards:
                share = self._total * shards // self._job.shards
                return Progress(stage, share, self._total)
        done = self._finished(tokenize_task.KIND)
        begun = self._finished(tokenize_task.UNDER_WAY)
        if not (done or begun) and "lines" in self._job.config.deduplicate:
            return self._progress("lines", self._finished(line_duplicates.FOUND))
        parts = sum(
            (intact_record(self._job, tokenize_task.UNDER_WAY, number) or {"done": 0})[
                "done"
            ]
            for number in begun - done
        )
        return self._progress("tokenizing", done, parts)

    def _progress(self, stage: str, done: set[int], parts: int = 0) -> Progress:
        whole = sum(self._plan.tasks[number].size for number in done)
        return Progress(stage, whole + parts, self._total)

    def _finished(self, kind: str) -> set[int]:
        names = storage.list_names(self._job.path(kind))
        return {record_number(name) for name in names if name[0] != "."}


def _publish(
    job: Job,
    asked: Asked,
    results: Results,
    seconds: float,
    workers: int,
) -> None:
    """Writes what goes beside the shards, the manifest last, and says what was done."""
    manifest = manifest_of(job, asked.files, results)
    check_sizes(job.output, results.files)
    storage.write_atomically(
        storage.join(job.output, TOKENIZER_NAME), asked.tokenizer.json_bytes
    )
    timings = {
        "wall_seconds": seconds,
        "workers": workers,
        "worker_seconds": results.seconds,
        "worker_cpu_seconds": results.cpu_seconds,
        "peak_worker_memory": results.peak_memory,
        "input_bytes": results.input_bytes,
    }
    storage.write_atomically(
        storage.join(job.output, "timings.json"),
        strict_json.dumps(timings, indent=1).encode(),
    )
    report = storage.join(job.output, "report.html")
    write_report(report, manifest, results, timings)
    with summed_file(job.output, INPUTS_NAME) as file:
        pq.write_table(results.inputs.table(), file, compression="zstd")
    inputs = file.sum(INPUTS_NAME)
    sums = {file["name"]: file["sha256"] for file in (*results.files, inputs)}
    sums[TOKENIZER_NAME] = manifest.tokenizer_sha256
    write_sums(job.output, {**sums, MANIFEST_NAME: manifest.dataset_hash})
    job.check_claim()
    write_manifest(job.output, manifest)
    print(_summary(manifest, results, seconds))
    print(f"report: {report}")


def _summary(manifest: Manifest, results: Results, seconds: float) -> str:
    counts, splits = manifest.counts, manifest.splits
    rows = sum(split.rows for split in splits.values())
    filled = counts.tokens_written / max(1, rows * manifest.row_places)
    rejected = ", ".join(f"{name} {n:,}" for name, n in counts.rejected.items())
    return "\n".join(
        [
            f"documents: {counts.read:,} read, {counts.kept:,} kept; "
            f"rejected: {rejected or 'none'}",
            f"tokens: {counts.tokens_encoded:,} in {count_of(rows, 'row')} "
            f"({filled:.1%} of their places filled): "
            + ", ".join(
                f"{name} {count_of(split.rows, 'row')}"
                for name, split in splits.items()
            ),
            f"input: {amount(results.input_bytes, 'B')} in {seconds:.1f} s, "
            f"{amount(results.input_bytes / seconds, 'B')}/s",
            *contamination_lines(results),
            *results.inputs.lines(MOST_NAMED),
        ]
    )


def _say_finished(job: Job, asked: Asked) -> None:
    """Says that there is nothing to do, if the dataset is this job's.

    Its manifest waited for the disk, its shards did not: on a disk they are read once
    more, at the 0.5 to 2 GB/s of SHA-256. What a bucket has taken, it has.

    Raises:
        UsageError: it is another's.
        WorkError: a power cut, or something else, has damaged it.
    """
    workspace.state(job, asked.files)
    manifest = read_manifest(job.output)
    files = 0 if storage.is_cloud(job.output) else check_sums(job.output)
    print(
        f"{job.output} is already the finished dataset of this input and "
        f"configuration: {count_of(manifest.counts.kept, 'document')}, nothing to do"
        + (f" (its {count_of(files, 'file')} checked)" if files else "")
    )


if __name__ == "__main__":
    cli()
