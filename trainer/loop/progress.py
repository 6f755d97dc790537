# SPDX-License-Identifier: Apache-2.0
"""Shows how training goes: one line that renews itself on a terminal, lines elsewhere.

step 1,200/4,000  loss 1.7312  2.311 bits/byte  8,410 tokens/s  mfu 46%  wait 0%
6 min left   (on the same line)
"""

import sys
import time
from collections.abc import Callable
from typing import TextIO

from trainer.run.metrics import EvaluationLine, TrainingLine

_CLEAR_LINE = "\r\x1b[K"
_COLUMNS = 100
# What a line of metrics weighs in the pace once another follows. Half of the weight is
# on the last 14: enough to even out evaluations, and soon rid of other hardware.
_KEPT = 0.95


class ProgressLine:
    """Prints each line of metrics for people, and keeps the run's clock."""

    def __init__(
        self,
        step: int,
        last_step: int,
        elapsed_seconds: float,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begins where a run is entered.

        Args:
            step: steps done.
            last_step: the step that ends the run.
            elapsed_seconds: what those took, in all invocations.
            stream: where to print; standard error if None.
            clock: tells seconds that never go back.
        """
        self._last_step = last_step
        self._out = stream or sys.stderr
        self._clock = clock
        self._began = clock() - elapsed_seconds
        self._bits_per_byte: float | None = None
        self._unfinished = False
        self._line_step, self._line_seconds = step, elapsed_seconds
        self._first_line = True
        # Of the lines after this process's first one, the later the heavier.
        self._steps = self._seconds = 0.0

    @property
    def elapsed_seconds(self) -> float:
        """Time spent on the run up to now, by this process and those before it.

        What a killed process did after its last checkpoint does not count.
        """
        return self._clock() - self._began

    def close(self) -> None:
        """Ends a line that was still to be renewed, so that nothing runs into it."""
        if self._unfinished:
            print(file=self._out, flush=True)
            self._unfinished = False

    def note(self, text: str) -> None:
        """Prints a sentence on a line of its own."""
        self._write(text, lasting=True)

    def training(self, line: TrainingLine, seconds: float) -> None:
        """Shows a line of training metrics; its steps took `seconds` of training."""
        steps = line.step - self._line_step
        self._follow(line.step)
        parts = [f"step {line.step:,}/{self._last_step:,}"]
        parts.append("no loss" if line.loss is None else f"loss {line.loss:.4f}")
        if self._bits_per_byte is not None:
            parts.append(f"{self._bits_per_byte:.3f} bits/byte")
        parts.append(f"{line.tokens_per_second:,.0f} tokens/s")
        parts.append("mfu unknown" if line.mfu is None else f"mfu {line.mfu:.0%}")
        parts.append(f"wait {line.data_wait:.0%}")
        parts.append(f"{_rounded(self._pace(line.step) * self._left(line.step))} left")
        step_time = f"{1000 * seconds / max(steps, 1):,.0f} ms/step"
        if len("  ".join([*parts, step_time])) <= _COLUMNS:
            parts.insert(-1, step_time)
        self._write("  ".join(parts), lasting=line.step == self._last_step)

    def evaluation(self, line: EvaluationLine) -> None:
        """Shows a line of evaluation metrics."""
        self._bits_per_byte = line.bits_per_byte
        text = f"step {line.step:,}: validation loss {line.validation_loss:.4f}"
        if line.bits_per_byte is not None:
            text += f", {line.bits_per_byte:.4f} bits per byte"
        self._write(text, lasting=True)

    def _follow(self, step: int) -> None:
        """Takes the time since the last line into the pace, evaluations included."""
        now = self.elapsed_seconds
        # A process compiles before its first line.
        if not self._first_line:
            self._steps = _KEPT * self._steps + step - self._line_step
            self._seconds = _KEPT * self._seconds + now - self._line_seconds
        self._line_step, self._line_seconds = step, now
        self._first_line = False

    def _pace(self, step: int) -> float:
        """Returns seconds per step: of late, or of the whole run before a 2nd line."""
        if self._steps:
            return self._seconds / self._steps
        return self._line_seconds / max(step, 1)

    def _left(self, step: int) -> int:
        return self._last_step - step

    def _write(self, text: str, lasting: bool) -> None:
        if not self._out.isatty():
            print(text, file=self._out, flush=True)
            return
        end = "\n" if lasting else ""
        print(_CLEAR_LINE + text, end=end, file=self._out, flush=True)
        self._unfinished = not lasting


def _rounded(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
