# SPDX-License-Identifier: Apache-2.0
"""Ends a process that does nothing any more, and shows a launcher that it still does.

A worker whose peer is stuck waits in a collective for ever: no exception comes, so a
thread has to notice. A process that is stopped as a whole cannot notice anything; for
that a launcher looks at the age of the file that `QUERN_HEARTBEAT` names.
"""

import contextlib
import os
import sys
import threading
import time

HEARTBEAT = "QUERN_HEARTBEAT"
_LOOK_SECONDS = 1.0


class Watchdog(contextlib.AbstractContextManager["Watchdog"]):
    """Watches from `__enter__` to `__exit__`."""

    def __init__(self, limit_seconds: float) -> None:
        """Sets how long nothing may happen; 0 is for ever."""
        self._limit = limit_seconds
        self._heartbeat = os.environ.get(HEARTBEAT)
        self._last, self._what = time.monotonic(), "the start"
        self._done = threading.Event()

    def __enter__(self) -> "Watchdog":
        """Begins to watch."""
        self.progress("the start")
        if self._limit:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stops watching."""
        self._done.set()

    def progress(self, what: str) -> None:
        """Notes that something was done, and what."""
        self._last, self._what = time.monotonic(), what
        if self._heartbeat is not None:
            with contextlib.suppress(OSError):  # the launcher is gone, and so is it
                os.utime(self._heartbeat)

    def _watch(self) -> None:
        while not self._done.wait(min(_LOOK_SECONDS, self._limit)):
            silent = time.monotonic() - self._last
            if silent > self._limit:
                end_process(
                    f"wanted progress within {self._limit:g} s, found none for "
                    f"{silent:.0f} s after {self._what}. Look at the logs of all "
                    "workers; the same command resumes (loop.watchdog_seconds sets "
                    "the limit)"
                )


def end_process(error: str) -> None:
    """Ends the process with status 1 and one line, from any thread.

    The main thread is stuck in native code, so nothing can be raised there.
    """
    sys.stdout.flush()
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(1)
