# SPDX-License-Identifier: Apache-2.0
"""What is missing is planned, once; what cannot be is refused before anything changes.

Runs here are what planning reads of them: no value was ever trained.
"""

import dataclasses
import shutil
from importlib import metadata

import pytest

from preprocessing.contracts.manifest import MANIFEST_NAME
from preprocessing.contracts.releases import LINEAGE_NAME, file_names
from preprocessing.foundation.commands import UsageError
from tests.trainer.labels.trees import FILES, lineage
from trainer.batch_export.plan import plan_exports
from trainer.data.input_pipeline import DataConfig
from trainer.release.run_facts import checkpoint_sha256
from trainer.run.config import RunConfig


@pytest.fixture
def run(dataset, tmp_path):
    """Makes runs with checkpoints at some steps, the middle one's loss the lowest."""

    def make(name: str, *steps: int) -> str:
        directory = tmp_path / name
        directory.mkdir(parents=True)
        shutil.copy(dataset / MANIFEST_NAME, directory)
        config = RunConfig(data=DataConfig(sequence_length=64))
        (directory / "config.json").write_text(config.to_json())
        for step in steps:
            checkpoint = directory / f"checkpoints/step-{step:08d}"
            checkpoint.mkdir(parents=True)
            (checkpoint / "state.json").write_text("{}")
            (checkpoint / "weights.index").write_text(f"{name} {step}")
        losses = [
            f'{{"step": {step}, "validation_loss": {abs(step - 4)}}}' for step in steps
        ]
        (directory / "metrics.jsonl").write_text("".join(f"{x}\n" for x in losses))
        return str(directory)

    return make


def release(directory, run: str, step: int, **fields) -> None:
    """Writes a whole release of a run's checkpoint, as planning reads it."""
    sizes = {name: len(data) for name, data in FILES.items()}
    made = dataclasses.replace(
        lineage(step, files=sizes),
        checkpoint_sha256=checkpoint_sha256(run, step),
        versions={"quern": metadata.version("quern")},
    )
    made = dataclasses.replace(made, **fields)
    for name, data in {**FILES, LINEAGE_NAME: made.to_bytes()}.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)


def shown(tasks) -> list[str]:
    return [str(task) for task in tasks]


def test_each_run_each_weights_each_checkpoint_once(run, tmp_path):
    runs = [run("a", 2, 4, 6), run("b", 2, 4, 6)]
    plan = plan_exports(runs, ["all"], ["float32", "int8"], str(tmp_path / "models"))
    models = ("a", "a-int8", "b", "b-int8")
    wanted = [(name, version) for name in models for version in (1, 2, 3)]
    assert [(task.name, task.version) for task in plan.missing] == wanted
    assert [task.step for task in plan.missing] == [2, 4, 6] * 4
    assert not plan.there


@pytest.mark.parametrize(
    ("chosen", "steps"),
    [
        (["last"], [6]),
        (["best"], [4]),
        ([2, "best", 4], [2, 4]),
        (["all", 2], [2, 4, 6]),
    ],
)
def test_which_checkpoints(run, tmp_path, chosen, steps):
    plan = plan_exports([run("a", 2, 4, 6)], chosen, ["float32"], str(tmp_path / "m"))
    assert [task.step for task in plan.missing] == steps


@pytest.mark.parametrize(
    "other",
    [
        {"checkpoint_sha256": "0" * 64},
        {"weights": "int8"},
        {"versions": {"quern": "0"}},
        {"files": {"saved_model.pb": 1}},
    ],
)
def test_only_what_is_missing_is_planned(run, tmp_path, other):
    source, models = run("a", 2, 4, 6), tmp_path / "models"
    release(models / "a/7", source, 4)
    release(models / "a/9", source, 6, **other)
    plan = plan_exports([source], ["all"], ["float32"], str(models))
    assert shown(plan.there) == ["a/7 (step 4)"]
    assert shown(plan.missing) == ["a/10 (step 2)", "a/11 (step 6)"]


def test_what_cannot_be_is_one_line_and_changes_nothing(run, tmp_path):
    models = tmp_path / "models"
    good, empty, number = run("a", 2), run("empty"), run("12", 2)
    (models / "b/1").mkdir(parents=True)
    (models / "b/1/saved_model.pb").write_text("another tool's")
    cases = [
        ([empty], [2], models, "a complete checkpoint"),
        ([empty], ["all"], models, "a complete checkpoint"),
        ([good], [3], models, "step 3"),
        ([str(tmp_path / "absent")], ["last"], models, "a run's directory"),
        ([good, run("other/a", 2)], ["last"], models, "a name each"),
        ([run("b", 2)], ["last"], models, "another tool's"),
        ([number], ["last"], models, "a name that can be"),
        ([good], ["last"], models / "b", "a version of one model"),
        ([good], ["last"], models / "b/1/saved_model.pb", "is a file"),
    ]
    before = file_names(str(tmp_path))
    for runs, chosen, output, message in cases:
        with pytest.raises(UsageError, match=message) as raised:
            plan_exports(runs, chosen, ["float32"], str(output))
        assert "\n" not in str(raised.value)
    assert file_names(str(tmp_path)) == before
