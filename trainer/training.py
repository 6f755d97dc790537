# SPDX-License-Identifier: Apache-2.0
"""Wires a planned run together: builds or restores it and gives the loop its parts."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import tensorflow as tf

from preprocessing import byte_level, storage
from preprocessing.commands import Interrupted
from preprocessing.manifest import TOKENIZER_NAME
from trainer import checkpoints, loop
from trainer.evaluation import byte_counts, make_evaluate, source_names
from trainer.input_pipeline import Block, SubRows, TrainingRows
from trainer.interruption import StopRequest, stop_request
from trainer.loop import InnerLoop, Interval, Parts, Position
from trainer.metrics import MetricsFiles, Speed, is_evaluated, read_lines
from trainer.models.model import LanguageModel, build_model
from trainer.optimizers import Optimizer
from trainer.peak_flops import peak_flops
from trainer.plan import Plan
from trainer.progress import ProgressLine
from trainer.report import Report
from trainer.run_directory import (
    METRICS_NAME,
    check_can_hold,
    check_same,
    is_run,
    read_tokenizer,
    write_run,
)
from trainer.train_step import make_train_loop


@dataclass(frozen=True)
class _Start:
    """Where a run is entered.

    Attributes:
        position: of the last complete checkpoint, or the beginning.
        evaluated: whether that step's evaluation is written already.
        resumes: whether the directory held the run before.
    """

    position: Position
    evaluated: bool
    resumes: bool


def train(planned: Plan, run: str, max_seconds: float | None) -> None:
    """Trains to the last step, in a new directory or from its last checkpoint.

    Args:
        planned: what to train.
        run: the run's directory, local or cloud.
        max_seconds: save and stop after this time; None never does.

    Raises:
        UsageError: the directory cannot hold this run, or a shard is not whole.
        WorkError: a row is damaged, or a checkpoint cannot be written.
        Interrupted: saved, and stopped on request.
    """
    with stop_request(max_seconds) as request:
        if not tf.config.list_physical_devices("GPU"):
            # Resumes are exact on CPUs: without it threads may add up in any order.
            # It costs nothing measurable there (1.03 s of CPU a step of the preset
            # 14m, with and without). On GPUs it does, so they repeat to rounding.
            tf.config.experimental.enable_op_determinism()
        rows = _rows(planned, "train")
        validation = _rows(planned, "validation")
        stream = _stream(planned, rows)
        start = _claim(planned, run)
        session = _Session(planned, run, start, validation, request)
        stopped = None
        try:
            session.run(stream)
        except Interrupted as interrupted:
            stopped = interrupted
        finally:
            session.close()
        # Together, and after the chief's last upload: a worker that leaves early looks
        # to the others, and to what launched them, like one that died.
        planned.workers.total(0)
        if stopped is not None:
            raise stopped


def _rows(planned: Plan, split: str) -> SubRows:
    return SubRows(planned.dataset, planned.manifest, split, planned.sequence_length)


def _stream(planned: Plan, rows: SubRows) -> TrainingRows:
    workers, config = planned.workers, planned.config
    batch = config.data.global_batch_size
    return TrainingRows(rows, batch, config.seed, workers.index, workers.count)


def _claim(planned: Plan, run: str) -> _Start:
    """Checks that the directory may hold this run, writes its files, finds the start.

    `loop.stop_after_step` belongs to one invocation and is not kept.
    """
    config, manifest, workers = planned.config, planned.manifest, planned.workers
    tokenizer = read_tokenizer(planned.dataset, manifest)
    resumes = is_run(run)
    if resumes:
        check_same(run, planned.dataset, manifest, config)
    else:
        check_can_hold(run)
    found = checkpoints.steps(run)
    position = checkpoints.read_state(run, found[-1]).position if found else Position()
    lines = read_lines(storage.join(run, METRICS_NAME))
    # Every worker has looked by now; the chief writes only after this.
    workers.agree(position.step, "the last checkpoint's step")
    # The chief wrote the metrics; another host may still be shown an older file.
    evaluated = bool(workers.chiefs(int(is_evaluated(lines, position.step))))
    if workers.chief:
        kept = dataclasses.replace(config.loop, stop_after_step=None)
        write_run(run, dataclasses.replace(config, loop=kept), manifest, tokenizer)
    return _Start(position, evaluated, resumes)


class _Session:
    """One invocation's model, optimizer and files: the loop's parts are its methods."""

    def __init__(
        self,
        planned: Plan,
        run: str,
        start: _Start,
        validation: SubRows,
        request: StopRequest,
    ) -> None:
        """Builds the model and optimizer, restored if the run has a checkpoint."""
        self._planned, self._run, self._start = planned, run, start
        self._validation, self._request = validation, request
        config, workers = planned.config, planned.workers
        with workers.strategy.scope():
            self._model = build_model(
                config.model, planned.manifest.vocab_size, config.precision, config.seed
            )
            optimizer = Optimizer(
                self._model.trainable_variables,
                config.optimizer,
                config.loop.total_steps,
            )
        self._modules: Mapping[str, tf.Module] = {
            "model": self._model,
            "optimizer": optimizer,
        }
        if start.position.step:
            checkpoints.restore(run, start.position.step, self._modules)
        self._train_loop = make_train_loop(
            self._model,
            optimizer,
            workers.strategy,
            global_batch_size=planned.layout.global_batch_size,
            micro_batch_size=planned.layout.micro_batch_size,
            seed=config.seed,
        )
        self._evaluate = make_evaluate(
            self._model,
            workers,
            byte_counts(storage.join(run, TOKENIZER_NAME), planned.manifest),
            planned.layout.micro_batch_size * planned.layout.num_replicas,
            source_names(planned.manifest, "validation"),
        )
        self._report = _open_report(planned, run, start, self._model)

    def run(self, stream: TrainingRows) -> None:
        """Trains to the last step of this invocation."""
        config, position = self._planned.config.loop, self._start.position
        parts = Parts(
            train=self.train,
            write_line=self.write_line,
            save=self.save,
            evaluate=self.evaluate,
            stop_requested=self.stop_requested,
        )
        self._note_start()
        lengths = loop.inner_loops(config, position.step)
        blocks = stream.blocks(position.rows_consumed, lengths)
        try:
            loop.run(config, position, blocks, parts)
        finally:
            blocks.close()

    def train(self, block: Block) -> InnerLoop:
        """Runs the steps of one block."""
        metrics = self._train_loop(block.features, block.num_steps)
        return InnerLoop(
            nats=metrics.loss_sum.numpy(),
            weights=metrics.weight_sum.numpy(),
            gradient_norms=metrics.gradient_norm.numpy(),
            learning_rates=metrics.learning_rate.numpy(),
            skipped=metrics.skipped.numpy(),
        )

    def write_line(self, interval: Interval) -> None:
        """Writes one line of metrics, if this is the chief."""
        if self._report is not None:
            self._report.training(interval)

    def save(self, position: Position) -> None:
        """Writes a checkpoint."""
        checkpoints.save(
            self._run,
            checkpoints.State(
                position, self._planned.manifest.dataset_hash, self._planned.config.seed
            ),
            self._modules,
            self._planned.workers.chief,
            self._planned.config.loop.keep_last,
        )
        if self._report is not None:
            self._report.publish()

    def evaluate(self, step: int) -> None:
        """Evaluates on the validation split, unless that was done before a restart."""
        start = self._start
        done = start.evaluated and step == start.position.step
        if done or not self._validation.num_rows:
            return

        def stop_if_asked() -> None:
            reason = self.stop_requested()
            if reason is not None:
                raise Interrupted(
                    f"saved at step {step} and stopped on {reason} while evaluating; "
                    "the same command resumes"
                )

        result = self._evaluate(self._validation, stop_if_asked)
        if self._report is not None:
            self._report.evaluation(step, result)
            self._report.publish()

    def stop_requested(self) -> str | None:
        """Returns why all workers stop now, or None."""
        reason = self._request.reason()
        if not self._planned.workers.total(int(reason is not None)):
            return None
        return reason or "another worker's request"

    def close(self) -> None:
        """Writes out what is buffered."""
        if self._report is not None:
            self._report.close()

    def _note_start(self) -> None:
        if self._report is None:
            return
        step, config = self._start.position.step, self._planned.config.loop
        if self._start.resumes:
            self._report.note(f"resuming {self._run} at step {step:,}")
        if step >= config.last_step:
            self._report.note(f"step {config.last_step:,} is already done")
        if not self._validation.num_rows:
            self._report.note("no validation rows: the run will not be evaluated")
        path = storage.join(self._run, TOKENIZER_NAME)
        found = byte_level.parse(storage.read_bytes(path), path).beyond_graphs
        if found is not None:
            self._report.note(
                "quern-export will refuse this run: no graph can reproduce this of "
                f"its tokenizer: {found}"
            )


def _open_report(
    planned: Plan, run: str, start: _Start, model: LanguageModel
) -> Report | None:
    """Opens the metrics of the chief, cut back to where the run is entered."""
    workers, config = planned.workers, planned.config
    if not workers.chief:
        return None
    gpus = tf.config.list_physical_devices("GPU")
    # All logical CPUs of a process share the cores that its peak is measured on.
    devices = planned.layout.num_replicas if gpus else workers.count
    peak = config.loop.peak_flops or peak_flops(config.precision.compute)
    speed = Speed(
        sequence_length=planned.sequence_length,
        flops_per_token=model.flops_per_token(planned.sequence_length),
        peak_flops=None if peak is None else peak * devices,
    )
    step = start.position.step
    report = Report(
        MetricsFiles(run, step), ProgressLine(step, config.loop.last_step), speed
    )
    if speed.peak_flops is not None:
        report.note(f"mfu is against a peak of {speed.peak_flops / 1e12:.3f} TFLOP/s")
    return report
