# SPDX-License-Identifier: Apache-2.0
"""The outer loop: steps, clocks and checkpoints, and nothing of the model.

It drives five callables. Each inner loop is one compiled call of many steps, and ends
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

from preprocessing.commands import Interrupted, UsageError, suggest
from trainer.guard import OVERFLOW, SPIKE, GuardConfig, faults
from trainer.training_rows import Block

XLA = ("auto", "none", "parts", "whole")


@dataclass(frozen=True)
class LoopConfig:
    """When a run logs, evaluates, saves and ends; the only keys a resume may change.

    Attributes:
        total_steps: steps of the whole run; the learning rate schedule ends here.
        stop_after_step: stop, saved, once this step is done; None runs to the end.
        log_every: steps between lines of metrics.
        evaluate_every: steps between evaluations; 0 evaluates at the end only.
        save_every: steps between checkpoints; one also precedes each evaluation.
        keep_last: newest checkpoints kept.
        keep_every: checkpoints at multiples of this step are kept as well; 0 is none.
        keep_best: checkpoints of the lowest validation loss kept as well.
        steps_per_loop: most steps of one compiled call. A signal is noticed between
            two calls.
        num_samples: texts that the model continues after each evaluation, for
            TensorBoard; 0 is none.
        sample_tokens: tokens of each continuation.
        watchdog_seconds: ends the process if nothing happens for this time; 0 never
            does. It has to be longer than the longest save, evaluation batch or
            compilation.
        xla: what of a step XLA compiles: "none"; "parts", what lies between matrix
            products, for CPUs (`trainer.fusion`); "whole", all that a device does
            alone. "auto" is whole on GPUs and TPUs, and on CPUs parts where a step is
            long enough to repay some seconds of compilation.
        lanes: slices of a micro-batch that a CPU computes side by side, each on its
            share of the cores (`trainer.lanes`); they divide its rows. 0 chooses: on
            CPUs as many as cores where a step is long enough, else 1.
        peak_flops: FLOP/s of one device that `mfu` is measured against; None takes
            the device's published or measured peak.
    """

    total_steps: int = 1000
    stop_after_step: int | None = None
    log_every: int = 10
    evaluate_every: int = 500
    save_every: int = 500
    keep_last: int = 3
    keep_every: int = 0
    keep_best: int = 1
    steps_per_loop: int = 10
    num_samples: int = 3
    sample_tokens: int = 32
    watchdog_seconds: float = 1800.0
    xla: str = "auto"
    lanes: int = 0
    peak_flops: float | None = None

    def __post_init__(self) -> None:
        positive = ("total_steps", "log_every", "save_every", "keep_last")
        more = ("steps_per_loop", "stop_after_step", "sample_tokens", "peak_flops")
        for name in (*positive, *more):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"wanted loop.{name} above 0, found {value}. Raise it")
        if self.xla not in XLA:
            raise UsageError(
                f"wanted loop.xla to be one of {', '.join(XLA)}, found {self.xla!r}."
                f"{suggest(self.xla, XLA)} Choose one"
            )
        for name in ("evaluate_every", "keep_every", "keep_best", "num_samples"):
            self._check_not_negative(name)
        self._check_not_negative("watchdog_seconds")
        if self.lanes < 0:
            raise UsageError(
                f"wanted loop.lanes of 0 or more, found {self.lanes}. Use 0 to have it "
                "chosen"
            )

    def _check_not_negative(self, name: str) -> None:
        if getattr(self, name) < 0:
            raise UsageError(
                f"wanted loop.{name} of 0 or more, found {getattr(self, name)}. Use 0 "
                "to turn it off"
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
class Fault:
    """A step whose update was skipped, and the stream positions it read."""

    step: int
    first_row: int
    end_row: int


@dataclass(frozen=True)
class Position:
    """Where a run stands; with weights and moments, all a resume needs.

    Attributes:
        step: optimizer steps done.
        rows_consumed: rows of the training stream read, omitted ones included.
        nats: cross-entropy summed over the targets since the last line of metrics.
        weight: those targets.
        faults: skipped updates among the last steps, which may lead to a rollback.
    """

    step: int = 0
    rows_consumed: int = 0
    nats: float = 0.0
    weight: float = 0.0
    faults: tuple[Fault, ...] = ()


class RollBack(Exception):
    """More updates were skipped than the budget allows.

    Attributes:
        faults: the skipped steps, oldest first.
    """

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__(f"{len(faults)} updates were skipped")
        self.faults = faults


@dataclass(frozen=True)
class InnerLoop:
    """What an inner loop gives back, each [steps], float32.

    Attributes:
        nats: cross-entropy summed over the step's targets.
        weights: number of those targets.
        gradient_norms: before clipping.
        learning_rates: of the update.
        skipped: 0, or why the update was skipped (`trainer.guard`); such a step's
            nats are no part of a line's loss.
        loss_scales: what the loss was multiplied by.
    """

    nats: np.ndarray
    weights: np.ndarray
    gradient_norms: np.ndarray
    learning_rates: np.ndarray
    skipped: np.ndarray
    loss_scales: np.ndarray


@dataclass(frozen=True)
class Interval:
    """What happened since the last line of metrics; times are of this process.

    Attributes:
        step: the last step of it.
        nats: cross-entropy over its targets.
        weight: those targets.
        gradient_norm: of the last step, before clipping.
        learning_rate: of the last step.
        loss_scale: of the last step.
        rows: rows read.
        seconds: of training.
        wait_seconds: of those, waiting for rows.
        skipped: updates skipped, whatever the reason.
        spikes: of those, because of a gradient norm far beyond the last ones.
        overflows: of those, because float16 overflowed.
    """

    step: int
    nats: float = 0.0
    weight: float = 0.0
    gradient_norm: float = 0.0
    learning_rate: float = 0.0
    loss_scale: float = 1.0
    rows: int = 0
    seconds: float = 0.0
    wait_seconds: float = 0.0
    skipped: int = 0
    spikes: int = 0
    overflows: int = 0


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
    blocks: Iterable[Block],
    parts: Parts,
) -> Position:
    """Trains from `position` to the last step and returns where the run stands.

    Args:
        config: when to do what.
        guard: how many updates may be skipped.
        position: where the run stands; not step 0 if it resumes.
        blocks: the rows of each of `inner_loops` from there.
        parts: what does the work.

    Raises:
        Interrupted: a stop was requested; the run is saved.
        RollBack: too many updates were skipped; nothing was saved for it.
    """
    if config.evaluation_due(position.step):
        parts.evaluate(position.step)  # The run ended between saving and evaluating.
    interval = _begin(position)
    began = time.perf_counter()
    for block in blocks:
        result = parts.train(block)
        position = _advanced(guard, position, block, result)
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


def _advanced(
    guard: GuardConfig, position: Position, block: Block, result: InnerLoop
) -> Position:
    """Returns the position after one inner loop.

    Steps are added one by one in float64, so the sums do not depend on where inner
    loops begin and end.

    Raises:
        RollBack: more updates were skipped than the budget allows.
    """
    nats, weight = position.nats, position.weight
    for index in np.flatnonzero(result.skipped == 0):
        nats += float(result.nats[index])
        weight += float(result.weights[index])
    if len(result.nats) != block.num_steps:
        raise RuntimeError(
            f"wanted {block.num_steps} steps of an inner loop, {len(result.nats)} done"
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
    return Position(step, block.end_row, nats, weight, recent)


def _begin(position: Position) -> Interval:
    """Returns an empty interval that carries the sums a checkpoint held."""
    return Interval(position.step, position.nats, position.weight)


def _extended(
    interval: Interval,
    position: Position,
    block: Block,
    result: InnerLoop,
    seconds: float,
) -> Interval:
    def count(reason: int) -> int:
        return int((result.skipped == reason).sum())

    return Interval(
        step=position.step,
        nats=position.nats,
        weight=position.weight,
        gradient_norm=float(result.gradient_norms[-1]),
        learning_rate=float(result.learning_rates[-1]),
        loss_scale=float(result.loss_scales[-1]),
        rows=interval.rows + block.num_rows,
        seconds=interval.seconds + seconds,
        wait_seconds=interval.wait_seconds + block.wait_seconds,
        skipped=interval.skipped + int((result.skipped != 0).sum()),
        spikes=interval.spikes + count(SPIKE),
        overflows=interval.overflows + count(OVERFLOW),
    )
