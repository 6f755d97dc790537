# SPDX-License-Identifier: Apache-2.0
"""A training session: one entry into a run, from a checkpoint to an end or rollback.

A process has one, and one more after each rollback.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from preprocessing.claims.claims import Claim
from preprocessing.foundation.commands import Interrupted, WorkError, count_of
from trainer.data.omitted_rows import Ranges
from trainer.data.training_rows import RowBlock, TrainingRows
from trainer.loop import outer_loop as loop
from trainer.loop.evaluate_rows import Evaluation
from trainer.loop.outer_loop import LoopCallbacks
from trainer.loop.plan import RunPlan
from trainer.loop.profiling import ProfileWindow
from trainer.loop.report import Report
from trainer.loop.samples import Sample
from trainer.machine.interruption import StopRequest
from trainer.machine.watchdog import Watchdog
from trainer.run.checkpoint_files import State
from trainer.run.checkpoint_writer import CheckpointWriter
from trainer.run.interval import Interval
from trainer.run.position import Position
from trainer.step.step_metrics import StepMetrics, as_arrays
from trainer.step.train_step import TrainLoop

# Of the validation split; what it is given is called between two batches.
Evaluate = Callable[[Callable[[], None]], Evaluation]


@dataclass(frozen=True)
class Start:
    """Where a run is entered.

    Attributes:
        position: of the last whole checkpoint, or the beginning.
        elapsed_seconds: training time up to there, of all invocations.
        evaluated: whether that step's evaluation is written already.
        omitted: stream positions that rollbacks left out.
        notes: what people should know of it.
    """

    position: Position
    elapsed_seconds: float
    evaluated: bool
    omitted: Ranges
    notes: Sequence[str]


@dataclass(frozen=True)
class Watch:
    """What can stop or profile a run from outside the loop.

    Attributes:
        request: whether to stop.
        watchdog: ends a process that is stuck; told of everything that is done.
        profile: steps to profile, if any.
        claim: the chief's on the run's directory; None in every other process.
    """

    request: StopRequest
    watchdog: Watchdog
    profile: ProfileWindow | None
    claim: Claim | None

    def check_claim(self) -> None:
        """Checks before files are written that the run is still ours.

        Raises:
            WorkError: another process has taken it over.
        """
        if self.claim is not None:
            self.claim.check()


@dataclass(frozen=True)
class Chief:
    """What the chief alone does: it writes the run's files and tells people.

    Attributes:
        report: tells numbers and notes.
        writer: of checkpoints.
        sample: continues some texts with the weights as they are.
        notes: what to tell people before the first step.
    """

    report: Report
    writer: CheckpointWriter
    sample: Callable[[], Sequence[Sample]]
    notes: Sequence[str]


@dataclass(frozen=True)
class SessionParts:
    """What a session works with.

    Attributes:
        stream: the rows it trains on.
        train: runs steps on them.
        evaluate: on the validation split; None if that has no rows.
        chief: None in every other process.
    """

    stream: TrainingRows
    train: TrainLoop
    evaluate: Evaluate | None
    chief: Chief | None


class TrainingSession:
    """What the outer loop calls are its methods."""

    def __init__(
        self, planned: RunPlan, start: Start, watch: Watch, parts: SessionParts
    ) -> None:
        """Takes what `trainer.loop.make_session` has made; starts nothing."""
        self._planned, self._start = planned, start
        self._watch, self._parts = watch, parts
        self._step = start.position.step

    def run(self) -> None:
        """Trains to the last step of this invocation.

        Raises:
            Interrupted: a stop was requested; a checkpoint is on its way.
            RollBack: too many updates were skipped.
        """
        config, position = self._planned.config, self._start.position
        self._watch.watchdog.stopping(False)  # It may be there again after a rollback.
        callbacks = LoopCallbacks(
            train=self.train,
            write_line=self.write_line,
            save=self.save,
            evaluate=self.evaluate,
            stop_requested=self.stop_requested,
        )
        if self._parts.chief is not None:
            for text in self._parts.chief.notes:
                self.note(text)
        schedule, profile = config.data.batch_schedule, self._watch.profile
        lengths = loop.inner_loops(
            config.loop,
            position.step,
            schedule.constant_until,
            () if profile is None else profile.borders,
        )
        blocks = self._parts.stream.blocks(
            position.step, position.rows_consumed, lengths
        )
        try:
            loop.run(config.loop, config.guard, position, blocks, callbacks)
        finally:
            blocks.close()
            if profile is not None:
                profile.close()

    def train(self, block: RowBlock) -> StepMetrics[np.ndarray]:
        """Runs the steps of one block."""
        profile = None if self._parts.chief is None else self._watch.profile
        if profile is not None:
            profile.before(self._step)
        result = as_arrays(self._parts.train(block.features, block.num_steps))
        self._step += block.num_steps
        if profile is not None:
            profile.after(self._step)
        self._watch.watchdog.progress(f"step {self._step:,}")
        return result

    def write_line(self, interval: Interval) -> None:
        """Writes one line of metrics, if this is the chief."""
        if self._parts.chief is not None:
            self._parts.chief.report.training(interval)

    def save(self, position: Position) -> None:
        """Begins to write a checkpoint, if this is the chief."""
        if self._parts.chief is None:
            return
        report, planned = self._parts.chief.report, self._planned
        self._parts.chief.writer.save(
            State(
                position,
                planned.data.hash,
                planned.config.seed,
                report.elapsed_seconds,
            )
        )
        report.publish()
        self._watch.watchdog.progress(f"saving step {position.step:,}")

    def evaluate(self, step: int) -> None:
        """Evaluates on the validation split, unless that was done before a restart."""
        start, chief = self._start, self._parts.chief
        done = start.evaluated and step == start.position.step
        if done or self._parts.evaluate is None:
            return

        def between_batches() -> None:
            self._watch.watchdog.progress(f"evaluating step {step:,}")
            reason = self.stop_requested()
            if reason is not None:
                raise Interrupted(
                    f"saved at step {step} and stopped on {reason} while evaluating; "
                    "the same command resumes"
                )

        result = self._parts.evaluate(between_batches)
        if chief is not None:
            chief.report.evaluation(step, result, chief.sample())
            chief.report.publish()

    def stop_requested(self) -> str | None:
        """Returns why all workers stop now, or None.

        Raises:
            WorkError: a checkpoint could not be written; in all workers.
        """
        reason, failure = self._watch.request.reason(), self._failure()
        stops, failures = self._planned.workers.totals(
            [int(reason is not None), int(failure is not None)]
        )
        if failures:
            raise failure or _chief_failed()
        if not stops:
            return None
        self._watch.watchdog.stopping()
        return reason or "another worker's request"

    def finish(self) -> None:
        """Waits for what is being written; all workers call it together.

        Raises:
            WorkError: a checkpoint could not be written; in all workers.
        """
        failure: BaseException | None = None
        self._watch.watchdog.stopping()
        try:
            if self._parts.chief is not None:
                self._parts.chief.writer.close()
        except WorkError as error:
            failure = error
        if self._planned.workers.total(int(failure is not None)):
            raise failure or _chief_failed()
        if self._parts.chief is not None:
            self._tell_not_finite(self._parts.chief)

    def _tell_not_finite(self, chief: Chief) -> None:
        """Says what of the run is NaN or infinite, where anything is."""
        weights, told = chief.writer.not_finite(), list(chief.report.not_finite)
        if weights:
            others = count_of(len(weights) - 1, "other")
            more = f" and {others}" if len(weights) > 1 else ""
            told.append(f"NaN or infinity in the checkpoint's {weights[0]}{more}")
        if told:
            chief.report.note(
                f"this run is not finite: {'; '.join(told)}. Go back to an earlier "
                "checkpoint, or begin again with a lower optimizer.peak_learning_rate"
            )

    def close(self) -> None:
        """Writes out what is buffered; safe to call after any error."""
        if self._parts.chief is not None:
            self._parts.chief.report.close()

    def note(self, text: str) -> None:
        """Tells people a sentence, if this is the chief."""
        if self._parts.chief is not None:
            self._parts.chief.report.note(text)

    def _failure(self) -> BaseException | None:
        chief = self._parts.chief
        return None if chief is None else chief.writer.failure()


def _chief_failed() -> WorkError:
    return WorkError(
        "wanted the chief to save the run, found that it could not. See its log; the "
        "same command resumes from the last complete checkpoint"
    )
