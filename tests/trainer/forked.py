# SPDX-License-Identifier: Apache-2.0
"""Processes of the trainer, forked from one that has TensorFlow loaded already.

Loading it takes 2 s of a core, and tests start some forty such processes. From there
on each does what a new one does: the module's own `main`, with an environment, devices
and a cluster of its own. `test_launch.py` and `test_end_to_end.py` start new ones.
"""

import multiprocessing
import os
import runpy
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.trainer.forked_modules"])


class Forked:
    """`python -m MODULE ARGUMENT…`, to be used as a `subprocess.Popen` of text.

    Args:
        module: of the trainer or its tests.
        arguments: what follows it.
        variables: of the environment, beside ours.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        variables: Mapping[str, str] | None = None,
    ) -> None:
        environment = {**os.environ, **(variables or {})}
        pipes = [_SERVER.Pipe(duplex=False) for _ in ("output", "errors")]
        writers = [writer for _, writer in pipes]
        self._process = _SERVER.Process(
            target=_run, args=(module, [*arguments], environment, *writers)
        )
        self._process.start()
        self._written = ["", ""]
        self._readers = []
        for index, (reader, writer) in enumerate(pipes):
            writer.close()
            thread = threading.Thread(target=self._read, args=(index, reader))
            self._readers.append(thread)
            thread.start()

    @property
    def returncode(self) -> int | None:
        """The status, as of a `Popen`."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Returns the status, None while it runs."""
        return self._process.exitcode

    def communicate(self) -> tuple[str, str]:
        """Waits for its end; returns what it wrote to output and errors."""
        self._process.join()
        for thread in self._readers:
            thread.join()
        return self._written[0], self._written[1]

    def send_signal(self, number: int) -> None:
        """Sends a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self._process.pid, number)

    def terminate(self) -> None:
        """Asks it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)

    def _read(self, index: int, reader: Connection) -> None:
        with os.fdopen(os.dup(reader.fileno()), errors="replace") as file:
            reader.close()
            self._written[index] = file.read()


def _run(
    module: str,
    arguments: list[str],
    environment: dict[str, str],
    output: Connection,
    errors: Connection,
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for number, end in ((1, output), (2, errors)):
        os.dup2(end.fileno(), number)
        end.close()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
