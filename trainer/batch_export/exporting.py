# SPDX-License-Identifier: Apache-2.0
"""Exports what a plan lacks, one release after another, in one process.

Each is written, checked in a process of its own, judged, and made visible, or is named
with the reason and leaves nothing: the others go on. A checkpoint is read once for all
its weights, a tokenizer's graph is built once for all releases; what a model's own
sizes decide, the warm-up requests too, is made for each.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence

from preprocessing.foundation import storage
from preprocessing.foundation.commands import WorkError, note
from trainer.batch_export.failures import ends_all
from trainer.batch_export.plan import ExportTask
from trainer.models.model import PrecisionConfig
from trainer.release.check_apart import check_apart
from trainer.release.publish import staged
from trainer.release.release import write_release
from trainer.release.servable import Servable, servable_of_run
from trainer.run.checkpoints import Run, computing_in, open_run
from trainer.serving.graph_tokenizer import GraphTokenizer

# Raises what says why a release, which is checked and in the directory, is refused.
Judge = Callable[[ExportTask, str], object]


class Exporter:
    """Exports releases of one command, with what they share.

    Args:
        models: the tree of releases, local or cloud.
        judge: has a release refused that was written and checked.
    """

    def __init__(self, models: str, judge: Judge | None = None) -> None:
        self._models, self._judge = models, judge
        self._opened: dict[tuple[str, int], Run] = {}
        self._graphs: dict[tuple[str, int | None, int, int], GraphTokenizer] = {}

    def export(self, task: ExportTask) -> ExportTask:
        """Exports one release, and returns it with the version that it got.

        Raises:
            UsageError: the checkpoint is damaged or cannot be served.
            WorkError: it cannot be written, answers otherwise than the trainer, or is
                refused.
        """
        servable = self._servable(task)
        model = storage.join(self._models, task.name)
        with staged(model, None) as (staging, version):
            write_release(servable, staging, task.name, task.weights)
            check_apart(staging)
            made = dataclasses.replace(task, version=version)
            if self._judge is not None:
                self._judge(made, staging)
        return made

    def _servable(self, task: ExportTask) -> Servable:
        source = task.run, task.step
        if source not in self._opened:
            self._opened.clear()  # one model at a time
            self._opened[source] = open_run(*source, PrecisionConfig())
        opened = self._opened[source]
        if task.weights == "bfloat16":
            # As a single export: narrow products only where weights are stored so.
            opened = computing_in(opened, PrecisionConfig("bfloat16"))
        made = servable_of_run(opened)
        known = made.tokenizer
        ids = known.sha256, known.bos_id, known.eos_id, known.pad_id
        if ids not in self._graphs:
            self._graphs[ids] = GraphTokenizer(known)
        return dataclasses.replace(made, graph=self._graphs[ids])


def by_checkpoint(tasks: Sequence[ExportTask]) -> list[ExportTask]:
    """Returns releases in an order that has all of a checkpoint together.

    Those of one model stay in theirs.
    """
    runs = list(dict.fromkeys(task.run for task in tasks))
    return sorted(tasks, key=lambda task: (runs.index(task.run), task.step))


def each_told(
    tasks: Sequence[ExportTask], verb: str, work: Callable[[ExportTask], ExportTask]
) -> list[str]:
    """Does some work for each release, and says of each how it went and what is left.

    Args:
        tasks: the releases.
        verb: what was done, in one word.
        work: does it, and returns the release as it is then.

    Returns:
        What failed, by its source; why was told.

    Raises:
        WorkError: the place that all are written to failed; the rest was not tried.
    """
    began, failures = time.monotonic(), []
    for index, task in enumerate(tasks):
        start = time.monotonic()
        try:
            made = work(task)
        except Exception as error:  # any library's; it is one release's matter
            reason = " ".join(str(error).split()) or type(error).__name__
            told = f"{task.source}: {reason}"
            if ends_all(error):
                raise WorkError(_ended(told, len(tasks) - index - 1)) from error
            note(f"failed: {told}")
            failures.append(task.source)
        else:
            seconds = time.monotonic() - start
            print(f"{verb} {made} in {seconds:.1f} s", end="")
            print(_left(began, index + 1, len(tasks)), flush=True)
    return failures


def _left(began: float, done: int, of: int) -> str:
    """Returns how many are left and for how long, by those that are done."""
    if done == of:
        return ""
    seconds = round((time.monotonic() - began) / done * (of - done))
    minutes, seconds = divmod(seconds, 60)
    return f"; {done} of {of}, about {minutes}:{seconds:02d} left"


def _ended(failure: str, left: int) -> str:
    return (
        f"wanted a place to write releases, found that it failed with {failure}. "
        f"{left:,} more were not tried. Correct the cause and run the same command "
        "again: it does what is missing"
    )
