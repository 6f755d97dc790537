# SPDX-License-Identifier: Apache-2.0
"""Jobs at an engine that was there before, with workers from quern-beam-worker."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipelines import generated, prepared
from tests.pipelines.beam import engines

pytestmark = pytest.mark.slow


def test_an_engine_with_a_pool_writes_the_bytes_of_the_local_runner(
    prism_address: str,
    pool_address: str,
    pool: subprocess.Popen,
    curated_corpus: Path,
    tokenizer_file: Path,
    curated: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # where no worker is
    (tmp_path / "input").symlink_to(curated_corpus)
    flags = (*prepared.CURATED, *engines.there(prism_address, pool_address))
    found = prepared.prepare(Path("input"), tokenizer_file, Path("out"), *flags)
    assert prepared.fingerprint(found) == prepared.fingerprint(curated)
    engines.wait_for(lambda: not engines.workers_of(pool))


@pytest.mark.drill
def test_an_engine_with_a_pool_generates_what_the_local_runner_does(
    prism_address: str,
    pool_address: str,
    pool: subprocess.Popen,
    generate: Callable[..., None],
    finished: Path,
    tmp_path: Path,
) -> None:
    flags = (*generated.SEEDED, *engines.there(prism_address, pool_address))
    generate(tmp_path / "out", *flags)
    assert generated.shards(tmp_path / "out") == generated.shards(finished)


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.drill)]
)
def test_a_signal_cancels_the_job_at_the_engine(
    number: int,
    words: list[str],
    prism_address: str,
    pool: subprocess.Popen,
    curated_corpus: Path,
    tokenizer_file: Path,
    curated: Path,
    tmp_path: Path,
) -> None:
    output = tmp_path / "out"
    job = engines.command(words)
    engines.wait_for(lambda: engines.has_begun(output), job)
    assert engines.workers_of(pool)
    job.send_signal(number)
    said = job.communicate()[1]
    assert job.returncode in (42, 130) and "note: cancelling the job of" in said
    assert engines.last_state(prism_address) == "CANCELLED"
    engines.wait_for(lambda: not engines.workers_of(pool))
    left = prepared.states(output)
    assert not (output / "manifest.json").exists()
    prepared.prepare(curated_corpus, tokenizer_file, output, *prepared.CURATED)
    assert prepared.fingerprint(output) == prepared.fingerprint(curated)
    assert left.keys() != prepared.states(output).keys()


@pytest.mark.drill  # of 45 workers killed at Prism, the job of one never ended
def test_a_killed_worker_is_one_line_and_the_same_command_goes_on(
    words: list[str], pool: subprocess.Popen, curated: Path, tmp_path: Path
) -> None:
    job = engines.command(words)
    engines.wait_for(lambda: engines.has_begun(tmp_path / "out"), job)
    for worker in engines.workers_of(pool):
        os.kill(worker, signal.SIGKILL)
    said = job.communicate()[1].splitlines()
    assert job.returncode == 1 and "found one gone (killed, or out of me" in said[-1]
    assert not [line for line in said if "Traceback" in line or "StatusCode" in line]
    again = engines.command(words)
    assert again.wait() == 0, again.communicate()[1]
    assert prepared.fingerprint(tmp_path / "out") == prepared.fingerprint(curated)


def test_a_pool_ends_its_workers_and_shares_its_port_with_none(
    prism: str, words: list[str], tmp_path: Path
) -> None:
    server, address = engines.free_address(), engines.free_address()
    with engines.prism_at(prism, server), engines.pool_at(address) as pool:
        second = [sys.executable, "-m", "pipelines.beam_worker", "--port"]
        second.append(address.split(":")[1])
        refused = subprocess.run(second, capture_output=True, text=True, check=False)
        assert refused.returncode == 2
        assert refused.stderr.startswith(f"error: wanted to listen at {address}, found")
        job = engines.command([*words, *engines.there(server, address)])
        engines.wait_for(lambda: engines.has_begun(tmp_path / "out"), job)
        workers = engines.workers_of(pool)
        pool.terminate()
        assert pool.communicate()[0] == "ended, and no worker is left\n"
        assert pool.returncode == 0 and workers
        assert not [worker for worker in workers if engines.lives(worker)]
        assert "found one gone" in job.communicate()[1].splitlines()[-1]
        assert job.returncode == 1
