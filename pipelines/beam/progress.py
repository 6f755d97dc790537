# SPDX-License-Identifier: Apache-2.0
"""Progress of a job as a bar on a terminal and as plain lines elsewhere.

Workers leave small files behind when they finish a piece of work; a thread of the
driver looks at them and reports. Nothing here knows Beam, so any runner is served.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

import tqdm

POLL_SECONDS = 0.5
LINE_SECONDS = 5.0


@dataclass(frozen=True)
class Progress:
    """How far a job has come.

    Attributes:
        stage: what is being done, as one word.
        done: units done, of `total`.
        total: units there are; 0 if not known yet.
        besides: what else was made on the way, of which only the speed is told.
    """

    stage: str
    done: int
    total: int
    besides: int = 0


@contextmanager
def watch(
    poll: Callable[[], Progress],
    unit: str = "B",
    stream: TextIO | None = None,
    poll_seconds: float = POLL_SECONDS,
    line_seconds: float = LINE_SECONDS,
    besides: str = "",
) -> Iterator[None]:
    """Reports what `poll` returns until the block ends.

    Args:
        poll: returns the progress now; called from another thread.
        unit: "B" for bytes, shown as MB; any other word is shown as it is.
        stream: where to write; standard error if None.
        poll_seconds: between two calls of `poll`.
        line_seconds: between two lines, where no terminal shows a bar.
        besides: the unit of what else is made; nothing where that is nothing.
    """
    out = stream or sys.stderr
    speed, bar = _Speed(besides), out.isatty()
    reporter = _Bar(unit, speed, out) if bar else _Lines(unit, speed, out, line_seconds)
    stopped = threading.Event()

    def loop() -> None:
        while not stopped.wait(poll_seconds):
            reporter.show(poll())

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
        stopped.set()
        thread.join()
        reporter.show(poll(), last=True)
    finally:
        stopped.set()
        thread.join()
        reporter.close()


class _Speed:
    """The speed of what is made besides, since its stage began."""

    def __init__(self, unit: str) -> None:
        self._unit, self._start, self._first = unit, 0.0, 0

    def begin(self, progress: Progress) -> None:
        """Begins a stage."""
        self._start, self._first = time.monotonic(), progress.besides

    def told(self, progress: Progress) -> str:
        """Returns it for people; nothing before there is any."""
        made = progress.besides - self._first
        seconds = max(time.monotonic() - self._start, 1e-9)
        return f"{amount(made / seconds, self._unit)}/s" if made else ""


class _Bar:
    """A tqdm bar per stage."""

    def __init__(self, unit: str, besides: _Speed, out: TextIO) -> None:
        self._unit, self._out = unit, out
        self._besides = besides
        self._bar: tqdm.tqdm | None = None
        self._stage = ""

    def show(self, progress: Progress, last: bool = False) -> None:
        """Draws the bar, a new one when the stage changed."""
        if progress.stage != self._stage:
            self.close()
            self._stage = progress.stage
            self._besides.begin(progress)
            self._bar = tqdm.tqdm(
                desc=progress.stage,
                total=progress.total or None,
                unit=self._unit,
                unit_scale=True,
                file=self._out,
                leave=True,
            )
        assert self._bar is not None
        self._bar.set_postfix_str(self._besides.told(progress), refresh=False)
        self._bar.update(progress.done - self._bar.n)
        if last:
            self._bar.refresh()

    def close(self) -> None:
        """Leaves the bar on the terminal as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _Lines:
    """A line every few seconds, and one when a stage ends."""

    def __init__(self, unit: str, besides: _Speed, out: TextIO, seconds: float) -> None:
        self._unit, self._out, self._seconds = unit, out, seconds
        self._besides = besides
        self._stage, self._stage_start, self._first = "", 0.0, 0
        self._written = time.monotonic()
        self._latest: Progress | None = None  # what the last line said

    def show(self, progress: Progress, last: bool = False) -> None:
        """Writes a line if it is time for one."""
        now = time.monotonic()
        if progress.stage != self._stage:
            self._stage, self._stage_start = progress.stage, now
            self._first = progress.done
            self._besides.begin(progress)
            last = True
        due = last or now - self._written >= self._seconds
        if due and progress != self._latest:
            self._written, self._latest = now, progress
            print(self._line(progress, now), file=self._out, flush=True)

    def _line(self, progress: Progress, now: float) -> str:
        seconds = max(now - self._stage_start, 1e-9)
        speed = (progress.done - self._first) / seconds
        line = f"{progress.stage}: {amount(progress.done, self._unit)}"
        if progress.total:
            share = progress.done / progress.total
            line += f" of {amount(progress.total, self._unit)} ({share:.0%})"
        if speed > 0:
            line += f", {amount(speed, self._unit)}/s"
            told = self._besides.told(progress)
            line += f", {told}" if told else ""
            if progress.total > progress.done:
                line += f", {(progress.total - progress.done) / speed:.0f} s left"
        return line

    def close(self) -> None:
        """Nothing is left open."""


def amount(value: float, unit: str) -> str:
    """Returns `value` for people: bytes as MB, all else with its unit, 0.4 as that."""
    if unit == "B":
        return f"{value / 1e6:,.1f} MB"
    digits = 1 if 0 < value < 10 and value != int(value) else 0
    return f"{value:,.{digits}f} {unit}"
