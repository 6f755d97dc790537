# SPDX-License-Identifier: Apache-2.0
"""Runs a built pipeline to its end and says in one line why one did not get there.

Beam reports a failure as hundreds of lines of text. A worker that is killed it may not
report at all: its runner then waits for an answer that nobody will give. So the
pipeline runs in a thread, and this module listens for its end and for workers' deaths.
A job at an engine would go on without whoever sent it: it is cancelled there.
"""

import contextlib
import logging
import os
import queue
import re
import signal
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.beam.engine_job import EngineJob
from pipelines.beam.internals import (
    STOCK_WORKER,
    is_beams,
    tells_of_a_death,
    tells_of_a_lost_worker,
    without_step_name,
)
from pipelines.beam.job_server import JobEngine
from pipelines.beam.quiet import logging_off
from preprocessing.foundation.commands import (
    UsageError,
    WorkError,
    stopping_on_request,
)

if TYPE_CHECKING:
    import apache_beam as beam

# How long the pipeline may take to end by itself after one of its workers has.
GRACE_SECONDS = 5.0
_WORKER_MODULES = (b"pipelines.beam.worker", STOCK_WORKER)
_ERROR_LINE = re.compile(
    r"^(?:[\w.]*\.)?(\w*(?:Error|Exception|Interrupt|Exit)\w*): (.*)$", re.MULTILINE
)
_GONE = (
    "wanted every worker to finish, found one gone (killed, or out of memory). Run the "
    "same command again to go on; --workers lowers memory"
)
Ending = str | BaseException  # the pipeline's last state, or what ended it


class _WorkerDied(Exception):
    """A worker process ended with another status than 0."""


def execute(pipeline: "beam.Pipeline", engine: JobEngine | None = None) -> None:
    """Runs a pipeline to its end.

    Args:
        pipeline: the whole graph.
        engine: where it runs; None on this machine's own runners.

    Raises:
        UsageError, WorkError: the job failed, with the first cause on one line.
        Interrupted: SIGTERM or SIGUSR1 asked the job to stop, and it has.
    """
    endings: queue.SimpleQueue[Ending] = queue.SimpleQueue()
    job = None if engine is None else EngineJob(pipeline, engine)
    with _listening(endings), stopping_on_request():
        ending_of = partial(_local_ending, pipeline) if job is None else job.ending
        threading.Thread(target=_run, args=(ending_of, endings), daemon=True).start()
        try:
            ending = endings.get()
        except BaseException:  # Ctrl-C, or asked to stop
            _end_workers()
            if job is not None:
                job.cancel()
            raise
        if isinstance(ending, _WorkerDied):
            ending = _end_of_others(endings, ending)
        if isinstance(ending, BaseException):
            _end_workers()
            raise _cause(ending) from ending
    if ending != "DONE":
        raise WorkError(f"wanted the job to end as DONE, it ended as {ending}")


def _run(ending_of: Callable[[], Ending], endings: "queue.SimpleQueue[Ending]") -> None:
    try:
        endings.put(ending_of())
    except BaseException as error:
        endings.put(error)


def _local_ending(pipeline: "beam.Pipeline") -> Ending:
    return pipeline.run().wait_until_finish() or "DONE"


def _end_of_others(endings: "queue.SimpleQueue[Ending]", death: _WorkerDied) -> Ending:
    """Waits a little for the pipeline's own ending after a worker's death."""
    ending: Ending = death
    with contextlib.suppress(queue.Empty):
        while isinstance(ending, _WorkerDied):
            ending = endings.get(timeout=GRACE_SECONDS)
    return ending


@contextlib.contextmanager
def _listening(endings: "queue.SimpleQueue[Ending]") -> Iterator[None]:
    """Hears of workers' deaths, which Beam raises in threads nobody watches.

    What Beam logs while a job fails is kept off the terminal: the error line says it.
    """
    hook = threading.excepthook

    def hear(failure: threading.ExceptHookArgs) -> None:
        if tells_of_a_death(failure.exc_value):
            endings.put(_WorkerDied())

    threading.excepthook = hear
    try:
        with logging_off(logging.CRITICAL):
            yield
    except BaseException:
        threading.excepthook = partial(_hear_others, hook)
        raise
    threading.excepthook = hook


def _hear_others(
    hook: Callable[[threading.ExceptHookArgs], object],
    failure: threading.ExceptHookArgs,
) -> None:
    """Passes a thread's failure on, unless the thread is Beam's.

    A job that did not end well leaves such threads, and may start more. They fail when
    its workers are killed, and would print a traceback in the middle of the error line
    or behind it.
    """
    if not is_beams(failure.exc_traceback):
        hook(failure)


def _end_workers() -> None:
    """Kills the worker processes that a failed job has left waiting.

    Threads and processes end while they are listed, and their files go with them.
    """
    gone = contextlib.suppress(FileNotFoundError, ProcessLookupError)
    for children in Path("/proc/self/task").glob("*/children"):
        listed: list[str] = []
        with gone:
            listed = children.read_text().split()
        for child in listed:
            with gone:
                command = Path(f"/proc/{child}/cmdline").read_bytes()
                if any(module in command for module in _WORKER_MODULES):
                    os.kill(int(child), signal.SIGKILL)


def _cause(error: BaseException) -> UsageError | WorkError:
    """Returns the one-line error behind what Beam raised.

    A worker's exception arrives as text: its traceback, where the last error line
    before Beam's own "[while running …]" is the cause.
    """
    if isinstance(error, _WorkerDied) or tells_of_a_lost_worker(error):
        return WorkError(_GONE)
    found = _ERROR_LINE.findall(str(error)) or [(type(error).__name__, str(error))]
    if isinstance(error, UsageError | WorkError):
        found = [(type(error).__name__, str(error))]
    kind, text = found[-1]
    text = without_step_name(text.split("\\n", 1)[0]).strip(" \"'")
    if kind == "UsageError":
        return UsageError(text)
    if kind == "WorkError":
        return WorkError(text)
    if "Errno 28" in text:
        return WorkError(f"wanted to write, the disk is full ({text}). Free some space")
    return WorkError(f"{kind}: {text}. Run with --debug for a traceback")
