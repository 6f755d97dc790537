# SPDX-License-Identifier: Apache-2.0
"""Kill drills: a preparation killed at any moment and run again writes the same bytes.

The suite kills the driver once and a worker once; `make drills` does it many times.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pipelines.prepared import (
    SMALL_SHARD,
    SMALL_TASK,
    arguments,
    fingerprint,
)

ROOT = Path(__file__).parents[2]
# The command in a process of its own, with tasks small enough to be killed among.
COMMAND = (
    "from pipelines import plan, prepare_corpus;"
    f"plan.TASK_BYTES, plan.SHARD_INPUT_BYTES = {SMALL_TASK}, {SMALL_SHARD};"
    "prepare_corpus.cli()"
)
# From the first task's record on, a job of this size lives about so long.
LIFE_SECONDS = 1.0


def start(
    corpus: Path, tokenizer_file: Path, output: Path, *more: str
) -> subprocess.Popen[str]:
    lenient = ("--max_reject_fraction", "0.5")
    flags = arguments(corpus, tokenizer_file, output, *lenient, *more)
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *flags, "--workers", "2"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def workers_of(pid: int) -> list[int]:
    """The worker processes below a driver."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in children for child in file.read_text().split()]


def runs(pid: int) -> bool:
    """Whether a process lives; one that only waits to be reaped does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"


def wait_for_work(job: subprocess.Popen[str], output: Path) -> None:
    while not list((output / "_work" / "tasks").glob("*.json")):
        assert job.poll() is None, job.stderr and job.stderr.read()
        time.sleep(0.02)


def drill(
    corpus: Path,
    tokenizer_file: Path,
    output: Path,
    dataset: Path,
    seed: int,
    *more: str,
) -> None:
    """Kills the driver (even seeds) or a worker (odd ones), then runs again."""
    job = start(corpus, tokenizer_file, output, *more)
    wait_for_work(job, output)
    time.sleep(random.Random(seed).uniform(0, LIFE_SECONDS))
    targets = workers_of(job.pid)
    if seed % 2 == 0 or not targets:
        os.kill(job.pid, signal.SIGKILL)
        job.wait()
    else:
        os.kill(targets[seed // 2 % len(targets)], signal.SIGKILL)
        _, errors = job.communicate(timeout=120)
        if job.returncode:  # it may have been done just before
            assert job.returncode == 1
            assert errors.splitlines()[-1].startswith("error: wanted every worker")
            assert not (output / "manifest.json").exists()
    again = start(corpus, tokenizer_file, output, *more)
    said, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
    assert "going on in" in said or "already the finished" in said
    assert fingerprint(output) == fingerprint(dataset)
    assert not (output / "_work").exists()


@pytest.mark.parametrize("seed", [0, 1])
def test_a_killed_and_restarted_job_writes_the_same_bytes(
    corpus: Path, tokenizer_file: Path, dataset: Path, tmp_path: Path, seed: int
) -> None:
    drill(corpus, tokenizer_file, tmp_path / "out", dataset, seed)


def test_a_job_asked_to_stop_says_so_and_leaves_no_process(
    corpus: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    job = start(corpus, tokenizer_file, tmp_path / "out")
    wait_for_work(job, tmp_path / "out")
    targets = workers_of(job.pid)
    job.send_signal(signal.SIGTERM)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == 42, errors
    assert errors.splitlines()[-1].startswith("stopped on SIGTERM")
    time.sleep(0.5)
    assert targets and not any(map(runs, targets))


@pytest.mark.drill
@pytest.mark.parametrize("seed", range(2, 26))
def test_a_job_killed_at_many_moments_writes_the_same_bytes(
    corpus: Path, tokenizer_file: Path, dataset: Path, tmp_path: Path, seed: int
) -> None:
    drill(corpus, tokenizer_file, tmp_path / "out", dataset, seed)
