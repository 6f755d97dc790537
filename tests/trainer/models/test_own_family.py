# SPDX-License-Identifier: Apache-2.0
"""A family of a user's own, named by import path, goes all the way by the commands.

It trains under two strategies to the same losses, is resumed, evaluated, exported,
checked and generated with; nothing outside its file knows of it.
"""

import json

import pytest
import tensorflow as tf

from pipelines import batch_generate
from preprocessing.foundation.commands import UsageError
from tests.trainer.forked import Forked
from tests.trainer.models.toy_family import Config
from trainer import evaluate, export, task
from trainer.models.functional import called_with, trained_places, weight_places
from trainer.models.model import PrecisionConfig, build_model
from trainer.models.parameters import num_parameters
from trainer.run import checkpoints
from trainer.run.config import RunConfig, with_pairs

FAMILY = "tests.trainer.models.toy_family:Config"
FLAGS = (
    f"--preset tiny --set model.family={FAMILY} model.width=16 loop.total_steps=20 "
    "loop.evaluate_every=0 loop.save_every=20 loop.log_every=10 "
    "samples.count=1 samples.tokens=4 compute.peak_flops=1e12 "
    "optimizer.name=muon optimizer.ema_decay=0.5"
).split()


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory) -> str:
    """A run of the family on one device, stopped half-way and resumed."""
    path = str(tmp_path_factory.mktemp("toy") / "run")
    flags = ["--data", str(dataset), "--run", path, *FLAGS]
    task.main([*flags, "loop.stop_after_step=10"])
    task.main(flags)
    return path


def losses(run: str) -> list[float]:
    with open(f"{run}/metrics.jsonl") as file:
        lines = [json.loads(line) for line in file]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.slow
def test_two_strategies_train_it_alike(run: str, dataset, tmp_path) -> None:
    other = str(tmp_path / "mirrored")
    where = f"--data {dataset} --run {other} --strategy mirrored --logical_cpus 2"
    process = Forked("trainer.task", [*where.split(), *FLAGS])
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert losses(other) == pytest.approx(losses(run), abs=5e-6)
    assert losses(run)[-1] < losses(run)[0] - 0.2


@pytest.mark.slow
def test_what_is_not_trained_stays_and_is_stored_and_restored(run: str) -> None:
    opened = checkpoints.open_run(run)
    assert opened.model.shift.numpy().tolist() == [0.5] * 16
    assert isinstance(opened.config.model, Config)


@pytest.mark.slow
def test_it_is_evaluated_exported_checked_and_generated_with(
    run: str, dataset, tmp_path, capfd
) -> None:
    evaluate.main(["--run", run, "--data", str(dataset)])
    found = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert found["loss"] == pytest.approx(last_validation(run), abs=1e-6)
    models = str(tmp_path / "toy")
    export.main(["--run", run, "--output", models, "--check"])
    assert "answers 37 of 37 requests" in capfd.readouterr().out
    prompts, generated = tmp_path / "prompts.jsonl", tmp_path / "generated"
    prompts.write_text(
        '{"id": 1, "prompt": "the small"}\n{"id": 2, "prompt": "a boat"}\n'
    )
    words = f"--model {models} --input {prompts} --output {generated}"
    batch_generate.main([*words.split(), "--max_new_tokens", "5", "--workers", "1"])
    lines = [line for path in generated.glob("*.jsonl") for line in path.open()]
    assert [json.loads(line)["num_tokens"] > 0 for line in lines] == [True, True]


def last_validation(run: str) -> float:
    with open(f"{run}/metrics.jsonl") as file:
        lines = [json.loads(line) for line in file]
    return [line["validation_loss"] for line in lines if "validation_loss" in line][-1]


def test_weights_that_are_not_trained_are_tensors_in_a_step_and_have_no_gradient() -> (
    None
):
    model = build_model(Config(FAMILY), 50, PrecisionConfig(), seed=0)
    places = weight_places(model)
    assert [p.path for p in places] == ["said", "seen", "shift", "turn"]
    assert [p.path for p in trained_places(places)] == ["said", "seen", "turn"]
    values = [tf.convert_to_tensor(place.variable) for place in places]
    with called_with(places, values):
        assert model.shift is values[2]
    assert num_parameters(model) == 2 * 50 * 24 + 24 * 24
    assert model.flops_per_token(8) == 6 * (50 * 24 + 24 * 24)


def test_a_weight_without_a_role_is_an_error_that_names_it() -> None:
    model = build_model(Config(FAMILY), 50, PrecisionConfig(), seed=0)
    model.more = tf.Variable(tf.zeros([3]))
    with pytest.raises(ValueError, match="what the weight more is for"):
        [place.weight for place in weight_places(model)]


def test_keys_of_another_family_are_refused() -> None:
    config = with_pairs(RunConfig(), [f"model.family={FAMILY}", "model.width=8"])
    assert config.model == Config(FAMILY, width=8)
    with pytest.raises(UsageError, match=r"unknown model\.num_heads"):
        with_pairs(config, ["model.num_heads=2"])
    with pytest.raises(UsageError, match=r"unknown model\.width"):
        with_pairs(config, ["model.family=decoder", "model.width=2"])
