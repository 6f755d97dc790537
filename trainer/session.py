# SPDX-License-Identifier: Apache-2.0
"""One entry into a run: its model, data and files, and the loop over them.

A process has one session, and one more after each rollback.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from preprocessing import byte_level, storage
from preprocessing.commands import Interrupted, WorkError
from preprocessing.manifest import TOKENIZER_NAME
from trainer import checkpoints, loop
from trainer.checkpoint_files import State
from trainer.checkpoint_writer import CheckpointWriter
from trainer.compilation import choose_compilation
from trainer.coordinator import make_coordinated_loop
from trainer.evaluation import byte_counts, make_evaluate
from trainer.input_pipeline import SubRows
from trainer.interruption import StopRequest
from trainer.interval import Interval
from trainer.loop import Parts
from trainer.metrics import MetricsFiles, Speed
from trainer.mixed_order import MixedOrder
from trainer.mixed_rows import JoinedRows
from trainer.models.model import build_model
from trainer.omitted_rows import Ranges
from trainer.peak_flops import peak_flops
from trainer.plan import Plan
from trainer.position import Position
from trainer.profiling import ProfileWindow
from trainer.progress import ProgressLine
from trainer.report import Report
from trainer.retention import kept_steps
from trainer.samples import make_sampler
from trainer.step_metrics import StepMetrics, as_arrays
from trainer.train_step import (
    Learner,
    ReplicaStep,
    TrainLoop,
    make_learner,
    make_train_loop,
)
from trainer.training_rows import Block, TrainingRows
from trainer.watchdog import Watchdog


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
class Rows:
    """The rows a run trains on and is evaluated on.

    Attributes:
        training: the training split of each dataset.
        order: in which order those are read.
        validation: the validation splits, one after another.
        sources: what the rows of a mixture are told apart by in evaluations.
    """

    training: Sequence[SubRows]
    order: MixedOrder
    validation: SubRows | JoinedRows
    sources: Sequence[str]


@dataclass(frozen=True)
class Watch:
    """What looks over a run from outside the loop.

    Attributes:
        request: whether to stop.
        watchdog: ends a process that is stuck; told of everything that is done.
        profile: steps to profile, if any.
    """

    request: StopRequest
    watchdog: Watchdog
    profile: ProfileWindow | None


class Session:
    """The loop's parts are its methods."""

    def __init__(
        self, planned: Plan, run: str, start: Start, rows: Rows, watch: Watch
    ) -> None:
        """Builds the model and optimizer, restored if the run has a checkpoint."""
        self._planned, self._run, self._start = planned, run, start
        self._rows, self._watch = rows, watch
        self._step = start.position.step
        config, workers = planned.config, planned.workers
        with workers.strategy.scope():
            model = build_model(
                config.model,
                planned.data.manifest.vocab_size,
                config.precision,
                config.seed,
            )
            self._learner = make_learner(
                model, config.optimizer, config.guard, config.loop.total_steps
            )
        parts: Mapping[str, tf.Module] = {
            "model": model,
            "optimizer": self._learner.optimizer,
            "guard": self._learner.guard,
        }
        if start.position.step:
            checkpoints.restore(run, start.position.step, parts)
        self._writer = None
        if workers.chief:
            self._writer = CheckpointWriter(
                run, parts, lambda steps: kept_steps(run, config.loop, steps)
            )
        self._train_loop = _train_loop(planned, self._learner)
        self._evaluate = make_evaluate(
            model,
            self._learner.places,
            self._learner.evaluated,
            workers,
            byte_counts(storage.join(run, TOKENIZER_NAME), planned.data.manifest),
            planned.layout,
            rows.sources,
        )
        self._report = _open_report(planned, run, start, self._learner)
        self._samples = None
        if workers.chief and config.samples.count and rows.validation.num_rows:
            self._samples = make_sampler(
                self._learner,
                planned.data.manifest,
                storage.join(run, TOKENIZER_NAME),
                rows.validation,
                config.samples.count,
                config.samples.tokens,
                config.seed,
            )

    def run(self) -> None:
        """Trains to the last step of this invocation.

        Raises:
            Interrupted: a stop was requested; a checkpoint is on its way.
            RollBack: too many updates were skipped.
        """
        planned, position = self._planned, self._start.position
        config, workers = planned.config, planned.workers
        parts = Parts(
            train=self.train,
            write_line=self.write_line,
            save=self.save,
            evaluate=self.evaluate,
            stop_requested=self.stop_requested,
        )
        self._note_start()
        schedule, profile = config.data.batch_schedule, self._watch.profile
        lengths = loop.inner_loops(
            config.loop,
            position.step,
            schedule.constant_until,
            () if profile is None else profile.borders,
        )
        stream = TrainingRows(
            self._rows.training,
            self._rows.order,
            schedule,
            workers.index,
            workers.count,
            self._start.omitted,
        )
        blocks = stream.blocks(position.step, position.rows_consumed, lengths)
        try:
            loop.run(config.loop, config.guard, position, blocks, parts)
        finally:
            blocks.close()
            if profile is not None:
                profile.close()

    def train(self, block: Block) -> StepMetrics[np.ndarray]:
        """Runs the steps of one block."""
        profile = self._watch.profile if self._report is not None else None
        if profile is not None:
            profile.before(self._step)
        result = as_arrays(self._train_loop(block.features, block.num_steps))
        self._step += block.num_steps
        if profile is not None:
            profile.after(self._step)
        self._watch.watchdog.progress(f"step {self._step:,}")
        return result

    def write_line(self, interval: Interval) -> None:
        """Writes one line of metrics, if this is the chief."""
        if self._report is not None:
            self._report.training(interval)

    def save(self, position: Position) -> None:
        """Begins to write a checkpoint, if this is the chief."""
        if self._writer is None or self._report is None:
            return
        self._writer.save(
            State(
                position,
                self._planned.data.hash,
                self._planned.config.seed,
                self._report.elapsed_seconds,
            )
        )
        self._report.publish()
        self._watch.watchdog.progress(f"saving step {position.step:,}")

    def evaluate(self, step: int) -> None:
        """Evaluates on the validation split, unless that was done before a restart."""
        start = self._start
        done = start.evaluated and step == start.position.step
        if done or not self._rows.validation.num_rows:
            return

        def between_batches() -> None:
            self._watch.watchdog.progress(f"evaluating step {step:,}")
            reason = self.stop_requested()
            if reason is not None:
                raise Interrupted(
                    f"saved at step {step} and stopped on {reason} while evaluating; "
                    "the same command resumes"
                )

        result = self._evaluate(self._rows.validation, between_batches)
        if self._report is not None:
            samples = () if self._samples is None else self._samples()
            self._report.evaluation(step, result, samples)
            self._report.publish()

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
        return reason or "another worker's request"

    def finish(self) -> None:
        """Waits for what is being written; all workers call it together.

        Raises:
            WorkError: a checkpoint could not be written; in all workers.
        """
        failure: BaseException | None = None
        try:
            if self._writer is not None:
                self._writer.close()
        except WorkError as error:
            failure = error
        if self._planned.workers.total(int(failure is not None)):
            raise failure or _chief_failed()

    def close(self) -> None:
        """Writes out what is buffered; safe to call after any error."""
        if self._report is not None:
            self._report.close()

    def note(self, text: str) -> None:
        """Tells people a sentence, if this is the chief."""
        if self._report is not None:
            self._report.note(text)

    def _failure(self) -> BaseException | None:
        return None if self._writer is None else self._writer.failure()

    def _note_start(self) -> None:
        step, config = self._start.position.step, self._planned.config.loop
        for text in self._start.notes:
            self.note(text)
        if step >= config.last_step:
            self.note(f"step {config.last_step:,} is already done")
        if not self._rows.validation.num_rows:
            self.note("no validation rows: the run will not be evaluated")
        path = storage.join(self._run, TOKENIZER_NAME)
        found = byte_level.parse(storage.read_bytes(path), path).beyond_graphs
        if found is not None:
            self.note(
                "quern-export will refuse this run: no graph can reproduce this of "
                f"its tokenizer: {found}"
            )


