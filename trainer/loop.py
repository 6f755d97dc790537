# SPDX-License-Identifier: Apache-2.0
"""The outer loop: steps, clocks and checkpoints, and nothing of the model.

It drives five callables. Each inner loop is one compiled call of many steps, and ends
where a line, a checkpoint or an evaluation is due. At such a step the order is line,
checkpoint, evaluation: a model is never lost to an evaluation that fails, and a run
resumed from the checkpoint finds the line already written.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from preprocessing.commands import Interrupted, UsageError
from trainer.input_pipeline import Block


@dataclass(frozen=True)
class LoopConfig:
    """When a run logs, evaluates, saves and ends; the only keys a resume may change.

    Attributes:
        total_steps: steps of the whole run; the learning rate schedule ends here.
        stop_after_step: stop, saved, once this step is done; None runs to the end.
        log_every: steps between lines of metrics.
        evaluate_every: steps between evaluations; 0 evaluates at the end only.
        save_every: steps between checkpoints; one also precedes each evaluation.
        keep_last: checkpoints kept.
        steps_per_loop: most steps of one compiled call. A signal is noticed between
            two calls.
        peak_flops: FLOP/s of one device that `mfu` is measured against; None takes
            the device's published or measured peak.
    """

    total_steps: int = 1000
    stop_after_step: int | None = None
    log_every: int = 10
    evaluate_every: int = 500
    save_every: int = 500
    keep_last: int = 3
    steps_per_loop: int = 10
    peak_flops: float | None = None

    def __post_init__(self) -> None:
        positive = ("total_steps", "log_every", "save_every", "keep_last")
        for name in (*positive, "steps_per_loop", "stop_after_step", "peak_flops"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"wanted loop.{name} above 0, found {value}. Raise it")
        if self.evaluate_every < 0:
            raise UsageError(
                "wanted loop.evaluate_every of 0 or more, found "
                f"{self.evaluate_every}. Use 0 to evaluate at the end only"
            )

    @property
    def last_step(self) -> int:
        """The step after which this invocation is done."""
        if self.stop_after_step is None:
            return self.total_steps
        return min(self.total_steps, self.stop_after_step)

    def line_due(self, step: int) -> bool:
        """Tells whether a line of metrics is written after `step`."""
        return step % self.log_every == 0 or step == self.total_steps

    def evaluation_due(self, step: int) -> bool:
        """Tells whether the model is evaluated after `step`.

        Stopping at `stop_after_step` is not such a step: a run in two parts writes
        the lines of a run in one.
        """
        at_interval = self.evaluate_every and step % self.evaluate_every == 0
        return step > 0 and bool(at_interval or step == self.total_steps)

    def save_due(self, step: int) -> bool:
        """Tells whether a checkpoint is written after `step`."""
        at_interval = step % self.save_every == 0
        return at_interval or step == self.last_step or self.evaluation_due(step)


@dataclass(frozen=True)
class Position:
    """Where a run stands; with weights and moments, all a resume needs.

    Attributes:
        step: optimizer steps done.
        rows_consumed: rows of the training stream read.
        nats: cross-entropy summed over the targets since the last line of metrics.
        weight: those targets.
    """

    step: int = 0
    rows_consumed: int = 0
    nats: float = 0.0
    weight: float = 0.0


@dataclass(frozen=True)
class InnerLoop:
    """What an inner loop gives back, each [steps], float32.

    Attributes:
        nats: cross-entropy summed over the step's targets.
        weights: number of those targets.
        gradient_norms: before clipping.
        learning_rates: of the update.
        skipped: 1 where the update was skipped since it was not finite, else 0; such
            a step's nats are no part of a line's loss.
    """

    nats: np.ndarray
    weights: np.ndarray
    gradient_norms: np.ndarray
    learning_rates: np.ndarray
    skipped: np.ndarray


@dataclass(frozen=True)
class Interval:
    """What happened since the last line of metrics; times are of this process."""

    step: int
    nats: float
    weight: float
    gradient_norm: float
    learning_rate: float
    rows: int
    seconds: float
    wait_seconds: float
    skipped: int


@dataclass(frozen=True)
class Parts:
    """The collaborators of the loop.

    Attributes:
        train: runs the steps of one block.
        write_line: writes one line of metrics.
        save: writes a checkpoint at a position.
        evaluate: evaluates after a step and writes the result; does nothing where
            that step's result is already written.
        stop_requested: why all processes must stop now, or None; called once between
            two inner loops by every process.
    """

    train: Callable[[Block], InnerLoop]
    write_line: Callable[[Interval], None]
    save: Callable[[Position], None]
    evaluate: Callable[[int], None]
    stop_requested: Callable[[], str | None]


def inner_loops(config: LoopConfig, step: int) -> Iterator[int]:
    """Yields the steps of each inner loop from `step` to the end of the invocation."""
    while step < config.last_step:
        end = min(step + config.steps_per_loop, config.last_step)
        for interval in (config.log_every, config.save_every, config.evaluate_every):
            if interval:
                end = min(end, step - step % interval + interval)
        yield end - step
        step = end


def run(
    config: LoopConfig, position: Position, blocks: Iterable[Block], parts: Parts
) -> Position:
    """Trains from `position` to the last step and returns where the run stands.

    Args:
        config: when to do what.
        position: where the run stands; not step 0 if it resumes.
        blocks: the rows of each of `inner_loops(config, position.step)`.
        parts: what does the work.

    Raises:
        Interrupted: a stop was requested; the run is saved.
    """
    if config.evaluation_due(position.step):
        parts.evaluate(position.step)  # The run ended between saving and evaluating.
    interval = _begin(position)
    began = time.perf_counter()
    for block in blocks:
        result = parts.train(block)
        position = _advanced(position, block, result)
        seconds = time.perf_counter() - began
        interval = _extended(interval, position, block, result, seconds)
        reason = parts.stop_requested()
        if config.line_due(position.step):
            parts.write_line(interval)
            position = replace(position, nats=0.0, weight=0.0)
            interval = _begin(position)
        if reason is not None or config.save_due(position.step):
            parts.save(position)
        if reason is not None:
            raise Interrupted(
                f"saved at step {position.step} and stopped on {reason}; the same "
                "command resumes"
            )
        if config.evaluation_due(position.step):
            parts.evaluate(position.step)
        began = time.perf_counter()
    return position


def _advanced(position: Position, block: Block, result: InnerLoop) -> Position:
    """Returns the position after one inner loop.

    Steps are added one by one in float64, so the sums do not depend on where inner
    loops begin and end.
    """
    nats, weight = position.nats, position.weight
    for index in np.flatnonzero(result.skipped == 0):
        nats += float(result.nats[index])
        weight += float(result.weights[index])
    if len(result.nats) != block.num_steps:
        raise RuntimeError(
            f"wanted {block.num_steps} steps of an inner loop, {len(result.nats)} done"
        )
    return Position(
        step=position.step + block.num_steps,
        rows_consumed=block.end_row,
        nats=nats,
        weight=weight,
    )


def _begin(position: Position) -> Interval:
    """Returns an empty interval that carries the sums a checkpoint held."""
    return Interval(
        position.step, position.nats, position.weight, 0.0, 0.0, 0, 0.0, 0.0, 0
    )


def _extended(
    interval: Interval,
    position: Position,
    block: Block,
    result: InnerLoop,
    seconds: float,
) -> Interval:
    return Interval(
        step=position.step,
        nats=position.nats,
        weight=position.weight,
        gradient_norm=float(result.gradient_norms[-1]),
        learning_rate=float(result.learning_rates[-1]),
        rows=interval.rows + block.num_rows,
        seconds=interval.seconds + seconds,
        wait_seconds=interval.wait_seconds + block.wait_seconds,
        skipped=interval.skipped + int(result.skipped.sum()),
    )
