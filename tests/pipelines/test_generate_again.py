# SPDX-License-Identifier: Apache-2.0
"""Whatever workers do, and whenever a job is killed, its answers are the same bytes."""

import json
import os
import random
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from pipelines import batch_generate
from preprocessing.foundation.commands import UsageError, WorkError
from tests.pipelines.generated import SEEDED, job_of, joined, kill_at, shards
from trainer.serving import answering
from trainer.serving.loaded_release import LoadedRelease

pytestmark = pytest.mark.slow


def test_neither_batch_size_nor_workers_change_an_answer(
    generate, finished, tmp_path, capfd
):
    output = tmp_path / "out"
    capfd.readouterr()
    generate(output, *SEEDED, "--batch_size", "5", workers=3)
    assert len(shards(output)) == 7 and joined(output) == joined(finished)
    # On how many cores a worker computes is seen in the last bits of its sums.
    jobs = [json.loads((each / "job.json").read_bytes()) for each in (output, finished)]
    assert [job["threads"] for job in jobs] == [1, 1]
    # Nor do workers say anything when they end.
    said = capfd.readouterr().err.splitlines()
    assert [line for line in said if not line.startswith("generate: ")] == [
        "note: 4 errors. The first: "
        + json.loads((finished / "summary.json").read_text())["first_error"]
    ]


def test_a_job_goes_on_with_the_shards_that_are_missing(
    generate, finished, tmp_path, monkeypatch
):
    output, calls = tmp_path / "out", []

    def stop_after_two(self, index, *args):
        calls.append(index)
        if len(calls) == 3:
            raise WorkError("killed")
        return write_shard(self, index, *args)

    write_shard = batch_generate.GenerationOutput.write_shard
    monkeypatch.setattr(batch_generate.GenerationOutput, "write_shard", stop_after_two)
    with pytest.raises(WorkError, match="killed"):
        generate(output, *SEEDED)
    kept = {path: path.stat().st_mtime_ns for path in output.glob("*.jsonl")}
    assert len(kept) == 2
    monkeypatch.undo()
    generate(output, *SEEDED)
    assert shards(output) == shards(finished)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())


def test_an_input_that_changes_while_the_job_runs_is_told_and_nothing_lost(
    generate, prompts, finished, tmp_path, monkeypatch
):
    own, begun = tmp_path / prompts.name, batch_generate.GenerationOutput.open

    def changed(self, job):
        begun(self, job)
        own.write_text(own.read_text().replace("the river", "the other river"))

    flags = (*SEEDED, "--input", str(own))
    own.write_bytes(prompts.read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(batch_generate.GenerationOutput, "open", changed)
        with pytest.raises(WorkError, match=f"{re.escape(str(own))} .*has changed sin"):
            generate(tmp_path / "out", *flags)
    with pytest.raises(UsageError, match="found another input_sha256"):
        generate(tmp_path / "out", *flags)
    own.write_bytes(prompts.read_bytes())
    generate(tmp_path / "out", *flags)
    assert shards(tmp_path / "out") == shards(finished)


def test_a_process_holds_one_release_and_asks_it_one_chunk_at_a_time(
    generate, finished, tmp_path, monkeypatch
):
    """However many threads of Beam's it has: here three workers in one process."""
    loads, inside, most = [], [], []
    load, answer = LoadedRelease.__init__, answering.answer_texts

    def counted(self, *args):
        loads.append(args)
        load(self, *args)

    def watched(*args):
        inside.append(args)
        most.append(len(inside))
        found = answer(*args)
        inside.pop()
        return found

    monkeypatch.setattr(LoadedRelease, "__init__", counted)
    monkeypatch.setattr(answering, "answer_texts", watched)
    threads = ("--runner", "FnApiRunner", "--direct_running_mode", "multi_threading")
    flags = (*SEEDED, *threads)
    generate(tmp_path / "out", *flags, workers=3, loads=True)
    assert shards(tmp_path / "out") == shards(finished)
    assert len(loads) == 1 and most == [1, 1, 1]


def test_a_job_killed_at_three_moments_ends_with_the_same_answers(
    generate, models, prompts, finished, tmp_path
):
    output = tmp_path / "out"
    command = job_of(models, prompts, output, 1)
    for pattern in ("job.json", ".work/chunk-00001", "generations-*"):
        assert kill_at(command, lambda p=pattern: any(output.glob(p))) == -9
    generate(output, *SEEDED)
    assert shards(output) == shards(finished)
    assert not any(name.startswith(".") for name in os.listdir(output))


@pytest.mark.drill
@pytest.mark.parametrize("workers", [1, 3])
def test_a_job_killed_at_twenty_moments_ends_with_the_same_answers(
    models, prompts, finished, tmp_path, workers
):
    output, chooser, statuses = tmp_path / "out", random.Random(workers), []
    command, began = job_of(models, prompts, output, workers), time.monotonic()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    life = time.monotonic() - began
    shutil.rmtree(output)
    while statuses.count(-9) < 20:
        end = time.monotonic() + chooser.uniform(0.03, 1) * life
        statuses.append(kill_at(command, lambda end=end: time.monotonic() > end))
        for name, data in shards(output).items():
            assert data == shards(finished)[name]
        if statuses[-1] == 0:  # done: another one begins
            assert shards(output) == shards(finished)
            shutil.rmtree(output)
    print(f"{len(statuses)} jobs, of which 20 were killed, within {life:.1f} s")
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert shards(output) == shards(finished)


@pytest.mark.drill
def test_memory_does_not_grow_with_the_number_of_prompts(models, tmp_path):
    """The peak of a job of 10,000 prompts is the same in its second half."""
    lines = (json.dumps({"text": "the river " * (i % 9)}) for i in range(10_000))
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    output = tmp_path / "out"
    command = job_of(models, tmp_path / "in.jsonl", output, 1)
    job, halves = subprocess.Popen(command, stderr=subprocess.DEVNULL), [[], []]
    while job.poll() is None:
        done = len(list(output.glob("generations-*")))
        status = Path(f"/proc/{job.pid}/status").read_text()
        resident = re.search(r"VmRSS:\s+(\d+) kB", status)
        if resident and done > 2:
            halves[done > 20].append(int(resident[1]) / 1024)
        time.sleep(0.05)
    assert job.returncode == 0 and len(shards(output)) == 40
    first, second = (max(half) for half in halves)
    print(f"peak of the first half {first:.0f} MB, of the second {second:.0f} MB")
    assert second < first + 30  # MB; prompts and answers are 2 MB together
