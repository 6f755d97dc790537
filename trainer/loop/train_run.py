# SPDX-License-Identifier: Apache-2.0
"""Trains a planned run: claims its directory, enters it, and again after rollbacks."""

import contextlib
import dataclasses
import gc
import time
from collections.abc import Iterator

import tensorflow as tf

from preprocessing.claims.claims import Claim, claimed
from preprocessing.foundation import storage
from preprocessing.foundation.commands import Interrupted, UsageError, count_of
from trainer.data.rows_at_fault import describe
from trainer.distribution.rendezvous import as_lost_peer
from trainer.loop.make_session import make_first_state, make_session
from trainer.loop.plan import RunPlan
from trainer.loop.profiling import ProfileWindow
from trainer.loop.published_start import check_origin
from trainer.loop.run_rows import RunRows, open_rows
from trainer.loop.training_session import Start, Watch
from trainer.machine.interruption import StopRequest, stop_request
from trainer.machine.watchdog import Watchdog
from trainer.published.origin import origin_of
from trainer.run import checkpoint_files, checkpoints
from trainer.run.metrics import is_evaluated, read_lines
from trainer.run.position import Fault, Position, RollBack
from trainer.run.rollback import (
    Rollback,
    omitted_ranges,
    plan_rollback,
    read_rollbacks,
    record,
)
from trainer.run.run_directory import (
    METRICS_NAME,
    check_can_hold,
    check_same,
    is_run,
    read_tokenizer,
    write_run,
)
from trainer.step.train_step import TrainState


def train(
    planned: RunPlan, run: str, max_seconds: float | None, profile: ProfileWindow | None
) -> None:
    """Trains to the last step, in a new directory or from its last checkpoint.

    Args:
        planned: what to train.
        run: the run's directory, local or cloud.
        max_seconds: save and stop after this time; None never does.
        profile: steps to profile.

    Raises:
        UsageError: the directory cannot hold this run, or a shard is not whole.
        WorkError: a row is damaged, a checkpoint cannot be written, or a worker is
            gone.
        Interrupted: saved, and stopped on request.
    """
    limit, clustered = planned.config.loop.watchdog_seconds, planned.workers.clustered
    with (
        stop_request(max_seconds) as request,
        Watchdog(limit, request.sent if clustered else None) as watchdog,
    ):
        if not tf.config.list_physical_devices("GPU"):
            # Resumes are exact on CPUs: without it threads may add up in any order.
            # It costs nothing measurable there (1.03 s of CPU a step of the preset
            # 14m, with and without). On GPUs it does, so they repeat to rounding.
            tf.config.experimental.enable_op_determinism()
        rows = open_rows(planned)
        try:
            # Refused before anything is written there.
            begun = [] if _look(planned, run) else _published_state(planned)
            with _claimed(planned, run, request) as claim:
                watch = Watch(request, watchdog, profile, claim)
                resumes = _begin(planned, run)
                stopped = _train_to_the_end(planned, run, rows, watch, resumes, begun)
        except tf.errors.OpError as error:
            lost = as_lost_peer(error) if planned.workers.clustered else None
            raise lost or error from error
        # Together, and after the chief's last upload: a worker that leaves early looks
        # to the others, and to what launched them, like one that died.
        with contextlib.suppress(tf.errors.OpError):
            # Who left already has been here: this process's part is done and saved.
            planned.workers.total(0)
        if stopped is not None:
            raise stopped


def _train_to_the_end(
    planned: RunPlan,
    run: str,
    rows: RunRows,
    watch: Watch,
    resumes: bool,
    begun: list[TrainState],
) -> Interrupted | None:
    """Enters the run until it ends or is stopped; returns what stopped it.

    `begun` holds what the first session trains, if it is made already, and is emptied.
    """
    while True:
        start = _start(planned, run, resumes, watch)
        state = begun.pop() if begun else None
        session = make_session(planned, run, start, rows, watch, state)
        del state
        try:
            session.run()
            session.finish()
            return None
        except Interrupted as interrupted:
            session.finish()
            return interrupted
        except RollBack as trouble:
            session.finish()
            watch.check_claim()
            session.note(_roll_back(planned, run, rows, trouble.faults))
        finally:
            session.close()
        # The weights of the session that is left make room for those of the next.
        del session
        gc.collect()
        resumes = True


