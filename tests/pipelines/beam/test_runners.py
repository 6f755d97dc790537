# SPDX-License-Identifier: Apache-2.0
"""Runners are chosen by name, flags are never ignored, failures say one thing."""

import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest

from pipelines.beam import execution, runners
from preprocessing.foundation.commands import (
    CommandParser,
    Interrupted,
    UsageError,
    WorkError,
)

LOCAL, STOCK = runners.LOCAL, runners.STOCK
# Beam raises in threads of its own when the worker they watch is gone.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)


class Witness(beam.DoFn):
    """Writes down what a worker process knows."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def process(self, element: tuple[int, object]) -> Iterator[tuple[int, bytes]]:
        import sys

        from apache_beam.io.filesystems import FileSystems

        known = FileSystems._pipeline_options.get_all_options()
        facts = [known["s3_region_name"], "tensorflow" in sys.modules, os.getpid()]
        facts.append(os.environ["TOKENIZERS_PARALLELISM"])
        Path(self._directory, str(element[0])).write_text(repr(facts))
        yield element[0], b""


class Fail(beam.DoFn):
    """Fails in the way that an element asks for."""

    def process(self, element: tuple[int, object]) -> Iterator[tuple[int, bytes]]:
        kind = element[0]
        if kind == 1:
            raise WorkError("wanted a, found: b: c. Do d")
        if kind == 2:
            raise OSError(28, "No space left on device")
        if kind == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == 4:
            os.kill(os.getppid(), signal.SIGTERM)
            signal.pause()
        yield element[0], b""


def parser() -> CommandParser:
    made = CommandParser("quern-x", "A command.")
    runners.add_runner_flags(made)
    made.add_argument("--seed", type=int)
    return made


def graph(step: beam.DoFn, *keys: int):
    def build(pipeline: beam.Pipeline) -> None:
        elements = [(key, b"") for key in keys]
        seeds = beam.Create(elements, reshuffle=False)
        _ = (
            pipeline
            | seeds.with_output_types(tuple[int, bytes])
            | beam.GroupByKey()
            | beam.ParDo(step).with_output_types(tuple[int, bytes])
        )

    return build


@pytest.mark.slow
@pytest.mark.parametrize("runner", [LOCAL, STOCK])
def test_options_reach_the_workers_and_tensorflow_does_not(
    tmp_path: Path, runner: str
) -> None:
    flags = ["--s3_region_name=eu-north-9"]
    runners.run_pipeline(graph(Witness(str(tmp_path)), 0, 1, 2, 3), runner, 2, flags)
    facts = [path.read_text() for path in sorted(tmp_path.iterdir())]
    assert len(facts) == 4
    assert all(re.match(r"\['eu-north-9', False, \d+, 'false'\]", f) for f in facts)
    assert len(set(facts)) == 2 and f" {os.getpid()}," not in "".join(facts)


@pytest.mark.slow
def test_one_worker_runs_in_this_process(tmp_path: Path) -> None:
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    FileSystems.set_options(PipelineOptions())
    runners.run_pipeline(graph(Witness(str(tmp_path)), 0), LOCAL, 1)
    assert f" {os.getpid()}," in (tmp_path / "0").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "workers", "complaint"),
    [
        (1, 1, "wanted a, found: b: c. Do d"),
        (1, 2, "wanted a, found: b: c. Do d"),
        (2, 1, "the disk is full"),
        (3, 2, "one gone"),
    ],
)
def test_a_failing_worker_becomes_one_line(
    kind: int, workers: int, complaint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(WorkError) as caught:
        runners.run_pipeline(graph(Fail(), kind, 7), LOCAL, workers)
    assert complaint in str(caught.value) and "\n" not in str(caught.value)
    assert "while running" not in str(caught.value)
    assert workers == 1 or "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_threads_that_a_stopped_job_leaves_fail_in_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failures: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    before = set(threading.enumerate())
    with pytest.raises(Interrupted, match="stopped on SIGTERM"):
        runners.run_pipeline(graph(Fail(), 4, 7), LOCAL, 2)
    for thread in set(threading.enumerate()) - before:
        if thread.name == "run_worker":  # Beam's, one for each worker process
            thread.join()
    # Those of jobs before, which other tests stopped, may end now.
    assert not [each for each in failures if each.thread not in before]
    failures.clear()
    raise_in_thread = threading.Thread(target=lambda: 1 / 0)
    raise_in_thread.start()
    raise_in_thread.join()
    assert [failure.exc_type for failure in failures] == [ZeroDivisionError]


def test_threads_that_end_while_workers_are_looked_for_do_no_harm() -> None:
    over = threading.Event()

    def begin_and_end() -> None:
        while not over.is_set():
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()

    busy = [threading.Thread(target=begin_and_end) for _ in range(2)]
    for thread in busy:
        thread.start()
    try:
        for _ in range(300):
            execution._end_workers()
    finally:
        over.set()
        for thread in busy:
            thread.join()


def test_beams_own_flags_pass_and_unknown_ones_are_refused() -> None:
    values, beam_args = runners.parse_with_beam_flags(
        parser(), ["--seed", "3", "--parallelism=4", "--project", "p"]
    )
    assert values.seed == 3
    assert beam_args == ["--parallelism=4", "--project", "p"]
    for arguments, complaint in [
        (["--sede", "3"], "Did you mean --seed?"),
        (["--worker", "3"], "Did you mean --workers?"),
        (["--parallelism=x"], "invalid int value"),
        (["--parallelism=4", "stray"], "stray"),
        (["--workers", "0"], "1 or more"),
        (["--runner", "FlinkRuner"], "Did you mean FlinkRunner?"),
        (["--runner", "DirectRunner"], "falls back silently"),
    ]:
        with pytest.raises(UsageError, match=re.escape(complaint)):
            runners.parse_with_beam_flags(parser(), arguments)
