# SPDX-License-Identifier: Apache-2.0
"""Kill drills: a preparation killed at any moment and run again writes the same bytes.

The suite kills the driver once and a worker once; `make drills` does it 20 times.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.job.plan import WORK_NAME
from tests.pipelines.prepared import (
    COMMAND,
    CURATED,
    arguments,
    fingerprint,
)

pytestmark = pytest.mark.slow

LENIENT = ("--max_reject_fraction", "0.5")
ROOT = Path(__file__).parents[3]


def start(
    corpus: Path, tokenizer_file: Path, output: Path, *more: str
) -> subprocess.Popen[str]:
    flags = arguments(corpus, tokenizer_file, output, *more)
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


def files_of(output: Path) -> int:
    """How many files steps have left so far, in the output and its work."""
    found = 0
    for directory in (output, output / "rejects", output / WORK_NAME):
        inside = directory.glob("*/*") if directory.name == WORK_NAME else ()
        beside = directory.glob("*") if directory.name != WORK_NAME else ()
        with contextlib.suppress(FileNotFoundError):  # moved away meanwhile
            found += sum(path.suffix != ".tmp" for path in (*inside, *beside))
    return found


def wait_for(job: subprocess.Popen[str], output: Path, share: float, most: int) -> None:
    """Waits until a share of the files that the job will write are there."""
    while job.poll() is None and files_of(output) < share * most:
        time.sleep(0.005)


def drill(
    corpus: Path, tokenizer_file: Path, output: Path, dataset: Path, seed: int
) -> None:
    """Kills the driver (even seeds) or a worker (odd ones), then runs again.

    The moment is a share of the files that the undisturbed job wrote, and a little: so
    each stage has its part of the kills, however slow the machine is.
    """
    rng = random.Random(seed)
    job = start(corpus, tokenizer_file, output, *CURATED)
    most = files_of(dataset) + len(list((dataset.parent / "work").glob("*/*")))
    wait_for(job, output, rng.random(), most)
    time.sleep(rng.uniform(0, 0.05))
    targets = workers_of(job.pid)
    if seed % 2 == 0 or not targets:
        job.kill()
        job.wait()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.kill(targets[seed // 2 % len(targets)], signal.SIGKILL)
        _, errors = job.communicate()
        if job.returncode:  # it may have been done just before
            assert job.returncode == 1
            assert errors.splitlines()[-1].startswith("error: wanted every worker")
            assert not (output / "manifest.json").exists()
    begun = (output / WORK_NAME / "job.json").exists()
    finished = (output / "manifest.json").exists()
    again = start(corpus, tokenizer_file, output, *CURATED)
    said, errors = again.communicate()
    assert again.returncode == 0, errors
    assert ("already the finished" in said) == finished
    assert ("going on in" in said) == (begun and not finished)
    assert fingerprint(output) == fingerprint(dataset)
    assert not (output / WORK_NAME).exists()


@pytest.mark.parametrize(
    "seed",
    [
        0,
        1,
        *(pytest.param(seed, marks=pytest.mark.drill) for seed in range(2, 22)),
    ],
)
def test_a_killed_and_restarted_job_writes_the_same_bytes(
    curated_corpus: Path, tokenizer_file: Path, curated: Path, tmp_path: Path, seed: int
) -> None:
    drill(curated_corpus, tokenizer_file, tmp_path / "out", curated, seed)


def test_a_job_asked_to_stop_says_so_and_leaves_no_process(
    corpus: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    job = start(corpus, tokenizer_file, tmp_path / "out", *LENIENT)
    wait_for_work(job, tmp_path / "out")
    targets = workers_of(job.pid)
    job.send_signal(signal.SIGTERM)
    _, errors = job.communicate()
    assert job.returncode == 42, errors
    assert errors.splitlines()[-1].startswith("stopped on SIGTERM")
    assert targets
    while any(map(runs, targets)):
        time.sleep(0.02)
