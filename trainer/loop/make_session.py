# SPDX-License-Identifier: Apache-2.0
"""Builds a training session: its model, step, evaluation and files."""

from collections.abc import Callable, Mapping
from functools import partial

import tensorflow as tf

from preprocessing.contracts.manifest import TOKENIZER_NAME
from preprocessing.foundation import storage
from preprocessing.tokenizer import byte_level
from preprocessing.tokenizer.tokenizer import Tokenizer
from trainer.compute.compilation import (
    Compilation,
    choose_compilation,
    choose_for_evaluation,
)
from trainer.compute.peak_flops import peak_flops
from trainer.data.training_rows import TrainingRows
from trainer.data.usual_segments import usual_segments
from trainer.distribution.coordinator import make_coordinated_loop
from trainer.loop.evaluate_rows import byte_counts, make_evaluate
from trainer.loop.plan import RunPlan
from trainer.loop.progress import ProgressLine
from trainer.loop.published_start import check_origin
from trainer.loop.report import Report
from trainer.loop.run_rows import RunRows
from trainer.loop.samples import Sample, make_sampler
from trainer.loop.training_session import (
    Chief,
    Evaluate,
    SessionParts,
    Start,
    TrainingSession,
    Watch,
)
from trainer.models.language_model import RowShape
from trainer.models.model import build_model
from trainer.models.parts.fused_attention import gpu_has_fused_attention
from trainer.published.published_model import build_published
from trainer.run import checkpoints
from trainer.run.checkpoint_writer import CheckpointWriter
from trainer.run.metrics import MetricsFiles, Speed
from trainer.run.retention import kept_steps
from trainer.run.run_directory import restore_tokenizer
from trainer.step.train_step import (
    ReplicaStep,
    TrainLoop,
    TrainState,
    make_train_loop,
    make_train_state,
)


def make_session(
    planned: RunPlan,
    run: str,
    start: Start,
    rows: RunRows,
    watch: Watch,
    state: TrainState | None = None,
) -> TrainingSession:
    """Returns a session of a run, its model and optimizer restored if it has any.

    Args:
        planned: what to train.
        run: the run's directory.
        start: where it is entered.
        rows: what it reads.
        watch: what looks over it.
        state: what it trains as it begins, where that is made already.
    """
    workers = planned.workers
    if state is None:
        check_origin(run, planned.published, bool(start.position.step))
        state = make_first_state(planned, start.position.step)
    modules: Mapping[str, tf.Module] = {
        "model": state.model,
        "optimizer": state.optimizer,
        "guard": state.guard,
    }
    if start.position.step:
        checkpoints.restore(run, start.position.step, modules)
    tokenizer = restore_tokenizer(
        storage.join(run, TOKENIZER_NAME), planned.data.manifest
    )
    stream = TrainingRows(
        rows.training,
        rows.order,
        planned.config.data.batch_schedule,
        workers.index,
        workers.count,
        start.omitted,
    )
    compilation = _compilation(planned, state)
    usual = _usual_segments(planned, rows, compilation)
    train = _make_train_loop(planned, state, compilation, usual)
    evaluate = _make_evaluate(planned, state, tokenizer, rows)
    chief = None
    if workers.chief:
        chief = Chief(
            report=_open_report(planned, run, start, state, watch),
            writer=CheckpointWriter(
                run,
                modules,
                partial(kept_steps, run, planned.config.loop),
                check=watch.check_claim,
            ),
            sample=_make_sampler(planned, state, tokenizer, rows),
            notes=[
                *start.notes,
                *_notes(planned, start, rows, tokenizer),
                *_remark(planned, compilation, usual),
            ],
        )
    parts = SessionParts(stream, train, evaluate, chief)
    return TrainingSession(planned, start, watch, parts)


def make_first_state(planned: RunPlan, step: int = 0) -> TrainState:
    """Returns what a run trains as it begins: drawn, or read of published weights.

    Args:
        planned: what to train.
        step: after which the run is entered; beyond 0 a checkpoint has the weights.

    Raises:
        UsageError: published weights are not finite.
    """
    config, published = planned.config, planned.published
    with planned.workers.strategy.scope():
        if published is not None and not step:
            model = build_published(published, config.precision, config.model)
        else:
            model = build_model(
                config.model,
                planned.data.manifest.vocab_size,
                config.precision,
                config.seed,
            )
        return make_train_state(
            model, config.optimizer, config.guard, config.loop.total_steps
        )


def _compilation(planned: RunPlan, state: TrainState) -> Compilation:
    """Returns what of a step is compiled."""
    length = planned.config.sequence_length
    tokens = planned.layout.micro_batch_size * length
    return choose_compilation(
        planned.config.compute.xla,
        tokens * state.model.flops_per_token(length),
        planned.workers.coordinator is not None,
    )


def _usual_segments(
    planned: RunPlan, rows: RunRows, compilation: Compilation
) -> int | None:
    """Returns the segments of usual rows, where knowing them makes a step faster."""
    if compilation is not Compilation.WHOLE or not gpu_has_fused_attention():
        return None
    size = planned.layout.micro_batch_size
    return max(usual_segments(each, size) for each in rows.training)


