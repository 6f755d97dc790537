# SPDX-License-Identifier: Apache-2.0
"""The outer loop: steps, clocks and checkpoints, and nothing of the model.

It calls five functions. Each inner loop is one compiled call of many steps, and ends
where a line, a checkpoint or an evaluation is due. At such a step the order is line,
checkpoint, evaluation: a model is never lost to an evaluation that fails, and a run
resumed from the checkpoint finds the line already written.

Too many skipped updates end it with `RollBack`, which the caller answers by entering
the run again at an earlier checkpoint, with the rows at fault left out.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from preprocessing.foundation.commands import Interrupted
from trainer.data.training_rows import RowBlock
from trainer.run.interval import Interval
from trainer.run.loop_config import LoopConfig
from trainer.run.position import Fault, Position, RollBack
from trainer.step.guard import OVERFLOW, SPIKE, GuardConfig, faults
from trainer.step.step_metrics import StepMetrics


@dataclass(frozen=True)
class LoopCallbacks:
    """What the loop calls.

    Attributes:
        train: runs the steps of one block.
        write_line: writes one line of metrics.
        save: writes a checkpoint at a position.
        evaluate: evaluates after a step and writes the result; does nothing where
            that step's result is already written.
        stop_requested: why all processes must stop now, or None; called once between
            two inner loops by every process.
    """

    train: Callable[[RowBlock], StepMetrics[np.ndarray]]
    write_line: Callable[[Interval], None]
    save: Callable[[Position], None]
    evaluate: Callable[[int], None]
    stop_requested: Callable[[], str | None]


def inner_loops(
    config: LoopConfig,
    step: int,
    constant_until: Callable[[int], int | None],
    borders: Sequence[int] = (),
) -> Iterator[int]:
    """Yields the steps of each inner loop from `step` to the end of the invocation.

    Args:
        config: when something is due.
        step: steps done.
        constant_until: the step until which batches stay as large as that of a step;
            None for ever.
        borders: further steps at which an inner loop ends.
    """
    while step < config.last_step:
        end = min(step + config.steps_per_loop, config.last_step)
        for interval in (config.log_every, config.save_every, config.evaluate_every):
            if interval:
                end = min(end, step - step % interval + interval)
        changes = constant_until(step)
        if changes is not None:
            end = min(end, changes)
        end = min([end, *(border for border in borders if border > step)])
        yield end - step
        step = end


def run(
    config: LoopConfig,
    guard: GuardConfig,
    position: Position,
    blocks: Iterable[RowBlock],
    callbacks: LoopCallbacks,
) -> Position:
    """Trains from `position` to the last step and returns where the run stands.

    Args:
        config: when to do what.
        guard: how many updates may be skipped.
        position: where the run stands; not step 0 if it resumes.
        blocks: the rows of each of `inner_loops` from there.
        callbacks: what does the work.

    Raises:
        Interrupted: a stop was requested; the run is saved.
        RollBack: too many updates were skipped; nothing was saved for it.
    """
    if config.evaluation_due(position.step):
        callbacks.evaluate(
            position.step
        )  # The run ended between saving and evaluating.
    interval = _begin(position)
    began = time.perf_counter()
    for block in blocks:
        result = callbacks.train(block)
        position = _advanced(guard, position, block, result)
        seconds = time.perf_counter() - began
        interval = _extended(interval, position, block, result, seconds)
        reason = callbacks.stop_requested()
        if config.line_due(position.step):
            callbacks.write_line(interval)
            position = replace(position, loss_sum=0.0, weight_sum=0.0)
            interval = _begin(position)
        if reason is not None or config.save_due(position.step):
            callbacks.save(position)
        if reason is not None:
            raise Interrupted(
                f"saved at step {position.step} and stopped on {reason}; the same "
                "command resumes"
            )
        if config.evaluation_due(position.step):
            callbacks.evaluate(position.step)
        began = time.perf_counter()
    return position


def _advanced(
    guard: GuardConfig,
    position: Position,
    block: RowBlock,
    result: StepMetrics[np.ndarray],
) -> Position:
    """Returns the position after one inner loop.

    Steps are added one by one in float64, so the sums do not depend on where inner
    loops begin and end.

    Raises:
        RollBack: more updates were skipped than the budget allows.
    """
    loss_sum, weight_sum = position.loss_sum, position.weight_sum
    for index in np.flatnonzero(result.skipped == 0):
        loss_sum += float(result.loss_sum[index])
        weight_sum += float(result.weight_sum[index])
    done = len(result.loss_sum)
    if done != block.num_steps:
        raise RuntimeError(
            f"wanted {block.num_steps} steps of an inner loop, {done} done"
        )
    firsts = [block.first_row, *block.step_ends.tolist()]
    recent = position.faults
    for index in faults(result.skipped):
        step = position.step + index + 1
        fault = Fault(step, firsts[index], firsts[index + 1])
        recent = (*(f for f in recent if f.step > step - guard.window), fault)
        # Judged fault by fault: it must not matter where inner loops end.
        if len(recent) > guard.skip_budget:
            raise RollBack(recent)
    step = position.step + block.num_steps
    return Position(step, block.end_row, loss_sum, weight_sum, recent)


def _begin(position: Position) -> Interval:
    """Returns an empty interval that carries the sums a checkpoint held."""
    return Interval(position.step, position.loss_sum, position.weight_sum)


def _extended(
    interval: Interval,
    position: Position,
    block: RowBlock,
    result: StepMetrics[np.ndarray],
    seconds: float,
) -> Interval:
    def count(reason: int) -> int:
        return int((result.skipped == reason).sum())

    return Interval(
        step=position.step,
        loss_sum=position.loss_sum,
        weight_sum=position.weight_sum,
        gradient_norm=float(result.gradient_norm[-1]),
        learning_rate=float(result.learning_rate[-1]),
        loss_scale=float(result.loss_scale[-1]),
        rows=interval.rows + block.num_rows,
        seconds=interval.seconds + seconds,
        wait_seconds=interval.wait_seconds + block.wait_seconds,
        skipped=interval.skipped + int((result.skipped != 0).sum()),
        spikes=interval.spikes + count(SPIKE),
        overflows=interval.overflows + count(OVERFLOW),
    )
