# SPDX-License-Identifier: Apache-2.0
"""What an engine can fail at is told in one line, which names the first cause."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from pipelines.beam import job_server
from pipelines.prepare import prepare_graph
from preprocessing.foundation.commands import UsageError, WorkError
from tests.pipelines import prepared
from tests.pipelines.beam import engines

pytestmark = pytest.mark.slow


@pytest.fixture
def prepare(corpus: Path, tokenizer_file: Path, tmp_path: Path) -> Callable[..., Path]:
    """Prepares with the flags of an engine."""

    def run(*flags: str) -> Path:
        return prepared.prepare(corpus, tokenizer_file, tmp_path / "out", *flags)

    return run


@pytest.mark.parametrize("listens", [False, True])
def test_an_endpoint_that_does_not_answer_is_named_soon(listens: bool) -> None:
    assert 2 * job_server.ANSWER_SECONDS < 30  # to be reached, and to answer
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        if listens:
            silent.listen()
        with pytest.raises(UsageError) as caught:
            job_server.check_answers(address, seconds=0.5)
    assert f"--job_endpoint {address}, found none that answers" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_of_something_else_is_not_taken_for_a_job_server(
    prepare: Callable[..., Path],
) -> None:
    address = engines.free_address()
    with engines.pool_at(address), pytest.raises(UsageError) as caught:
        prepare(*engines.there(address, address))
    assert "what does not answer as one does" in str(caught.value)


def test_workers_that_an_engine_cannot_reach_are_named(
    prism: str, prepare: Callable[..., Path]
) -> None:
    nowhere = engines.free_address()
    external = ("--environment_type", "EXTERNAL", "--environment_config", nowhere)
    with pytest.raises(WorkError) as caught:
        prepare(*engines.started(prism), *external)
    assert f"unable to start sdk worker {nowhere}" in str(caught.value)
    assert "\n" not in str(caught.value) and not engines.running(prism)


@pytest.mark.drill  # an engine may be silent for 20 s
def test_an_engine_that_is_gone_is_named_with_its_workers(
    prism: str, prepare: Callable[..., Path]
) -> None:
    address, nowhere = engines.free_address(), engines.free_address()
    # Prism ends when it finds no workers.
    with engines.prism_at(prism, address), pytest.raises(WorkError) as caught:
        prepare(*engines.there(address, nowhere))
    assert f"PortableRunner at {address} to answer" in str(caught.value)
    assert f"cannot reach at {nowhere}" in str(caught.value)
    assert "\n" not in str(caught.value) and "StatusCode" not in str(caught.value)


def test_a_step_that_fails_there_fails_as_it_would_here(
    prism: str, prepare: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise WorkError("wanted a, found: b: c. Do d")

    # Both runners work in this process: Prism's worker is a thread of the command.
    monkeypatch.setattr(prepare_graph, "tokenize_task", fail)
    for flags in ((), engines.started(prism)):
        with pytest.raises(WorkError) as caught:
            prepare(*flags)
        assert str(caught.value) == "wanted a, found: b: c. Do d"
