# SPDX-License-Identifier: Apache-2.0
"""Runs on a mixture: trained like any dataset, evaluated source by source."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.datasets import write_dataset
from tests.trainer.small_runs import small_run
from trainer import evaluate, task
from trainer.run.metrics import read_lines

pytestmark = pytest.mark.slow

SOURCES = ("books", "code", "web")
BRIEF = ("loop.total_steps=2", "loop.log_every=1", "data.global_batch_size=4")


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    directory = tmp_path_factory.mktemp("mixture") / "dataset"
    return write_dataset(directory, sources=SOURCES)


def train(data, run, *pairs):
    task.main(small_run(data, run, *BRIEF, *pairs))


@pytest.fixture(scope="module")
def run(mixture, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    train(mixture, path)
    return path


def evaluated(text):
    return json.loads(text.splitlines()[-1])


def test_the_numbers_of_the_sources_make_up_the_whole(mixture, run, capsys):
    evaluate.main(["--run", str(run), "--data", str(mixture)])
    whole = evaluated(capsys.readouterr().out)
    assert tuple(whole["sources"]) == SOURCES
    parts = list(whole["sources"].values())
    tokens = [part["tokens"] for part in parts]
    assert sum(tokens) == whole["tokens"]
    loss = np.average([part["loss"] for part in parts], weights=tokens)
    assert loss == pytest.approx(whole["loss"], rel=1e-9)
    assert all(set(part) == {*whole} - {"sources"} for part in parts)


def test_an_evaluation_while_training_writes_what_the_command_finds(
    mixture, run, capsys
):
    evaluate.main(["--run", str(run), "--data", str(mixture)])
    whole = evaluated(capsys.readouterr().out)
    line = read_lines(str(run / "metrics.jsonl"))[-1]
    assert line["validation_loss"] == pytest.approx(whole["loss"], rel=1e-5)
    for name, part in whole["sources"].items():
        found = line["sources"][name]
        assert found["tokens"] == part["tokens"]
        assert found["bits_per_byte"] == pytest.approx(part["bits_per_byte"], rel=1e-5)


@pytest.mark.drill
def test_two_replicas_find_the_numbers_of_one(mixture, run, capsys):
    evaluate.main(["--run", str(run), "--data", str(mixture)])
    one = evaluated(capsys.readouterr().out)
    command = [sys.executable, "-m", "trainer.evaluate", "--run", str(run)]
    flags = ["--data", str(mixture), "--strategy", "mirrored", "--logical_cpus", "2"]
    answer = subprocess.run(
        [*command, *flags],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    two = evaluated(answer.stdout)
    for name in SOURCES:
        assert two["sources"][name]["tokens"] == one["sources"][name]["tokens"]
        assert two["sources"][name]["loss"] == pytest.approx(
            one["sources"][name]["loss"], rel=1e-5
        )


def test_a_run_on_one_source_says_nothing_of_sources(dataset, tmp_path, capsys):
    train(dataset, tmp_path / "run")
    evaluate.main(["--run", str(tmp_path / "run"), "--data", str(dataset)])
    names = {"loss", "perplexity", "bits_per_byte", "tokens"}
    assert set(evaluated(capsys.readouterr().out)) == names
    lines = read_lines(str(tmp_path / "run" / "metrics.jsonl"))
    assert set(lines[-1]) == {"step", "validation_loss", "bits_per_byte"}


def test_a_mixture_is_read_at_a_divisor_of_its_length(mixture, tmp_path, capsys):
    train(mixture, tmp_path / "run", "data.sequence_length=16")
    evaluate.main(["--run", str(tmp_path / "run"), "--data", str(mixture)])
    whole = evaluated(capsys.readouterr().out)
    tokens = [part["tokens"] for part in whole["sources"].values()]
    assert sum(tokens) == whole["tokens"] > 0
