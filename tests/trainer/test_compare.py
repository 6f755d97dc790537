# SPDX-License-Identifier: Apache-2.0
"""Runs compared: their names, curves and numbers, and what cannot be compared."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.foundation.commands import UsageError
from trainer import compare
from trainer.comparison.figure import draw_png
from trainer.comparison.page import draw_page
from trainer.comparison.run_curves import Curve, differing, read_curves, short_names
from trainer.data.input_pipeline import DataConfig
from trainer.optimizers.optimizer import OptimizerConfig
from trainer.run.config import RunConfig
from trainer.run.run_directory import write_run

CONFIG = RunConfig(data=DataConfig(sequence_length=64, global_batch_size=4))
PATHS = st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map("/".join)


def line(step, loss, speed):
    return {"step": step, "loss": loss, "tokens_per_second": speed, "mfu": None}


def evaluation(step, loss):
    return {"step": step, "validation_loss": loss, "bits_per_byte": loss / 2}


LINES = (
    line(10, 3.0, 256.0),
    line(20, None, 512.0),
    evaluation(20, 2.5),
    line(30, 2.0, 512.0),
    evaluation(30, 2.75),
)


@pytest.fixture
def make_run(manifest, dataset, tmp_path):
    """Writes a run of given lines; returns its path."""

    def make(name, config=CONFIG, lines=LINES):
        run = str(tmp_path / name)
        tokenizer = (dataset / "tokenizer.json").read_bytes()
        write_run(run, config, manifest, tokenizer, manifest.dataset_hash)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / name / "metrics.jsonl").write_text(text)
        return run

    return make


@given(st.lists(PATHS, min_size=1, max_size=5, unique=True))
def test_a_runs_name_is_an_end_of_its_path_and_tells_it_from_the_others(paths):
    names = short_names(paths)
    assert len(set(names)) == len(paths)
    for path, name in zip(paths, names, strict=True):
        assert f"/{path}".endswith(f"/{name}")


def test_names_are_no_longer_than_they_must_be():
    assert short_names(["s3://x/may/base/", "june/base"]) == ["may/base", "june/base"]
    assert short_names(["runs/a", "runs/b"]) == ["a", "b"]


def test_tokens_and_training_time_follow_from_the_lines(make_run):
    (run,) = read_curves([make_run("a")])
    assert run.tokens.tolist() == [2560, 5120, 7680]
    assert run.seconds.tolist() == [10.0, 15.0, 20.0]
    steps = np.array([5, 25])
    assert run.tokens_at(steps).tolist() == [1280.0, 6400.0]
    assert run.seconds_at(steps).tolist() == [5.0, 17.5]


def test_runs_whose_loss_is_not_finite_are_drawn_without_it(make_run):
    nan = float("nan")
    odd = [line(40, nan, 512.0), evaluation(40, float("inf"))]
    runs = read_curves([make_run("a", lines=[*LINES, *odd]), make_run("b", lines=odd)])
    assert runs[0].loss.steps.tolist() == [10, 30]
    assert runs[1].validation.steps.tolist() == []
    assert b"nan" not in draw_page(runs) and draw_png(runs)


def test_a_growing_batch_counts_the_tokens_it_had(make_run):
    data = dataclasses.replace(CONFIG.data, initial_batch_size=1, ramp_steps=20)
    config = dataclasses.replace(CONFIG, data=data)
    (run,) = read_curves([make_run("a", config)])
    rows = [sum(map(data.batch_schedule.size, range(n))) for n in (10, 20, 30)]
    assert run.tokens.tolist() == [64 * n for n in rows]


def test_a_line_without_a_loss_is_no_point_of_its_curve(make_run):
    (run,) = read_curves([make_run("a")])
    assert run.loss.steps.tolist() == [10, 30]
    assert run.validation.values.tolist() == [2.5, 2.75]


@given(st.integers(1, 300), st.floats(-100, 100))
def test_a_constant_is_smoothed_to_itself(count, value):
    curve = Curve(np.arange(count), np.full(count, value))
    assert np.allclose(curve.smoothed, value, rtol=1e-12, atol=0)


def test_only_settings_that_change_numbers_and_differ_are_told(make_run):
    other = dataclasses.replace(
        CONFIG,
        optimizer=OptimizerConfig(weight_decay=0.5),
        loop=dataclasses.replace(CONFIG.loop, log_every=7, total_steps=77),
        compute=dataclasses.replace(CONFIG.compute, lanes=4),
    )
    runs = read_curves([make_run("a"), make_run("b", other)])
    default = str(OptimizerConfig().weight_decay)
    assert differing(runs) == {
        "optimizer.weight_decay": [default, "0.5"],
        "loop.total_steps": [str(CONFIG.loop.total_steps), "77"],
    }


@pytest.mark.parametrize("output", ["out/x", "out/x.png", "out/x.html"])
def test_both_files_are_named_by_one_flag_and_their_directory_is_made(tmp_path, output):
    stem = tmp_path / "out" / "x"
    named = compare.choose_outputs(str(tmp_path / output))
    assert named == [f"{stem}.png", f"{stem}.html"]
    assert stem.parent.is_dir()


def test_the_page_has_the_best_numbers_and_the_same_runs_give_the_same_bytes(
    make_run, tmp_path, capsys
):
    runs = [make_run("a&b"), make_run("c", lines=[line(10, 3.0, 1.0)])]
    for name in ("one", "two"):
        compare.main([*runs, "--output", str(tmp_path / name)])
        said = capsys.readouterr().out.splitlines()[-1]
        assert said == f"wrote {tmp_path / name}.png and {tmp_path / name}.html"
    page = (tmp_path / "one.html").read_text()
    assert "2.5000 (step 20)" in page and "1.2500 (step 20)" in page
    assert "a&amp;b" in page and "a&b" not in page
    for ending in ("html", "png"):
        first, second = ((tmp_path / f"{n}.{ending}") for n in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()


def test_what_cannot_be_compared_or_written_is_said_before_anything_is(
    make_run, tmp_path
):
    run, empty = make_run("a"), make_run("empty", lines=[])
    (tmp_path / "taken.html").mkdir()
    refused = {
        "found a.. twice": [run, f"{run}/", "--output", str(tmp_path / "x")],
        "wanted lines of training": [empty, "--output", str(tmp_path / "x")],
        "found a directory": [run, "--output", str(tmp_path / "taken")],
        "wanted --output FILE": [run, "--output", f"{tmp_path}/.png"],
        "wanted a directory for": [run, "--output", f"{run}/config.json/x"],
        "wanted to write /proc/x.png, failed": [run, "--output", "/proc/x"],
    }
    for message, arguments in refused.items():
        with pytest.raises(UsageError, match=message.replace("a..", f"{run}/")):
            compare.main(arguments)
    assert not list(tmp_path.glob("*.png"))
