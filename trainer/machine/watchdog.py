# SPDX-License-Identifier: Apache-2.0
"""Ends a process that does nothing any more, and shows a launcher that it still does.

A worker whose peer is stuck waits in a collective for ever: no exception comes, and no
signal is heard, so a thread has to notice. A process that is stopped as a whole cannot
notice anything; for that a launcher looks at the age of the file that `QUERN_HEARTBEAT`
names.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable

HEARTBEAT = "QUERN_HEARTBEAT"
_LOOK_SECONDS = 1.0
# Beyond what clusters wait between a request to stop and a kill, mostly 30 s.
_STOP_SECONDS = 45.0
# A call that takes long is no stuck one: it has this many times the longest before it.
_PATIENCE = 2.0


class Watchdog(contextlib.AbstractContextManager["Watchdog"]):
    """Watches from `__enter__` to `__exit__`."""

    def __init__(
        self,
        limit_seconds: float,
        sent: Callable[[], str | None] | None = None,
        stop_seconds: float = _STOP_SECONDS,
    ) -> None:
        """Sets how long nothing may happen.

        Args:
            limit_seconds: at any time; 0 is for ever.
            sent: which signal asked the process to stop, if one did; of a process that
                waits for others.
            stop_seconds: after such a signal, until `stopping` is called.
        """
        self._limit, self._sent, self._stop_seconds = limit_seconds, sent, stop_seconds
        self._heartbeat = os.environ.get(HEARTBEAT)
        self._last, self._what = time.monotonic(), "the start"
        self._longest = 0.0
        self._signalled: float | None = None
        self._stops = False
        self._done = threading.Event()

    def __enter__(self) -> "Watchdog":
        """Begins to watch."""
        self.progress("the start")
        if self._limit or self._sent:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stops watching."""
        self._done.set()

    def progress(self, what: str) -> None:
        """Notes that something was done, and what."""
        now = time.monotonic()
        self._longest = max(self._longest, now - self._last)
        self._last, self._what = now, what
        if self._heartbeat is not None:
            with contextlib.suppress(OSError):  # the launcher is gone, and so is it
                os.utime(self._heartbeat)

    def stopping(self, so: bool = True) -> None:
        """Notes that all processes heard of an end, or that they go on after all.

        What is left then is to save, which takes as long as it takes, within the limit.
        """
        self._stops = so

    def _watch(self) -> None:
        look = min(_LOOK_SECONDS, self._limit or _LOOK_SECONDS, self._stop_seconds)
        while not self._done.wait(look):
            now = time.monotonic()
            silent = now - self._last
            if self._limit and silent > self._limit:
                end_process(
                    f"wanted progress within {self._limit:g} s, found none for "
                    f"{silent:.0f} s after {self._what}. Look at the logs of all "
                    "workers; the same command resumes (loop.watchdog_seconds sets "
                    "the limit)"
                )
            name = None if self._sent is None else self._sent()
            if name is None or self._stops:
                continue
            self._signalled = self._signalled or now
            waited = now - max(self._signalled, self._last)
            if waited > max(self._stop_seconds, _PATIENCE * self._longest):
                end_process(
                    f"wanted to save and stop on {name}, found no end for {waited:.0f} "
                    f"s of what other processes have a part in, after {self._what}. "
                    "Look at their logs; the same command on all of them resumes from "
                    "the last checkpoint"
                )


def end_process(error: str) -> None:
    """Ends the process with status 1 and one line, from any thread.

    The main thread is stuck in native code, so nothing can be raised there.
    """
    sys.stdout.flush()
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(1)
