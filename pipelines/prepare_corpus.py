# SPDX-License-Identifier: Apache-2.0
"""quern-prepare: raw text to a dataset of packed, shuffled, tokenized rows.

    read -> clean -> drop duplicates -> tokenize -> shuffle -> pack -> records

One Beam graph does it (prepare_graph.py). The same input, configuration and seed give
the same bytes, whatever the runner, the number of workers or of restarts.
"""

import argparse
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from pipelines import pack_shard, tokenize_task, workspace
from pipelines.execution import stopping_on_request
from pipelines.input_flags import add_input_flags, reader_config
from pipelines.plan import (
    PLANNERS,
    Job,
    Plan,
    PrepareConfig,
    TokenizerConfig,
    count_shards,
    make_plan,
)
from pipelines.progress import Progress, amount, watch
from pipelines.report import write_report
from pipelines.results import Results, check_reject_fraction, collect, manifest_of
from pipelines.runners import (
    LOCAL,
    STOCK,
    add_runner_flags,
    available_workers,
    parse_with_beam_flags,
    run_pipeline,
)
from pipelines.shuffle import Transport
from pipelines.steps import read_record, read_records, record_number
from preprocessing import storage
from preprocessing.commands import CommandParser, UsageError, run
from preprocessing.manifest import Manifest, read_manifest, write_manifest
from preprocessing.normalize import CleaningConfig
from preprocessing.storage import InputFile
from preprocessing.tokenizer import Tokenizer

if TYPE_CHECKING:
    import apache_beam as beam


def cli() -> NoReturn:
    """Runs the command on the process's arguments."""
    run(main)


def main(argv: Sequence[str]) -> None:
    """Prepares a dataset; SIGTERM stops it at any moment as `Interrupted`."""
    with stopping_on_request():
        _prepare(argv)


def _prepare(argv: Sequence[str]) -> None:
    start = time.monotonic()
    flags, beam_args = parse_with_beam_flags(_parser(), argv)
    if not 0 <= flags.max_reject_fraction <= 1:
        raise UsageError(
            "wanted --max_reject_fraction between 0 and 1, found "
            f"{flags.max_reject_fraction}. 0.05 is usual"
        )
    files = _files(flags.input)
    tokenizer = _tokenizer(flags)
    config = _config(flags, tokenizer)
    plan = make_plan(files, config.reader)
    job = Job(flags.output, config, count_shards(plan), _transport(flags))
    state = workspace.claim(job, files)
    if state == "finished":
        _say_finished(job)
        return
    if state == "unfinished":
        done = len(read_records(job, tokenize_task.KIND))
        print(f"going on in {job.output}: {done} of {len(plan.tasks)} tasks are done")
    if tokenizer.bpe.beyond_graphs is not None:
        print(
            "quern-export will refuse what is trained on this dataset: no graph can "
            f"reproduce this of its tokenizer: {tokenizer.bpe.beyond_graphs}"
        )
    workspace.begin(job, plan, files, tokenizer.json_bytes)
    workers = flags.workers or available_workers()
    _run(job, plan, flags.runner, workers, beam_args)
    results = collect(job)
    check_reject_fraction(results, flags.max_reject_fraction)
    _publish(job, files, results, tokenizer, time.monotonic() - start, workers)


def _parser() -> CommandParser:
    parser = CommandParser(
        "quern-prepare",
        "Turns raw text into a dataset: reads, cleans, drops exact duplicates, "
        "tokenizes, shuffles and packs. Run the same command again to go on after an "
        "interruption. Flags of Beam itself are accepted too.",
    )
    add_input_flags(parser)
    parser.add_argument(
        "--tokenizer", required=True, metavar="FILE", help="a tokenizer.json"
    )
    for name in ("bos", "eos", "pad"):
        parser.add_argument(
            f"--{name}_token",
            metavar="NAME",
            help=f"the tokenizer's {name.upper()} token, or none; "
            f"<|{name}|> where the file has it",
        )
    parser.add_argument(
        "--output", required=True, metavar="DATASET", help="a new or empty directory"
    )
    _add_dataset_flags(parser)
    parser.add_argument(
        "--max_reject_fraction",
        type=float,
        default=0.05,
        metavar="F",
        help="fail if more of the documents are rejected; duplicates do not count",
    )
    add_runner_flags(parser)
    parser.add_argument(
        "--shuffle",
        default="auto",
        choices=["auto", "files", "groupbykey"],
        help="how documents travel between workers: through files of the output "
        "directory, which all workers must reach, or inside Beam; auto: files for "
        f"--runner {LOCAL} and {STOCK}, else groupbykey",
    )
    return parser


def _add_dataset_flags(parser: CommandParser) -> None:
    """Adds the flags that decide what the rows hold."""
    default = PrepareConfig(TokenizerConfig("", 1, None, 0, 0))
    parser.add_argument(
        "--sequence_length",
        type=int,
        default=default.sequence_length,
        metavar="N",
        help="targets per row; rows hold one id more",
    )
    parser.add_argument(
        "--packing",
        default=default.packing,
        choices=list(PLANNERS),
        help="best_fit keeps documents whole where they fit; concat fills every row",
    )
    parser.add_argument(
        "--validation_fraction",
        type=float,
        default=default.validation_fraction,
        metavar="F",
        help="share of documents that go to the validation split",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=default.seed,
        metavar="N",
        help="decides order and split",
    )


