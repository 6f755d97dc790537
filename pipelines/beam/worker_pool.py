# SPDX-License-Identifier: Apache-2.0
"""The pool of workers beside an engine, on machines without containers.

An engine asks the pool for a worker when a job begins, and for its end when it is over.
Each worker is a process; what it prints goes to the pool's terminal, and so does how it
ended, if nobody asked for that.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

from pipelines.beam.internals import serve_pool
from preprocessing.foundation.commands import UsageError, note

_END_SECONDS = 10.0
_LOOK_SECONDS = 0.5


class WorkerPool:
    """The worker processes of engines' jobs, by the ids that engines gave them."""

    def __init__(self) -> None:
        """An empty pool."""
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def serving(self, address: str) -> Iterator[None]:
        """Serves engines at HOST:PORT while the block runs; then no worker is left.

        Raises:
            UsageError: the address cannot be listened at.
        """
        try:
            stop_serving = serve_pool(address, self.start, self.stop)
        except RuntimeError as error:
            raise UsageError(
                f"wanted to listen at {address}, found it in use, or not this "
                "machine's. Name another --port, or --host"
            ) from error
        try:
            yield
        finally:
            stop_serving()
            for worker in list(self._workers):
                self.stop(worker)

    def start(self, worker: str, arguments: list[str]) -> None:
        """Starts the worker of an id."""
        module = "pipelines.beam.pool_worker"
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C ends it in turn, through the pool
        )
        with self._lock:
            self._workers[worker] = process

    def stop(self, worker: str) -> None:
        """Ends the worker of an id, by force where it does not obey."""
        with self._lock:
            process = self._workers.pop(worker, None)
        if process is None:
            return
        _tell(worker, process.poll())  # an engine has a worker ended that ended itself
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(subprocess.TimeoutExpired, ProcessLookupError):
                os.killpg(process.pid, number)
                process.wait(_END_SECONDS)
        process.wait()

    def watch(self) -> None:
        """Says which workers end unasked, and how, until a signal ends it."""
        while True:
            time.sleep(_LOOK_SECONDS)
            with self._lock:
                statuses = {name: w.poll() for name, w in self._workers.items()}
                ended = {name: s for name, s in statuses.items() if s is not None}
                for name in ended:
                    del self._workers[name]
            for name, status in ended.items():
                _tell(name, status)


def _tell(worker: str, status: int | None) -> None:
    """Says how a worker ended, if it has, and not well."""
    if status is None or status == 0:
        return
    way = f"with status {status}"
    if status < 0:
        way = f"by {signal.Signals(-status).name}"
    note(f"worker {worker} ended {way}" + (", or out of memory" * (status == -9)))
