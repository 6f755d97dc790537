# SPDX-License-Identifier: Apache-2.0
"""Shows how training goes: one line that renews itself on a terminal, lines elsewhere.

step 1,200/4,000  loss 1.7312  2.31 bits/byte  8,410 tokens/s  mfu 46%  wait 0%  6 min
"""

import sys
import time
from typing import TextIO

from trainer.metrics import EvaluationLine, TrainingLine

_CLEAR_LINE = "\r\x1b[K"


class ProgressLine:
    """Prints each line of metrics for people."""

    def __init__(self, step: int, last_step: int, stream: TextIO | None = None) -> None:
        """Begins at `step`; `stream` is standard error if None."""
        self._first_step = step
        self._last_step = last_step
        self._out = stream or sys.stderr
        self._began = time.monotonic()
        self._bits_per_byte: float | None = None
        self._unfinished = False

    def close(self) -> None:
        """Ends a line that was still to be renewed, so that nothing runs into it."""
        if self._unfinished:
            print(file=self._out, flush=True)
            self._unfinished = False

    def note(self, text: str) -> None:
        """Prints a sentence on a line of its own."""
        self._write(text, lasting=True)

    def training(self, line: TrainingLine) -> None:
        """Shows a line of training metrics."""
        parts = [f"step {line.step:,}/{self._last_step:,}"]
        parts.append("no loss" if line.loss is None else f"loss {line.loss:.4f}")
        if self._bits_per_byte is not None:
            parts.append(f"{self._bits_per_byte:.3f} bits/byte")
        parts.append(f"{line.tokens_per_second:,.0f} tokens/s")
        parts.append("mfu unknown" if line.mfu is None else f"mfu {line.mfu:.0%}")
        parts.append(f"wait {line.data_wait:.0%}")
        parts.append(f"{self._left(line.step)} left")
        self._write("  ".join(parts), lasting=line.step == self._last_step)

    def evaluation(self, line: EvaluationLine) -> None:
        """Shows a line of evaluation metrics."""
        self._bits_per_byte = line.bits_per_byte
        text = f"step {line.step:,}: validation loss {line.validation_loss:.4f}"
        if line.bits_per_byte is not None:
            text += f", {line.bits_per_byte:.4f} bits per byte"
        self._write(text, lasting=True)

    def _left(self, step: int) -> str:
        """Returns the time left at this process's own pace, evaluations included."""
        pace = (time.monotonic() - self._began) / max(step - self._first_step, 1)
        seconds = pace * (self._last_step - step)
        if seconds < 90:
            return f"{seconds:.0f} s"
        if seconds < 90 * 60:
            return f"{seconds / 60:.0f} min"
        return f"{seconds / 3600:.1f} h"

    def _write(self, text: str, lasting: bool) -> None:
        if not self._out.isatty():
            print(text, file=self._out, flush=True)
            return
        end = "\n" if lasting else ""
        print(_CLEAR_LINE + text, end=end, file=self._out, flush=True)
        self._unfinished = not lasting
