# SPDX-License-Identifier: Apache-2.0
"""The commands quern-train and quern-evaluate: what they make and what they refuse."""

import hashlib
import json
import os
import shutil
from dataclasses import replace

import pytest

from preprocessing.contracts.manifest import (
    TOKENIZER_NAME,
    read_manifest,
    write_manifest,
)
from preprocessing.foundation.commands import Interrupted, UsageError, WorkError
from tests.datasets import write_dataset
from tests.trainer.small_runs import SMALL
from trainer import evaluate, export, task
from trainer.run import checkpoints
from trainer.run.metrics import read_lines

BRIEF = (*SMALL, "loop.total_steps=4", "loop.log_every=2", "loop.steps_per_loop=2")


def train(data, run, *pairs, flags=("--preset", "tiny")):
    """Runs quern-train in this process."""
    task.main(["--data", str(data), "--run", str(run), *flags, "--set", *BRIEF, *pairs])


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    """A run of four steps, to be left as it is."""
    run = tmp_path_factory.mktemp("task") / "run"
    train(dataset, run)
    return run


@pytest.fixture
def run(finished, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(finished, tmp_path / "run")


@pytest.mark.slow
def test_a_run_holds_what_the_contract_says(dataset, finished):
    names = {name for name in os.listdir(finished) if "tfevents" not in name}
    assert names == {
        "checkpoints",
        "config.json",
        "manifest.json",
        "metrics.jsonl",
        "tokenizer.json",
    }
    for name in ("manifest.json", "tokenizer.json"):
        assert (finished / name).read_bytes() == (dataset / name).read_bytes()
    config = json.loads((finished / "config.json").read_text())
    assert config["data"]["sequence_length"] == 64
    assert checkpoints.steps(str(finished)) == [4]


@pytest.mark.slow
def test_a_runs_own_configuration_starts_the_same_run(dataset, finished, tmp_path):
    config = ("--config", str(finished / "config.json"))
    train(dataset, tmp_path / "again", flags=config)
    one, other = (
        json.loads((path / "config.json").read_text())
        for path in (finished, tmp_path / "again")
    )
    assert one == other


@pytest.mark.slow
def test_an_occupied_directory_resumes_and_says_so(dataset, run, capsys):
    train(dataset, run, "loop.total_steps=6", flags=())
    assert f"resuming {run} at step 4" in capsys.readouterr().err
    lines = read_lines(str(run / "metrics.jsonl"))
    assert [line["step"] for line in lines] == [2, 4, 4, 6, 6]
    assert checkpoints.steps(str(run)) == [4, 6]


@pytest.mark.slow
def test_a_run_that_cannot_be_exported_says_so_when_it_starts(
    dataset, tmp_path, capsys
):
    data = shutil.copytree(dataset, tmp_path / "data")
    tree = json.loads((data / TOKENIZER_NAME).read_text())
    named = json.dumps({**tree, "normalizer": {"type": "NFKC"}}).encode()
    (data / TOKENIZER_NAME).write_bytes(named)
    digest = hashlib.sha256(named).hexdigest()
    manifest = replace(read_manifest(str(data)), tokenizer_sha256=digest)
    write_manifest(str(data), manifest)
    refusal = "quern-export will refuse this run"
    train(dataset, tmp_path / "plain")
    assert refusal not in capsys.readouterr().err
    train(data, tmp_path / "run")
    printed = capsys.readouterr().err
    assert refusal in printed and "its normaliser NFKC" in printed
    with pytest.raises(UsageError, match="its normaliser NFKC"):
        export.main(["--run", str(tmp_path / "run"), "--output", str(tmp_path / "m")])


@pytest.mark.slow
def test_a_finished_run_says_that_it_is_done(dataset, run, capsys):
    before = (run / "metrics.jsonl").read_bytes()
    train(dataset, run)
    assert "step 4 is already done" in capsys.readouterr().err
    assert (run / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
def test_stopping_after_a_step_is_not_remembered(dataset, tmp_path):
    train(dataset, tmp_path / "run", "loop.stop_after_step=2")
    assert checkpoints.steps(str(tmp_path / "run")) == [2]
    train(dataset, tmp_path / "run", flags=())
    assert checkpoints.steps(str(tmp_path / "run")) == [2, 4]


@pytest.mark.slow
def test_only_the_loop_may_differ_on_resume(dataset, run):
    with pytest.raises(UsageError) as error:
        train(dataset, run, "optimizer.weight_decay=0.5", "seed=3")
    assert "optimizer.weight_decay: 0.1 -> 0.5; seed: 0 -> 3" in str(error.value)


@pytest.mark.slow
def test_another_dataset_is_refused_on_resume(run, tmp_path):
    other = write_dataset(tmp_path / "other", seed=1)
    with pytest.raises(UsageError, match="wanted the dataset that"):
        train(other, run)


def test_a_directory_that_is_something_else_is_refused(dataset, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(UsageError, match=r"found photo\.jpg and no config\.json"):
        train(dataset, tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        train(dataset, tmp_path / "photo.jpg")
    assert os.listdir(tmp_path) == ["photo.jpg"]


def test_a_directory_that_is_not_a_dataset_is_refused(tmp_path):
    with pytest.raises(UsageError, match="found nothing"):
        train(tmp_path / "absent", tmp_path / "run")
    (tmp_path / "data").mkdir()
    with pytest.raises(UsageError, match=r"found no manifest\.json"):
        train(tmp_path / "data", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("pairs", "complaint"),
    [
        (["data.sequence_length=48"], "divides the dataset's 64, found 48"),
        (["data.micro_batch_size=3"], "micro_batch_size"),
        (["model.hidden=3"], "unknown model.hidden"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    dataset, tmp_path, pairs, complaint
):
    with pytest.raises(UsageError, match=complaint):
        train(dataset, tmp_path / "run", *pairs)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["--data", "d"], "wanted --run DIR"),
        (["--run", "r"], "wanted --data DATASET"),
        (["--list_presets", "--preset", "tiny"], "found --preset. Leave it out"),
        (["--list_keys", "--data", "d", "--dry_run"], "found --data, --dry_run"),
        (["--list_keys", "--list_presets"], "not allowed with"),
        (["--list_keys", "--preset", "350n"], "Did you mean 350m"),
        (["--data", "d", "--run", "r", "--presett", "tiny"], "Did you mean --preset"),
        (["--data", "d", "--run", "r", "--max_duration", "0"], "above 0 and finite"),
        (["--data", "d", "--run", "r", "--max_duration", "nan"], "found nan"),
        (["--data", "d", "--dry_run", "--device_memory", "nan"], "found nan"),
    ],
)
def test_wrong_flags_are_refused(argv, complaint):
    with pytest.raises(UsageError, match=complaint):
        task.main(argv)


def test_presets_and_keys_are_listed_without_a_dataset(capsys):
    task.main(["--list_keys", "--preset", "tiny", "--set", "seed=7"])
    out = capsys.readouterr().out
    assert "\n  seed=7 (default 0)\n" in out
    assert "\n  model.num_layers=2 (default 4)\n" in out
    task.main(["--list_presets"])
    assert capsys.readouterr().out.startswith("  tiny\n      A decoder of two")


def test_a_new_run_needs_a_preset_or_a_file(dataset, tmp_path):
    with pytest.raises(UsageError, match="wanted --preset NAME or --config FILE"):
        train(dataset, tmp_path / "run", flags=())


def test_a_tokenizer_that_did_not_encode_the_dataset_is_refused(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "dataset")
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match="another SHA-256"):
        train(copy, tmp_path / "run")


def test_a_truncated_shard_is_refused_and_a_corrupted_one_fails_by_name(
    dataset, tmp_path
):
    copy = shutil.copytree(dataset, tmp_path / "dataset")
    shard = copy / read_manifest(str(copy)).splits["train"].shards[0].name
    data = bytearray(shard.read_bytes())
    shard.write_bytes(bytes(data[:-64]))
    with pytest.raises(UsageError, match=f"wanted shard {shard.name}"):
        train(copy, tmp_path / "run")
    data[100] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(WorkError, match=f"{shard.name} as it was written"):
        train(copy, tmp_path / "run")


@pytest.mark.slow
def test_the_time_limit_saves_and_stops(dataset, tmp_path):
    with pytest.raises(Interrupted, match=r"saved at step 2 .* --max_duration"):
        train(dataset, tmp_path / "run", flags=_limited("0.001"))
    assert checkpoints.steps(str(tmp_path / "run")) == [2]


def _limited(seconds):
    return ("--preset", "tiny", "--max_duration", seconds)


def test_a_dry_run_prints_the_cost_and_writes_nothing(dataset, tmp_path, capsys):
    train(dataset, tmp_path / "run", flags=("--preset", "tiny", "--dry_run"))
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    # 300 x 32 embeddings (tied); in a layer 4 x 32^2 attention, 3 x 32 x 64 feed
    # forward and 2 x 32 scales; 32 more at the end.
    assert int(lines["parameters"].replace(",", "")) == 300 * 32 + 10_304 + 32
    assert lines["tokens to train"].strip().startswith("2,048 ")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_perplexity_beyond_float64_is_null_with_a_note(dataset, tmp_path, capsys):
    wild = ("peak_learning_rate=1000", "weight_decay=900", "warmup_steps=0")
    keys = ("name=sgd", "schedule=constant", "decay_embeddings=true", *wild)
    guard = ("guard.skip_budget=99", "guard.spike_sigmas=0")
    run = tmp_path / "run"
    train(dataset, run, *(f"optimizer.{key}" for key in keys), *guard)
    evaluate.main(["--run", str(run), "--data", str(dataset)])
    text = capsys.readouterr().out.splitlines()[-1]
    result = json.loads(text)
    assert result["loss"] > 710
    assert result["perplexity"] is None
    assert result["not_finite"] == {"perplexity": "Infinity"}


@pytest.mark.slow
def test_evaluating_a_run_prints_the_numbers_of_its_last_evaluation(
    dataset, finished, capsys
):
    evaluate.main(["--run", str(finished), "--data", str(dataset)])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    lines = read_lines(str(finished / "metrics.jsonl"))
    assert set(result) == {"loss", "perplexity", "bits_per_byte", "tokens"}
    assert result["loss"] == pytest.approx(lines[-1]["validation_loss"], rel=1e-6)
    assert result["bits_per_byte"] == pytest.approx(lines[-1]["bits_per_byte"])


@pytest.mark.slow
def test_evaluating_refuses_what_does_not_fit(dataset, finished, tmp_path):
    other = write_dataset(tmp_path / "other", seed=1)
    for argv, complaint in (
        (["--run", str(tmp_path), "--data", str(dataset)], "wanted a run's directory"),
        (["--run", str(finished), "--data", str(other)], "wanted a dataset encoded"),
        (
            ["--run", str(finished), "--data", str(dataset), "--step", "3"],
            "found steps 4",
        ),
        (
            ["--run", str(finished), "--data", str(dataset), "--split", "test"],
            "train, validation",
        ),
    ):
        with pytest.raises(UsageError, match=complaint):
            evaluate.main(argv)


@pytest.mark.slow
def test_open_run_restores_the_weights_of_the_step_asked_for(dataset, run):
    train(dataset, run, "loop.total_steps=6", flags=())
    last, first = checkpoints.open_run(str(run)), checkpoints.open_run(str(run), 4)
    assert (last.step, first.step) == (6, 4)
    weights = [opened.model.trainable_variables[0].numpy() for opened in (last, first)]
    assert (weights[0] != weights[1]).any()
    assert last.manifest == read_manifest(str(dataset))
    assert last.config.data.sequence_length == 64
