# SPDX-License-Identifier: Apache-2.0
"""Many releases of one command: made, judged, refused, and made again where missing."""

import dataclasses
import errno
import json
import re
import shutil
from pathlib import Path

import pytest
import tensorflow as tf

from preprocessing.claims.claims import Held, claimed
from preprocessing.contracts.releases import find_release, versions
from preprocessing.foundation.commands import UsageError, WorkError
from tests.trainer.small_runs import small_run
from trainer import export, task
from trainer.batch_export.batch import CLAIM_NAME
from trainer.batch_export.exporting import by_checkpoint, each_told
from trainer.batch_export.figures import ReleaseFigures, read_figures, write_figures
from trainer.batch_export.gate import parse_requirements
from trainer.batch_export.judging import Judging, open_text
from trainer.batch_export.plan import ExportTask
from trainer.labels.labels import labels_of, promote
from trainer.release.publish import staged
from trainer.run.checkpoint_files import read_state, step_directory
from trainer.run.checkpoint_writer import CheckpointWriter
from trainer.run.checkpoints import open_run


def with_nan(run: Path, copy: Path) -> Path:
    """Copies a run of two steps, and has a weight of its checkpoint not be finite."""
    opened, state = open_run(str(run)), read_state(str(run), 2)
    weight = opened.model.trainable_variables[-1]
    weight.assign(weight * float("nan"))
    shutil.copytree(run, copy)
    shutil.rmtree(step_directory(str(copy), 2))
    writer = CheckpointWriter(str(copy), {"model": opened.model}, lambda there: there)
    writer.save(state)
    writer.close()
    return copy


@pytest.mark.drill
def test_one_that_fails_is_named_and_a_rerun_does_what_is_missing(
    dataset, tmp_path, capfd
):
    run, models = tmp_path / "good", tmp_path / "models"
    steps = ["loop.total_steps=2", "loop.evaluate_every=0", "loop.log_every=1"]
    task.main(small_run(dataset, run, *steps))
    odd = with_nan(run, tmp_path / "odd")
    flags = ["--runs", str(odd), str(run), "--output", str(models)]
    with pytest.raises(WorkError, match=r"found 1 failed: odd \(step 2\),"):
        export.main([*flags, "--data", str(dataset)])
    [told] = re.findall("note: failed: (.*)", capfd.readouterr().err)
    assert told.startswith("odd (step 2): ") and "finite" in told
    assert [*versions(str(models / "good"))] == [1] and not versions(
        str(models / "odd")
    )
    # Nothing of the other is left, its directory neither.
    assert {each.name for each in models.iterdir()} == {
        "good",
        "releases.jsonl",
        "releases.html",
    }
    release = find_release(str(models / "good"))
    figures = read_figures(release)
    assert figures.bits_per_byte == pytest.approx(figures.trainer_bits_per_byte, 1e-4)
    made = Path(release, "saved_model.pb").stat().st_mtime_ns
    promote(str(models / "good"), 1)
    capfd.readouterr()
    export.main(
        ["--runs", str(run), "--output", str(models), "--require", "size <= stable"]
    )
    printed = capfd.readouterr().out
    assert "1 of 1 release there already" in printed and "good/1" in printed
    assert Path(release, "saved_model.pb").stat().st_mtime_ns == made
    [line] = (models / "releases.jsonl").read_text().splitlines()
    told = json.loads(line)
    assert told["release"] == "good/1" and told["best"]
    assert told["bits_per_byte"] == figures.bits_per_byte


def test_a_release_that_misses_what_is_required_gets_no_version(
    shared_release, tmp_path, capsys
):
    source, models = shared_release("decoder"), tmp_path / "models"
    model = models / "a"
    shutil.copytree(source, model / "1")
    write_figures(str(model / "1"), ReleaseFigures(1000))
    promote(str(model), 1)
    before = (models / "models.config").read_bytes()
    required = parse_requirements(["size <= stable * 1.5"])
    judging = Judging(str(models), ["a"], required, None)
    wanted = ExportTask("run", 0, "float32", "a", 2, "")
    with (
        pytest.raises(WorkError, match=r"size <= 1500 \(stable's 1,000.*found \d"),
        staged(str(model), None) as (staging, _),
    ):
        shutil.copytree(source, staging, dirs_exist_ok=True)
        judging.judge(wanted, staging)
    assert [*versions(str(model))] == [1]
    assert (models / "models.config").read_bytes() == before
    assert labels_of(str(models), "a") == {"stable": 1}
    judging.tell()
    refused, shown = sorted(
        map(json.loads, (models / "releases.jsonl").read_text().splitlines()),
        key=lambda each: each["version"] or 0,
    )
    assert refused["version"] is None and "wanted size" in refused["refused"]
    assert shown["version"] == 1 and not shown["refused"]
    assert "x  a/step 0" in capsys.readouterr().out
    digest = refused["checkpoint_sha256"] or ""
    again = dataclasses.replace(wanted, digest=digest)
    with pytest.raises(WorkError, match=r"size <= 1500 .*It was not exported again"):
        Judging(str(models), ["a"], required, None).refuse_known(again)
    for requirement, other in (
        ("size <= stable * 1e6", again),
        ("size <= stable * 1.5", dataclasses.replace(again, digest="another")),
    ):
        required = parse_requirements([requirement])
        Judging(str(models), ["a"], required, None).refuse_known(other)
    # A machine may have been busy.
    required = parse_requirements(["size <= stable * 1.5", "peak_memory < 1"])
    Judging(str(models), ["a"], required, None).refuse_known(again)