def _files(patterns: Sequence[str]) -> list[InputFile]:
    files = storage.expand(patterns)
    if not any(file.size for file in files):
        raise UsageError(
            f"wanted documents in the input, found {len(files)} empty "
            f"file{'s' * (len(files) > 1)}. Check --input"
        )
    return files


def _tokenizer(flags: argparse.Namespace) -> Tokenizer:
    return Tokenizer.load(
        flags.tokenizer,
        bos_token=flags.bos_token,
        eos_token=flags.eos_token,
        pad_token=flags.pad_token,
    )


def _config(flags: argparse.Namespace, tokenizer: Tokenizer) -> PrepareConfig:
    return PrepareConfig(
        tokenizer=TokenizerConfig(
            sha256=tokenizer.sha256,
            vocab_size=tokenizer.vocab_size,
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
            pad_id=tokenizer.pad_id,
        ),
        reader=reader_config(flags),
        cleaning=CleaningConfig(),
        sequence_length=flags.sequence_length,
        packing=flags.packing,
        validation_fraction=flags.validation_fraction,
        seed=flags.seed,
    )


def _transport(flags: argparse.Namespace) -> Transport:
    if flags.shuffle != "auto":
        return flags.shuffle
    local = flags.runner == LOCAL or flags.runner.lower() == STOCK.lower()
    return "files" if local else "groupbykey"


def _run(
    job: Job, plan: Plan, runner: str, workers: int, beam_args: Sequence[str]
) -> None:
    """Runs the graph and reports its progress."""

    def build(pipeline: "beam.Pipeline") -> None:
        # Imported here: the runner imports Beam first, without its cloud parts.
        from pipelines.prepare_graph import build_graph

        build_graph(pipeline, job, len(plan.tasks))

    with watch(_Poll(job, plan)):
        run_pipeline(build, runner, workers, beam_args)


class _Poll:
    """Looks at the work directory: which tasks and shards have left their record."""

    def __init__(self, job: Job, plan: Plan) -> None:
        self._job, self._plan = job, plan
        self._total = sum(task.size for task in plan.tasks)

    def __call__(self) -> Progress:
        """Returns input bytes tokenized, then input bytes whose shards are packed."""
        shards = self._finished(pack_shard.KIND)
        if shards:
            return Progress(
                "packing", self._total * len(shards) // self._job.shards, self._total
            )
        done = self._finished(tokenize_task.KIND)
        tokenized = sum(self._plan.tasks[number].size for number in done)
        tokenized += sum(
            (read_record(self._job, tokenize_task.PARTS, number) or {"done": 0})["done"]
            for number in self._finished(tokenize_task.PARTS) - done
        )
        return Progress("tokenizing", tokenized, self._total)

    def _finished(self, kind: str) -> set[int]:
        names = storage.list_names(self._job.path(kind))
        return {record_number(name) for name in names if name[0] != "."}


def _publish(
    job: Job,
    files: Sequence[InputFile],
    results: Results,
    tokenizer: Tokenizer,
    seconds: float,
    workers: int,
) -> None:
    """Writes what goes beside the shards, the manifest last, and says what was done."""
    manifest = manifest_of(job, files, results)
    storage.write_atomically(
        storage.join(job.output, "tokenizer.json"), tokenizer.json_bytes
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
        storage.join(job.output, "timings.json"), json.dumps(timings, indent=1).encode()
    )
    report = storage.join(job.output, "report.html")
    write_report(report, manifest, results, timings)
    write_manifest(job.output, manifest)
    workspace.end(job)
    print(_summary(manifest, results, seconds))
    print(f"report: {report}")


def _summary(manifest: Manifest, results: Results, seconds: float) -> str:
    counts, splits = manifest.counts, manifest.splits
    rows = sum(split.rows for split in splits.values())
    filled = counts.tokens_written / max(1, rows * (manifest.sequence_length + 1))
    rejected = ", ".join(f"{name} {n:,}" for name, n in counts.rejected.items())
    # One reject, however much the file held after the damage: so it is named here.
    damaged = [
        f"damaged, not read to its end: {example['path']} ({example['detail']})"
        for reason in ("truncated_input", "damaged_input")
        for example in results.examples.get(reason, [])
    ]
    return "\n".join(
        [
            f"documents: {counts.read:,} read, {counts.kept:,} kept; "
            f"rejected: {rejected or 'none'}",
            f"tokens: {counts.tokens_encoded:,} in {rows:,} rows "
            f"({filled:.1%} of their places filled): "
            + ", ".join(
                f"{name} {split.rows:,} rows" for name, split in splits.items()
            ),
            f"input: {amount(results.input_bytes, 'B')} in {seconds:.1f} s, "
            f"{amount(results.input_bytes / seconds, 'B')}/s",
            *damaged,
        ]
    )


def _say_finished(job: Job) -> None:
    manifest = read_manifest(job.output)
    workspace.end(job)
    print(
        f"{job.output} is already the finished dataset of this input and "
        f"configuration: {manifest.counts.kept:,} documents, nothing to do"
    )


if __name__ == "__main__":
    cli()
