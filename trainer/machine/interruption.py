# SPDX-License-Identifier: Apache-2.0
"""Requests to stop: SIGTERM, SIGUSR1 and `--max_duration`, as a flag that is polled."""

import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StopRequest:
    """Whether this process was asked to stop, and why."""

    def __init__(self, max_seconds: float | None) -> None:
        """Starts the clock; `max_seconds` None never runs out."""
        self._end = None if max_seconds is None else time.monotonic() + max_seconds
        self._signal: str | None = None
        self._told: str | None = None
        # The interpreter writes the number of a signal here when it comes, whatever
        # the main thread does; a handler only runs between two lines of Python.
        self._ear, self.mouth = socket.socketpair()
        self._ear.setblocking(False)
        self.mouth.setblocking(False)

    def sent(self) -> str | None:
        """Returns the signal that came, even while the main thread is in native code.

        For another thread to ask.
        """
        with contextlib.suppress(OSError):  # nothing there, or closed
            for number in self._ear.recv(256):
                if number in (*_SIGNALS, signal.SIGINT):
                    self._told = signal.Signals(number).name
        return self._told

    def close(self) -> None:
        """Hears no more."""
        self._ear.close()
        self.mouth.close()

    def reason(self) -> str | None:
        """Returns why to stop, or None."""
        if self._signal is None and self._end is not None:
            return "--max_duration" if time.monotonic() >= self._end else None
        return self._signal

    def notice(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal."""
        self._signal = signal.Signals(number).name


@contextlib.contextmanager
def stop_request(max_seconds: float | None) -> Iterator[StopRequest]:
    """Listens for requests to stop until the block ends."""
    request = StopRequest(max_seconds)
    before = {number: signal.signal(number, request.notice) for number in _SIGNALS}
    woken = signal.set_wakeup_fd(request.mouth.fileno(), warn_on_full_buffer=False)
    try:
        yield request
    finally:
        signal.set_wakeup_fd(woken)
        request.close()
        for number, handler in before.items():
            signal.signal(number, handler)
