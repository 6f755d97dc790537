# SPDX-License-Identifier: Apache-2.0
"""What a preparation will take: time, tokens and disk, from a sample of its input.

Evenly spaced tasks are read from their start, a thousandth of the input's bytes in all
(4 MB at least), judged, encoded and packed as the job would, and the totals scaled.
Duplicates lie far apart, so a sample does not show them: what is told is without them.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipelines.beam.progress import amount
from pipelines.beam.runners import available_workers, parse_with_beam_flags
from pipelines.curation.document_walk import encoded
from pipelines.job.plan import SIZES, Job, Plan, PlanSizes, Task, count_shards
from pipelines.job.rejects import RejectCounts
from pipelines.job.task_work import TaskWork
from pipelines.prepare import prepare_flags, workspace
from pipelines.prepare.pack_shard import pack_blocks
from pipelines.prepare.prepare_input import asked_for
from preprocessing.foundation.commands import count_of

SAMPLE_SHARE = 1 / 1000
LEAST_BYTES = 4 << 20
_MOST_TASKS = 64
# Start of workers and driver, seen for one job on two cores.
_START_SECONDS = 5.0


@dataclass
class _Sample:
    """What was done with a part of the input."""

    input_bytes: int = 0
    seconds: float = 0.0
    read: int = 0
    kept: int = 0
    tokens: int = 0
    rows: int = 0
    shuffled_bytes: int = 0
    lost: dict[str, str] = field(default_factory=dict)  # files' reasons, by path


def estimate(
    argv: Sequence[str], sizes: PlanSizes = SIZES, least_bytes: int = LEAST_BYTES
) -> str:
    """Returns the estimate for a preparation with these flags, as a table.

    Args:
        argv: flags.
        sizes: how the input is cut.
        least_bytes: input to read, where there is as much.

    Raises:
        UsageError: as quern-prepare would.
    """
    flags, _ = parse_with_beam_flags(prepare_flags.parser(), [*argv, "--dry_run"])
    asked = asked_for(flags, sizes)
    with tempfile.TemporaryDirectory(prefix="quern-estimate-") as place:
        shards = count_shards(asked.plan, sizes)
        job = Job(f"{place}/sample", asked.config, shards, "files")
        tokenizer = asked.tokenizer.json_bytes
        workspace.begin(job, asked.plan, asked.files, tokenizer, asked.rule_files)
        sample = _sample(job, asked.plan, least_bytes)
    return _table(job, asked.plan, sample, flags.workers or available_workers())


def _sample(job: Job, plan: Plan, least: int) -> _Sample:
    total = sum(task.size for task in plan.tasks)
    wanted = min(total, max(least, int(total * SAMPLE_SHARE)))
    count = min(len(plan.tasks), _MOST_TASKS, max(1, wanted // (1 << 20)))
    chosen = [plan.tasks[len(plan.tasks) * at // count] for at in range(count)]
    # Compilers and tables are warm before the clock starts.
    _read(job, chosen[0], 1, _Sample())
    sample = _Sample()
    for task in chosen:
        start = time.perf_counter()
        _read(job, task, wanted // count, sample)
        sample.seconds += time.perf_counter() - start
    return sample


def _read(job: Job, task: Task, most: int, sample: _Sample) -> None:
    """Adds batches of a task to the sample until `most` bytes of it are read."""
    work = TaskWork(job, task, RejectCounts())
    done = 0
    for chunk in encoded(work, None):
        done += chunk.bytes_read
        sample.input_bytes += chunk.bytes_read
        if len(chunk.examples["lengths"]):
            blocks = pack_blocks(job, chunk.examples, 0, 0)
            sample.rows += sum(block.rows for block in blocks)
        for column in (*chunk.examples.values(), *chunk.fingerprints.values()):
            sample.shuffled_bytes += column.nbytes
        if done >= most:
            break
    for number, counts in work.inputs.files.items():
        if counts.reason:
            sample.lost[job.plan().files[number]] = counts.reason
    sample.read += work.totals["documents"] + work.rejects.counts.total()
    sample.kept += work.totals["documents"]
    sample.tokens += work.totals["tokens"]


def _table(job: Job, plan: Plan, sample: _Sample, workers: int) -> str:
    total = sum(task.size for task in plan.tasks)
    scale = total / max(1, sample.input_bytes)
    seconds = _START_SECONDS + sample.seconds * scale / workers
    frame = job.config.layout.frame_bytes
    lines = [
        ("input", amount(total, "B")),
        ("sample", f"{amount(sample.input_bytes, 'B')} in {sample.seconds:.1f} s"),
        ("documents", f"{sample.read * scale:,.0f}"),
        ("kept by the rules", f"{sample.kept * scale:,.0f}"),
        ("tokens", f"{sample.tokens * scale:,.0f}"),
        ("rows", f"{sample.rows * scale:,.0f}"),
        ("dataset on disk", amount(int(sample.rows * frame * scale), "B")),
        ("disk while it runs", amount(_peak_disk(sample, frame, scale), "B")),
        (f"time, {count_of(workers, 'worker')}", f"{seconds / 60:.1f} minutes"),
    ]
    note = "before duplicates are dropped, which a sample cannot show"
    lost = [f"not all read: {path} ({why})" for path, why in sample.lost.items()]
    return "\n".join([*(f"{name:<22}{text}" for name, text in lines), *lost, note])


def _peak_disk(sample: _Sample, frame: int, scale: float) -> int:
    """Rows lie beside the documents they were packed from until the job ends."""
    return int((sample.shuffled_bytes + sample.rows * frame) * scale)
