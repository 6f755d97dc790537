# SPDX-License-Identifier: Apache-2.0
"""Exports what a plan lacks, one release after another, in one process.

Each is written, checked in a process of its own, judged, and made visible, or is named
with the reason and leaves nothing: the others go on.
"""

import time
from collections.abc import Callable, Sequence

from preprocessing.foundation import storage
from preprocessing.foundation.commands import WorkError, count_of, note
from trainer.batch_export.plan import ExportPlan, ExportTask
from trainer.models.model import PrecisionConfig
from trainer.release.check_apart import check_apart
from trainer.release.publish import staged
from trainer.release.release import write_release
from trainer.release.servable import servable_of_run
from trainer.run.checkpoints import open_run

# Raises what says why a release, which is checked and in the directory, is refused.
Judge = Callable[[ExportTask, str], None]


def export_missing(plan: ExportPlan, models: str, judge: Judge | None = None) -> None:
    """Exports what is missing, and says of each how it went and how long is left.

    Args:
        plan: what is wanted, and what of it is there.
        models: the tree of releases, local or cloud.
        judge: has a release refused that was written and checked.

    Raises:
        WorkError: some failed; all others are there.
    """
    wanted = len(plan.missing) + len(plan.there)
    if plan.there:
        print(f"{len(plan.there)} of {count_of(wanted, 'release')} there already")
    began, failures = time.monotonic(), []
    for index, task in enumerate(plan.missing):
        start = time.monotonic()
        try:
            export_one(task, models, judge)
        except Exception as error:  # any library's; it is one release's matter
            reason = " ".join(str(error).split()) or type(error).__name__
            failures.append(f"{task}: {reason}")
            note(f"failed: {failures[-1]}")
        else:
            seconds = time.monotonic() - start
            print(f"exported {task} in {seconds:.1f} s", end="")
            print(_left(began, index + 1, len(plan.missing)), flush=True)
    if failures:
        raise WorkError(_told(failures, wanted))


def export_one(task: ExportTask, models: str, judge: Judge | None = None) -> None:
    """Exports one release.

    Raises:
        UsageError: the checkpoint is damaged or cannot be served, or the version is
            there.
        WorkError: it cannot be written, answers otherwise than the trainer, or is
            refused.
    """
    # As a single export: narrow products only where weights are stored so.
    narrow = task.weights == "bfloat16"
    precision = PrecisionConfig("bfloat16" if narrow else "float32")
    servable = servable_of_run(open_run(task.run, task.step, precision))
    with staged(storage.join(models, task.name), task.version) as (staging, _):
        write_release(servable, staging, task.name, task.weights)
        check_apart(staging)
        if judge is not None:
            judge(task, staging)


def _left(began: float, done: int, of: int) -> str:
    """Returns how many are left and for how long, by those that are done."""
    if done == of:
        return ""
    seconds = round((time.monotonic() - began) / done * (of - done))
    minutes, seconds = divmod(seconds, 60)
    return f"; {done} of {of}, about {minutes}:{seconds:02d} left"


def _told(failures: Sequence[str], wanted: int) -> str:
    more = len(failures) - 1
    others = f" (and {count_of(more, 'other')}, named above)" if more else ""
    return (
        f"wanted {count_of(wanted, 'release')}, found {len(failures)} failed: "
        f"{failures[0]}{others}. Correct the cause and run the same command again: it "
        "does what is missing"
    )
