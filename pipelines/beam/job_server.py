# SPDX-License-Identifier: Apache-2.0
"""The job server that a portable runner sends its jobs to: found, or started and ended.

A server that a command starts (Prism, or the Java process of Flink and Spark) ends with
the command, whatever way that ends: after its job, when a signal stops it, and by the
kernel's hand when it is killed. It has a session of its own, so that Ctrl-C on the
terminal reaches the command alone, which cancels the job first.
"""

import collections
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.beam.internals import (
    instead_of_a_job_server,
    job_server_command,
    sends_jobs,
)
from pipelines.beam.worker import DEBUG_VARIABLE
from preprocessing.foundation.commands import UsageError

if TYPE_CHECKING:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

# How long an endpoint may take to be reached, and again to answer, and how long a
# server that was started: Java takes ten seconds where Prism takes one tenth.
ANSWER_SECONDS, START_SECONDS = 10.0, 120.0
_END_SECONDS = 5.0
_LINES_KEPT = 200
# Asks the kernel to kill this process with its parent, which may already be gone, and
# becomes the server.
_WITH_ITS_PARENT = (
    "import ctypes, os, signal, sys\n"
    "ctypes.CDLL(None).prctl(1, signal.SIGKILL)\n"
    "os.getppid() == int(sys.argv[1]) and os.execvp(sys.argv[2], sys.argv[2:])"
)


def with_its_parent(command: list[str]) -> list[str]:
    """Returns what runs a command that Linux ends with the process that starts it."""
    wrapped = [sys.executable, "-S", "-E", "-c", _WITH_ITS_PARENT, str(os.getpid())]
    return [*wrapped, *command] if sys.platform == "linux" else command


@dataclass(frozen=True)
class JobEngine:
    """Where a job runs that does not run in this process or its workers.

    Attributes:
        name: the runner, and the endpoint of its job server if it has one.
        workers: where its workers' pool is, for errors; empty where there is none.
        server: the server that this command has started; None where it was there.
    """

    name: str
    workers: str = ""
    server: "StartedServer | None" = None


class StartedServer:
    """A job server in a process of its own, whose last lines are kept."""

    def __init__(self, command: list[str]) -> None:
        """Starts it; the main thread has to, for the kernel looks at threads."""
        self._lines: collections.deque[str] = collections.deque(maxlen=_LINES_KEPT)
        self._process = subprocess.Popen(
            with_its_parent(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line.rstrip())
            if DEBUG_VARIABLE in os.environ:
                print(line.rstrip(), file=sys.stderr, flush=True)

    def is_gone(self) -> bool:
        """Tells whether it has ended by itself."""
        return self._process.poll() is not None

    def last_words(self) -> str:
        """Returns the line that says why it has ended, or the last one."""
        self._reader.join(1.0)
        lines = [line for line in self._lines if line.strip()]
        told = [x for x in lines if x.startswith(("panic:", "fatal", "Exception in"))]
        return (told or lines[-1:] or [f"status {self._process.poll()}"])[0]

    def end(self) -> None:
        """Ends it, by force where it does not obey."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(subprocess.TimeoutExpired, ProcessLookupError):
                os.killpg(self._process.pid, number)
                self._process.wait(_END_SECONDS)
        self._process.wait()


@contextlib.contextmanager
def at_a_job_server(
    name: str, runner: "beam.runners.PipelineRunner", options: "PipelineOptions"
) -> Iterator[JobEngine]:
    """Gives the engine of a runner; its job server answers while the block runs.

    Args:
        name: of the runner.
        runner: whatever it does.
        options: of the pipeline; a server that is started is written into them.

    Raises:
        UsageError: the endpoint does not answer, or no server can be started.
    """
    from apache_beam.options.pipeline_options import PortableOptions

    if not sends_jobs(runner):
        yield JobEngine(name)
        return
    portable = options.view_as(PortableOptions)
    pool = (
        portable.environment_config if portable.environment_type == "EXTERNAL" else ""
    )
    workers = f" at {pool}" if pool else ""
    if portable.job_endpoint:
        check_answers(portable.job_endpoint)
        yield JobEngine(f"{name} at {portable.job_endpoint}", workers)
        return
    with tempfile.TemporaryDirectory(prefix="quern-job-server-") as directory:
        try:
            found = job_server_command(runner, options, directory)
        except (RuntimeError, ValueError, OSError) as error:
            raise UsageError(
                f"wanted to start the job server of {name}, found: {error}. Name one "
                "that runs: --job_endpoint HOST:PORT"
            ) from error
        if found is None:
            yield JobEngine(name)
            return
        command, endpoint = found
        server = _started(name, command)
        try:
            _wait_for(name, server, endpoint)
            portable.job_endpoint = endpoint
            yield JobEngine(f"{name} at {endpoint}", workers, server)
        finally:
            server.end()


def check_answers(endpoint: str, seconds: float = ANSWER_SECONDS) -> None:
    """Raises `UsageError` where no job server answers.

    Args:
        endpoint: HOST:PORT.
        seconds: how long it may take to be reached, and again to answer.
    """
    found = instead_of_a_job_server(endpoint, seconds)
    if found:
        raise UsageError(
            f"wanted a job server at --job_endpoint {endpoint}, found {found} within "
            f"{seconds:g} s. Start it, or name the one that runs"
        )


def _started(name: str, command: list[str]) -> StartedServer:
    try:
        return StartedServer(command)
    except OSError as error:
        raise UsageError(
            f"wanted to start the job server of {name} by {command[0]}, found: "
            f"{error.strerror or error}. Name one that runs: --job_endpoint HOST:PORT"
        ) from error


def _wait_for(name: str, server: StartedServer, endpoint: str) -> None:
    start = time.monotonic()
    while instead_of_a_job_server(endpoint, 0.2):
        if server.is_gone():
            raise UsageError(
                f"wanted to start the job server of {name}, it ended at once: "
                f"{server.last_words()}. --debug shows what else it said"
            )
        if time.monotonic() - start > START_SECONDS:
            raise UsageError(
                f"wanted the job server of {name} to answer at {endpoint} within "
                f"{START_SECONDS:g} s, it does not: {server.last_words()}"
            )
