# SPDX-License-Identifier: Apache-2.0
"""The jobs on Prism, a real portable runner: same bytes, and nothing left behind."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from preprocessing.foundation.commands import UsageError
from tests.pipelines import generated, prepared
from tests.pipelines.beam import engines

pytestmark = pytest.mark.slow


def test_prism_started_by_the_command_writes_the_bytes_of_the_local_runner(
    prism: str,
    curated_corpus: Path,
    tokenizer_file: Path,
    curated: Path,
    tmp_path: Path,
) -> None:
    flags = (*prepared.CURATED, *engines.started(prism))
    found = prepared.prepare(curated_corpus, tokenizer_file, tmp_path / "out", *flags)
    assert prepared.fingerprint(found) == prepared.fingerprint(curated)
    assert not engines.running(prism)


def test_prism_started_by_the_command_generates_what_the_local_runner_does(
    prism: str, generate: Callable[..., None], finished: Path, tmp_path: Path
) -> None:
    generate(tmp_path / "out", *generated.SEEDED, *engines.started(prism))
    assert generated.shards(tmp_path / "out") == generated.shards(finished)
    assert not engines.running(prism)


@pytest.mark.parametrize(
    ("number", "status", "last"),
    [
        (signal.SIGTERM, 42, "stopped on SIGTERM; finished work is saved"),
        pytest.param(
            *(signal.SIGINT, 130, "error: wanted to finish, was interrupted"),
            marks=pytest.mark.drill,
        ),
        pytest.param(signal.SIGKILL, -9, "", marks=pytest.mark.drill),
    ],
)
def test_prism_ends_with_the_command_that_started_it(
    number: int,
    status: int,
    last: str,
    prism: str,
    curated_corpus: Path,
    tokenizer_file: Path,
    curated: Path,
    tmp_path: Path,
) -> None:
    output = tmp_path / "out"
    flags = (*prepared.CURATED, *engines.started(prism))
    words = prepared.arguments(curated_corpus, tokenizer_file, output, *flags)
    job = engines.command(words)
    engines.wait_for(lambda: engines.has_begun(output), job)
    (server,) = engines.running(prism, job.pid)
    job.send_signal(number)
    said = job.communicate()[1]
    assert job.returncode == status, said
    assert not last or said.splitlines()[-1].startswith(last)
    engines.wait_for(lambda: not engines.lives(server))
    left = prepared.states(output)
    time.sleep(1)  # what still worked would write meanwhile
    assert prepared.states(output) == left
    prepared.prepare(curated_corpus, tokenizer_file, output, *prepared.CURATED)
    assert prepared.fingerprint(output) == prepared.fingerprint(curated)


def test_a_server_that_cannot_start_is_told_in_one_line(
    curated_corpus: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    refuses = tmp_path / "prism"
    refuses.write_text("#!/bin/sh\necho 'fatal: no such luck' >&2\nexit 3\n")
    refuses.chmod(0o755)
    for flags, told in (
        (engines.started(str(refuses)), "ended at once: fatal: no such luck"),
        (engines.started("/nowhere/prism"), "/nowhere/prism"),
        (("--runner", "PortableRunner"), "--job_endpoint HOST:PORT"),
    ):
        with pytest.raises(UsageError, match=told) as caught:
            prepared.prepare(curated_corpus, tokenizer_file, tmp_path / "out", *flags)
        assert "\n" not in str(caught.value)
