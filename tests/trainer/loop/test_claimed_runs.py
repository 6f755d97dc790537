# SPDX-License-Identifier: Apache-2.0
"""One training at a time writes a run's directory."""

import json
import os
import subprocess
import sys

import pytest

from preprocessing.claims.claims import CLAIM_NAME, Held, claimed
from preprocessing.foundation import storage
from preprocessing.foundation.commands import WorkError
from tests.trainer.small_runs import small_run
from trainer import evaluate, task
from trainer.run import checkpoints
from trainer.run.metrics import MetricsFiles, read_lines

PAIRS = ("loop.total_steps=6", "loop.log_every=1", "loop.save_every=2")


def steps(run):
    lines = read_lines(storage.join(str(run), "metrics.jsonl"))
    return [line["step"] for line in lines if "loss" in line]


@pytest.mark.slow
@pytest.mark.parametrize("place", ["disk", "bucket"])
def test_a_second_training_is_refused_and_changes_nothing(
    dataset, tmp_path, place, request
):
    run = str(tmp_path / "run")
    if place == "bucket":
        run = f"{request.getfixturevalue('bucket')}/held"
    flags = small_run(dataset, run, *PAIRS)
    with claimed(run, "it") as claim:
        with pytest.raises(Held, match=f"--run {run} .*process {os.getpid()} on"):
            task.main(flags)
        assert storage.list_names(run) == [CLAIM_NAME]
        claim.check()
    task.main(flags)
    assert steps(run) == [1, 2, 3, 4, 5, 6]
    assert CLAIM_NAME not in storage.list_names(run)
    with claimed(run, "it"):  # who only reads is not in anyone's way
        if place == "disk":
            evaluate.main(["--run", run, "--data", str(dataset)])
        before = {name: storage.exists(name) for name in storage.list_names(run)}
        with pytest.raises(Held):
            task.main([*flags, "loop.total_steps=8"])
        assert {name: storage.exists(name) for name in storage.list_names(run)} == (
            before
        )
    assert steps(run) == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["line", "save"])
def test_a_training_that_was_taken_over_writes_nothing_more(
    dataset, tmp_path, monkeypatch, lost
):
    """As one that stood still for minutes beside another host's."""
    run = tmp_path / "run"
    append = MetricsFiles.append
    other = json.dumps({"token": "ab" * 16})

    def append_and_lose(files, line, curves=None):
        append(files, line, curves)
        if line.step == 3:
            (run / CLAIM_NAME).unlink()
            (run / CLAIM_NAME).write_text(other)

    pairs = PAIRS if lost == "line" else (*PAIRS, "loop.log_every=3")
    monkeypatch.setattr(MetricsFiles, "append", append_and_lose)
    with pytest.raises(WorkError, match=r"wanted our claim on --run .*/run"):
        task.main(small_run(dataset, run, *pairs))
    assert steps(run)[-1] == 3
    assert set(checkpoints.steps(str(run))) <= {2}
    assert (run / CLAIM_NAME).read_text() == other, "the other one's, and stays"


@pytest.mark.slow
def test_both_workers_of_a_second_training_say_who_holds_the_first(dataset, tmp_path):
    run = str(tmp_path / "run")
    command = [sys.executable, "-m", "trainer.launch", "--workers", "2", "--"]
    with claimed(run, "it"):
        ended = subprocess.run(
            [*command, "quern-train", *small_run(dataset, run, *PAIRS)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert os.listdir(run) == [CLAIM_NAME]
    assert ended.returncode == 2, ended.stderr
    said = f"error: wanted --run {run} to ourselves, found it in use by process "
    for worker in ("worker 0", "worker 1"):
        assert f"[{worker}] {said}{os.getpid()} on" in ended.stderr
