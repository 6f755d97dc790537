# SPDX-License-Identifier: Apache-2.0
"""Workers killed, commands stopped and killed, at moments all over an engine's job."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.pipelines import prepared
from tests.pipelines.beam import engines

pytestmark = pytest.mark.drill

# Records of finished steps that lie there: a whole job leaves some 50.
KILLS = (1, 5, 9, 13, 17, 21, 25, 29, 33, 37)
STOPS = (2, 10, 18, 26, 34)


def records(output: Path) -> int:
    return len(list((output / "_work").glob("*/[0-9]*.json")))


def come_to(moment: int, words: list[str], output: Path) -> subprocess.Popen:
    """Starts a job and returns when so many records lie there, or it has ended."""
    job = engines.command(words)
    engines.wait_for(lambda: job.poll() is not None or records(output) >= moment)
    return job


@pytest.mark.parametrize("moment", KILLS)
def test_workers_killed_at_any_moment_cost_one_error_and_no_byte(
    moment: int, words: list[str], pool: subprocess.Popen, curated: Path, tmp_path: Path
) -> None:
    job = come_to(moment, words, tmp_path / "out")
    for worker in engines.workers_of(pool):
        os.kill(worker, signal.SIGKILL)
    said = job.communicate()[1].splitlines()
    if job.returncode:
        assert job.returncode == 1 and "found one gone (killed, or" in said[-1]
        assert not [line for line in said if "Traceback" in line]
        again = engines.command(words)
        said = again.communicate()[1].splitlines()
        assert again.returncode == 0, said
    assert prepared.fingerprint(tmp_path / "out") == prepared.fingerprint(curated)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("moment", STOPS)
def test_a_job_whose_command_is_gone_does_no_harm_to_the_next(
    moment: int,
    number: int,
    words: list[str],
    pool: subprocess.Popen,
    curated: Path,
    curated_corpus: Path,
    tokenizer_file: Path,
    tmp_path: Path,
) -> None:
    """Stopped, it is gone at the engine too; killed, it finds its claim taken over."""
    job = come_to(moment, words, tmp_path / "out")
    job.send_signal(number)
    said = job.communicate()[1]
    assert job.returncode in (0, 42, -9), said
    here = (curated_corpus, tokenizer_file, tmp_path / "out", *prepared.CURATED)
    prepared.prepare(*here)
    assert prepared.fingerprint(tmp_path / "out") == prepared.fingerprint(curated)
    engines.wait_for(lambda: not engines.workers_of(pool))
    assert prepared.fingerprint(tmp_path / "out") == prepared.fingerprint(curated)
    assert not (tmp_path / "out" / "_work").exists()