def _train_loop(planned: Plan, learner: Learner) -> TrainLoop:
    config, workers = planned.config, planned.workers
    length, rows = config.sequence_length, planned.layout.micro_batch_size
    compilation = choose_compilation(
        config.compute.xla,
        rows * length * learner.model.flops_per_token(length),
        workers.coordinator is not None,
    )
    step = ReplicaStep(
        learner, workers.strategy, planned.layout, config.loss, config.seed, compilation
    )
    if workers.coordinator is not None:
        return make_coordinated_loop(step, learner, workers.coordinator)
    return make_train_loop(step, workers.strategy)


def _open_report(
    planned: Plan, run: str, start: Start, learner: Learner
) -> Report | None:
    """Opens the metrics of the chief, cut back to where the run is entered."""
    workers, config = planned.workers, planned.config
    if not workers.chief:
        return None
    gpus = tf.config.list_physical_devices("GPU")
    # All logical CPUs of a process share the cores that its peak is measured on.
    devices = planned.layout.num_replicas if gpus else workers.count
    at_once = planned.layout.lanes * planned.layout.num_replicas // workers.count
    peak = config.compute.peak_flops or peak_flops(config.precision.compute, at_once)
    speed = Speed(
        sequence_length=planned.config.sequence_length,
        flops_per_token=learner.model.flops_per_token(planned.config.sequence_length),
        peak_flops=None if peak is None else peak * devices,
    )
    step = start.position.step
    progress = ProgressLine(step, config.loop.last_step, start.elapsed_seconds)
    report = Report(MetricsFiles(run, step), progress, speed)
    if speed.peak_flops is not None:
        report.note(f"mfu is against a peak of {speed.peak_flops / 1e12:.3f} TFLOP/s")
    return report


def _chief_failed() -> WorkError:
    return WorkError(
        "wanted the chief to save the run, found that it could not. See its log; the "
        "same command resumes from the last complete checkpoint"
    )
