# SPDX-License-Identifier: Apache-2.0
"""When a run logs, evaluates, saves and ends."""

from dataclasses import dataclass

from preprocessing.foundation.commands import UsageError

_MOST_STEPS = 2**31 - 1


@dataclass(frozen=True)
class LoopConfig:
    """When a run logs, evaluates, saves and ends; a resume may change it.

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
        watchdog_seconds: ends the process if nothing happens for this time; 0 never
            does. It has to be longer than the longest save, evaluation batch or
            compilation.
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
    watchdog_seconds: float = 1800.0

    def __post_init__(self) -> None:
        positive = ("total_steps", "log_every", "save_every", "keep_last")
        for name in (*positive, "steps_per_loop", "stop_after_step"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"wanted loop.{name} above 0, found {value}. Raise it")
        if self.total_steps > _MOST_STEPS:
            raise UsageError(
                f"wanted loop.total_steps of {_MOST_STEPS} or less, which dropout's "
                f"seeds count to, found {self.total_steps}. Lower it"
            )
        for name in ("evaluate_every", "keep_every", "keep_best"):
            self._check_not_negative(name)
        self._check_not_negative("watchdog_seconds")

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
