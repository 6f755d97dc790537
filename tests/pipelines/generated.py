# SPDX-License-Identifier: Apache-2.0
"""Jobs of `quern-generate` over a small untrained release, and what they make."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

COUNT = 70  # three shards
SEEDED = ("--temperature", "0.9", "--seed", "4")


def write_prompts(directory: Path) -> Path:
    """Writes good prompts of all lengths, and a bad one of each kind among them."""
    lines = [
        json.dumps({"id": f"p{i}", "prompt": "the river " * (i % 9) + "é"})
        for i in range(COUNT)
    ]
    lines[10] = "not json"
    lines[33] = json.dumps({"id": "p3", "prompt": "again"})
    lines[40] = json.dumps({"id": 40, "prompt": "half \ud800"})
    lines[69] = json.dumps({"id": "p69"})
    path = directory / "prompts[1].jsonl"
    path.with_name("prompts1.jsonl").write_text("another file")
    path.write_text("\n".join(lines))
    return path


def shards(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.glob("*.jsonl")}


def joined(output: Path) -> bytes:
    return b"".join(data for _, data in sorted(shards(output).items()))


def answers(output: Path) -> list[dict]:
    return [json.loads(line) for line in joined(output).splitlines()]


def kill_at(command: list[str], moment: Callable[[], bool]) -> int:
    """Starts a job and kills it, and its workers, as soon as `moment` has come.

    Returns the exit status: the job may have ended before that.
    """
    job = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    while job.poll() is None and not moment():
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(job.pid, signal.SIGKILL)
    return job.wait()


def job_of(models: Path, prompts: Path, output: Path, workers: int) -> list[str]:
    words = ["--model", str(models), "--input", str(prompts), "--output", str(output)]
    words += ["--max_new_tokens", "6", "--temperature", "0.9", "--seed", "4"]
    module = "pipelines.batch_generate"
    return [sys.executable, "-m", module, *words, "--workers", str(workers)]