def _make_train_loop(
    planned: RunPlan, state: TrainState, compilation: Compilation, usual: int | None
) -> TrainLoop:
    config, workers = planned.config, planned.workers
    step = ReplicaStep(
        state,
        workers.strategy,
        planned.layout,
        config.loss,
        config.seed,
        compilation,
        usual,
    )
    if workers.coordinator is not None:
        return make_coordinated_loop(step, state, workers.coordinator)
    return make_train_loop(step, workers.strategy)


def _remark(planned: RunPlan, compilation: Compilation, usual: int | None) -> list[str]:
    """Returns what a model's family says of how rows are computed, if anything."""
    config, manifest = planned.config, planned.data.manifest
    most = usual or manifest.max_segments + 1
    prefixes = "prefix_lengths" in manifest.features
    rows = RowShape(config.sequence_length, most, prefixes)
    with compilation.tracing():
        said = config.model.remark(tf.as_dtype(config.precision.compute), rows)
    return [] if said is None else [said]


def _make_evaluate(
    planned: RunPlan, state: TrainState, tokenizer: Tokenizer, rows: RunRows
) -> Evaluate | None:
    """Returns what evaluates on the validation split; None if that has no rows."""
    if not rows.validation.num_rows:
        return None
    evaluate = make_evaluate(
        state.evaluated,
        planned.workers,
        planned.layout,
        byte_counts(tokenizer),
        rows.sources,
        choose_for_evaluation(planned.config.compute.xla),
    )
    return partial(evaluate, rows.validation)


def _make_sampler(
    planned: RunPlan, state: TrainState, tokenizer: Tokenizer, rows: RunRows
) -> Callable[[], list[Sample]]:
    """Returns what continues texts after an evaluation, if any are asked for."""
    config = planned.config
    if not config.samples.count or not rows.validation.num_rows:
        return list
    return make_sampler(
        state.evaluated, tokenizer, rows.validation, config.samples, config.seed
    )


def _open_report(
    planned: RunPlan, run: str, start: Start, state: TrainState, watch: Watch
) -> Report:
    """Opens the metrics, cut back to where the run is entered."""
    workers, config = planned.workers, planned.config
    gpus = tf.config.list_physical_devices("GPU")
    # All logical CPUs of a process share the cores that its peak is measured on.
    devices = planned.layout.num_replicas if gpus else workers.count
    at_once = planned.layout.lanes * planned.layout.num_replicas // workers.count
    peak = config.compute.peak_flops or peak_flops(config.precision.compute, at_once)
    speed = Speed(
        sequence_length=config.sequence_length,
        flops_per_token=state.model.flops_per_token(config.sequence_length),
        peak_flops=None if peak is None else peak * devices,
    )
    step = start.position.step
    progress = ProgressLine(step, config.loop.last_step, start.elapsed_seconds)
    report = Report(MetricsFiles(run, step, watch.check_claim), progress, speed)
    if speed.peak_flops is not None:
        report.note(f"mfu is against a peak of {speed.peak_flops / 1e12:.3f} TFLOP/s")
    return report


def _notes(
    planned: RunPlan, start: Start, rows: RunRows, tokenizer: Tokenizer
) -> list[str]:
    """Returns what people should know before the first step."""
    notes, last = list[str](), planned.config.loop.last_step
    if planned.published is not None and not start.position.step:
        described = planned.published.config
        notes.append(
            f"begins with the weights in {described.directory}, of the family "
            f"{described.kind.model_type}"
        )
        notes += described.notes
    if start.position.step >= last:
        notes.append(f"step {last:,} is already done")
    if not rows.validation.num_rows:
        notes.append("no validation rows: the run will not be evaluated")
    notes += _remark_on_schedule(planned, start.position.step)
    bpe = byte_level.parse(tokenizer.json_bytes, TOKENIZER_NAME)
    if bpe.beyond_graphs is not None:
        notes.append(
            "quern-export will refuse this run: no graph can reproduce this of "
            f"its tokenizer: {bpe.beyond_graphs}"
        )
    if bpe.text_tokens and not planned.data.manifest.honours_text_tokens:
        notes.append(
            "quern-export will refuse this run: its dataset is of an older Quern, "
            "which encoded its tokenizer's added tokens as other text. Prepare it again"
        )
    return notes


def _remark_on_schedule(planned: RunPlan, step: int) -> list[str]:
    """Says what becomes of the learning rate where a resume changed the run's end."""
    before, config = planned.total_steps_before, planned.config
    now = config.loop.total_steps
    if not step or before is None or before == now:
        return []
    was, becomes = (config.optimizer.rate_of(step, total) for total in (before, now))
    schedule = config.optimizer.schedule
    if was == becomes:
        found = f"{schedule} goes on at {becomes:.4g} as before"
    else:
        found = (
            f"{schedule} goes on as if it always had: at {becomes:.4g}, not {was:.4g}"
        )
    return [
        f"resuming with loop.total_steps {now:,} in place of {before:,}: the learning "
        f"rate of optimizer.schedule {found}"
    ]