@contextlib.contextmanager
def _claimed(
    planned: RunPlan, run: str, request: StopRequest
) -> Iterator[Claim | None]:
    """Has the chief hold the claim on the run's directory while the block trains.

    Raises:
        UsageError: another process trains there; in all workers.
        Interrupted: the chief was asked to stop while it waited for one that is gone;
            in all workers.
    """

    def pause(seconds: float) -> None:
        time.sleep(seconds)
        reason = request.reason()
        if reason is not None:
            raise Interrupted(f"stopped on {reason} before the first step")

    claim, failure = None, None
    with contextlib.ExitStack() as held:
        if planned.workers.chief:
            try:
                claim = held.enter_context(claimed(run, f"--run {run}", pause=pause))
            except (UsageError, Interrupted) as error:
                failure = error
        stopped = planned.workers.chiefs(int(isinstance(failure, Interrupted)))
        words = planned.workers.chiefs_words("" if failure is None else str(failure))
        if failure is not None:
            raise failure
        if words:
            raise Interrupted(words) if stopped else UsageError(words)
        yield claim


def _look(planned: RunPlan, run: str) -> bool:
    """Checks that the directory may hold this run; returns whether it does already."""
    data = planned.data
    resumes = is_run(run)
    if resumes:
        check_same(run, " and ".join(data.paths), data.hash, planned.config)
        check_origin(run, planned.published, bool(checkpoint_files.steps(run)))
    else:
        check_can_hold(run)
    return resumes


def _begin(planned: RunPlan, run: str) -> bool:
    """Looks once more, now that nobody else writes, and has the chief write its files.

    `loop.stop_after_step` belongs to one invocation and is not kept. Returns whether
    the run was there before.
    """
    config, data, workers = planned.config, planned.data, planned.workers
    tokenizer = read_tokenizer(data.paths[0], data.manifest)
    resumes = _look(planned, run)
    # Every worker has looked by now; the chief writes only after this.
    workers.total(0)
    if workers.chief:
        kept = dataclasses.replace(config.loop, stop_after_step=None)
        stored = dataclasses.replace(config, loop=kept)
        published = None if resumes else planned.published
        origin = None if published is None else origin_of(published)
        write_run(run, stored, data.manifest, tokenizer, data.hash, origin)
    return resumes


def _published_state(planned: RunPlan) -> list[TrainState]:
    """Returns what a new run of published weights trains, none of another.

    Weights are read before anything is written, for they may turn out not to be finite.
    """
    return [] if planned.published is None else [make_first_state(planned)]


def _start(planned: RunPlan, run: str, resumes: bool, watch: Watch) -> Start:
    """Finds where the run is entered; all workers together."""
    workers = planned.workers
    newest, rollbacks = checkpoints.find_newest(run), read_rollbacks(run)
    state, step = newest.state, newest.step
    workers.agree(step, "the last checkpoint's step")
    workers.agree(len(rollbacks), "the run's rollbacks")
    lines = read_lines(storage.join(run, METRICS_NAME))
    # The chief wrote the metrics; another host may still be shown an older file.
    evaluated = bool(workers.chiefs(int(is_evaluated(lines, step))))
    if workers.chief:
        watch.check_claim()
        for damaged in newest.damaged:
            checkpoint_files.set_aside(run, damaged.step)
    position = Position() if state is None else state.position
    if rollbacks and rollbacks[-1].to_step == step:
        # What led to the rollback is dealt with and must not lead to another.
        position = dataclasses.replace(position, faults=())
    resuming = [f"resuming {run} at step {step:,}"] if resumes else []
    return Start(
        position,
        0.0 if state is None else state.elapsed_seconds,
        evaluated,
        omitted_ranges(rollbacks),
        [*newest.notes, *resuming],
    )


def _roll_back(
    planned: RunPlan, run: str, rows: RunRows, faults: tuple[Fault, ...]
) -> str:
    """Goes back to a checkpoint and leaves rows out; returns a sentence on it.

    Later checkpoints are removed first: a process killed in between resumes from an
    earlier one and comes here again.
    """
    workers, config = planned.workers, planned.config.guard
    steps, rollbacks = checkpoint_files.steps(run), read_rollbacks(run)
    target = plan_rollback(faults, steps, rollbacks, config)
    workers.agree(target, "the step to roll back to")
    consumed = 0
    if target:
        consumed = checkpoint_files.read_state(run, target).position.rows_consumed
    ranges = [(f.first_row, f.end_row) for f in faults if f.first_row >= consumed]
    if workers.chief:
        for step in reversed([step for step in steps if step > target]):
            checkpoint_files.remove(run, step)
        described = [
            row
            for first, end in ranges
            for row in describe(rows.training, rows.order, first, end)
        ]
        record(run, Rollback(target, tuple(ranges)), described)
    workers.total(0)
    omitted = sum(end - first for first, end in ranges)
    return (
        f"{count_of(len(faults), 'skipped update')} from step {faults[0].step:,} to "
        f"{faults[-1].step:,}: going back to step {target:,} and leaving out "
        f"{count_of(omitted, 'row')}, named in {storage.join(run, 'omitted.jsonl')}"
    )
