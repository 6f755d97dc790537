# SPDX-License-Identifier: Apache-2.0
"""A job that runs at an engine: sent there, followed to its end, and cancelled.

Beam waits for such a job on a stream that ends after --job_server_timeout seconds, as
if the job had failed, and keeps the last of its errors, not the first. So the engine is
asked for the job's state, and what it tells is kept from the first word on.
"""

import threading
import time
from typing import TYPE_CHECKING

from pipelines.beam.internals import (
    end_of_job,
    is_at_a_server,
    is_over,
    job_messages,
    tells_of_a_lost_worker,
)
from pipelines.beam.job_server import JobEngine
from preprocessing.foundation.commands import WorkError, note

if TYPE_CHECKING:
    import apache_beam as beam

POLL_SECONDS = 0.5
# How long an engine may be silent before it counts as gone, and how long its last
# words may take to arrive.
SILENCE_SECONDS, LAST_WORDS_SECONDS = 20.0, 5.0


class EngineJob:
    """A pipeline's job at an engine."""

    def __init__(self, pipeline: "beam.Pipeline", engine: JobEngine) -> None:
        """Keeps what is to be sent; `ending` sends it."""
        self._pipeline, self._engine = pipeline, engine
        self._errors: list[str] = []
        self._sent = threading.Event()
        self._result: beam.runners.runner.PipelineResult | None = None

    def ending(self) -> str:
        """Sends the job and returns its last state, when it has come to it.

        Raises:
            Exception: whatever ended it, the engine's first error as its text.
        """
        try:
            self._result = self._pipeline.run()
        except Exception as error:
            if not hasattr(error, "details"):  # as gRPC's errors have
                raise
            raise WorkError(
                f"wanted {self._engine.name} to take the job, found: {one_line(error)}"
            ) from error
        finally:
            self._sent.set()
        if not is_at_a_server(self._result):
            return self._result.wait_until_finish() or "DONE"
        told = threading.Thread(target=self._listen, daemon=True)
        told.start()
        try:
            state = self._last_state()
        finally:
            end_of_job(self._result)
        if state != "DONE":
            told.join(LAST_WORDS_SECONDS)
            if self._errors:
                raise self._failure(self._errors[0])
        return state

    def _failure(self, text: str) -> Exception:
        """Returns what an engine's error means."""
        failure = RuntimeError(text)
        if not tells_of_a_lost_worker(failure):
            return failure
        return WorkError(
            f"wanted the workers of {self._engine.name} to finish, found one gone "
            "(killed, or out of memory). Run the same command again to go on"
        )

    def cancel(self) -> None:
        """Has the engine end the job, and returns when it has.

        Raises:
            WorkError: the job may still be at work there.
        """
        name = self._engine.name
        note(f"cancelling the job of {name}, and waiting for its end")
        try:
            if not self._sent.wait(SILENCE_SECONDS):
                raise TimeoutError("it has not taken the job yet")
            if self._result is None:
                return  # it was never there
            self._result.cancel()
            while not is_over(self._result.state):
                time.sleep(POLL_SECONDS)
        except BaseException as error:
            if self._engine.server is not None:
                return  # it ends with this command, and the job with it
            raise WorkError(
                f"wanted the job of {name} to end, found: {one_line(error)}. It may "
                "still be at work there: cancel it by the engine's own means"
            ) from error

    def _last_state(self) -> str:
        """Asks for the state until it is the last."""
        assert self._result is not None
        heard = time.monotonic()
        while True:
            try:
                state = str(self._result.state)
                heard = time.monotonic()
                if is_over(state):
                    return state
            except Exception as error:  # of gRPC: the engine does not answer
                self._judge_silence(error, time.monotonic() - heard)
            time.sleep(POLL_SECONDS)

    def _judge_silence(self, error: Exception, seconds: float) -> None:
        name, server = self._engine.name, self._engine.server
        if server is not None and server.is_gone():
            raise WorkError(
                f"wanted {name} to answer until the job's end, it ended before: "
                f"{server.last_words()}. Run the same command again to go on"
            ) from error
        if seconds > SILENCE_SECONDS:
            raise WorkError(
                f"wanted {name} to answer until the job's end, found it gone for "
                f"{seconds:.0f} s ({one_line(error)}). See its log: workers that it "
                f"cannot reach{self._engine.workers} end some engines. Run the same "
                "command again to go on"
            ) from error

    def _listen(self) -> None:
        assert self._result is not None
        try:
            for is_error, text in job_messages(self._result):
                if is_error:
                    self._errors.append(text)
                else:
                    note(text)
        except Exception as error:  # the stream breaks when the engine does
            if not self._errors:
                self._errors.append(one_line(error))


def one_line(error: BaseException) -> str:
    """Returns an error's own words; of gRPC's dumps the line that says something."""
    details = getattr(error, "details", None)
    text = details() if callable(details) else str(error)
    return (text or type(error).__name__).strip().splitlines()[0]