def test_bits_of_another_text_are_no_reference(tmp_path, dataset, manifest):
    model = tmp_path / "models/a"
    (model / "1/assets").mkdir(parents=True)
    judged = ReleaseFigures(
        10, bits_per_byte=1.0, dataset=manifest.dataset_hash, split="validation"
    )
    write_figures(str(model / "1"), judged)
    for split, required, refused in (
        ("validation", "bits_per_byte <= previous", False),
        ("train", "bits_per_byte <= previous", True),
        ("train", "size <= previous", False),
    ):
        text = open_text(str(dataset), split, [], lambda run, step: None)
        asked = [str(tmp_path / "models"), ["a"], parse_requirements([required]), text]
        if refused:
            with pytest.raises(UsageError, match="not measured there on this split"):
                Judging(*asked)
        else:
            Judging(*asked)
    with pytest.raises(UsageError, match="wanted one of train, validation"):
        open_text(str(dataset), "tests", [], lambda run, step: None)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--runs", "a", "--split", "train"], "--data with --split"),
        (["--runs", "a", "--require", "bits_per_byte < 1"], "--data with --require"),
        (["--run", "a", "--require", "bits < 1"], "wanted a metric"),
        (["--from_huggingface", "a", "--require", "size < 1"], "--run or --runs"),
    ],
)
def test_what_judging_lacks_is_told_before_work(flags, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        export.main([*flags, "--output", str(tmp_path / "models")])
    assert not [*tmp_path.iterdir()]


def test_two_batches_in_one_tree_are_refused_by_name(tmp_path):
    models = str(tmp_path / "models")
    with (
        claimed(models, "the tree", CLAIM_NAME),
        pytest.raises(Held, match="models for a batch export to ourselves"),
    ):
        export.main(["--runs", "absent", "--output", models])


def failing(errors: dict[str, Exception]):
    """Returns work that fails for some of the releases, and what it did."""
    done = []

    def work(one: ExportTask) -> ExportTask:
        if one.name in errors:
            raise errors[one.name]
        done.append(one.name)
        return one

    return work, done


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


FULL = OSError(errno.ENOSPC, "No space left on device")
TASKS = [ExportTask("run", 1, "float32", name, 1, "") for name in "abc"]


@pytest.mark.parametrize(
    "error",
    [
        UsageError("damaged"),
        WorkError("answers\notherwise"),
        ValueError(),
        caused(WorkError("damaged"), FileNotFoundError("gone")),
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"),
    ],
)
def test_what_is_of_one_release_leaves_the_others_to_be_made(error, capsys):
    work, done = failing({"b": error})
    [failure] = each_told(TASKS, "exported", work)
    assert failure == "b (step 1)" and done == ["a", "c"]
    [told] = capsys.readouterr().err.splitlines()
    assert re.match(r"note: failed: b \(step 1\): \w", told)


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        caused(WorkError("not written"), FULL),
        tf.errors.ResourceExhaustedError(None, None, "No space left on device"),
    ],
)
def test_a_place_that_fails_ends_the_command(error):
    work, done = failing({"b": error})
    with pytest.raises(WorkError, match=r"b \(step 1\).*1 more were not tried"):
        each_told(TASKS, "exported", work)
    assert done == ["a"]


def test_weights_of_one_checkpoint_are_exported_together():
    tasks = [
        ExportTask(run, step, kind, f"{run}-{kind}", step, "")
        for run in "ba"
        for kind in ("float32", "int8")
        for step in (1, 2)
    ]
    found = [(each.run, each.step, each.weights) for each in by_checkpoint(tasks)]
    assert found == [
        (run, step, kind)
        for run in "ba"
        for step in (1, 2)
        for kind in ("float32", "int8")
    ]
