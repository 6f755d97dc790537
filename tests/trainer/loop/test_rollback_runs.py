# SPDX-License-Identifier: Apache-2.0
"""Rows that break training are left out, named, and forgotten by no restart."""

import json
import os
import shutil

import numpy as np
import pytest

from preprocessing.contracts.manifest import read_manifest
from preprocessing.foundation.commands import WorkError
from tests.trainer.loop.test_resume import weights
from tests.trainer.models import poisoned_family
from tests.trainer.small_runs import small_run
from trainer import task
from trainer.data.input_pipeline import SubRows
from trainer.run import checkpoints

pytestmark = pytest.mark.slow

PAIRS = (
    "loop.total_steps=24",
    "loop.log_every=4",
    "loop.save_every=6",
    "loop.evaluate_every=12",
    "loop.steps_per_loop=3",
    "data.global_batch_size=4",
    "guard.skip_budget=1",
)
POISONED = (30, 38)  # rows of steps 8 and 10: after the checkpoint of step 6


def flags(dataset, run, *pairs):
    return small_run(dataset, run, *PAIRS, *pairs)


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """A run that nothing happens to."""
    run = tmp_path_factory.mktemp("rollback") / "whole"
    task.main(flags(dataset, run))
    return run


@pytest.fixture(scope="module")
def cut(dataset, tmp_path_factory):
    """The same run, stopped after step 13; to be copied."""
    run = tmp_path_factory.mktemp("rollback") / "cut"
    task.main(flags(dataset, run, "loop.stop_after_step=13"))
    return run


@pytest.fixture(scope="module")
def poison(dataset):
    """The pairs of a run that two of its rows break, wherever they come up."""
    rows = SubRows(str(dataset), read_manifest(str(dataset)), "train", 64)
    return poisoned_family.pairs(rows.read(np.array(POISONED))["tokens"][:, :64])


def lines(run, name):
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def test_too_many_skips_roll_back_and_leave_the_rows_at_fault_out(
    dataset, tmp_path, poison, capfd
):
    run = tmp_path / "run"
    task.main(flags(dataset, run, *poison))
    assert lines(run, "rollbacks.jsonl") == [
        {"to_step": 6, "omitted": [[28, 32], [36, 40]]}
    ]
    rows = lines(run, "omitted.jsonl")
    assert [row["position"] for row in rows] == [*range(28, 32), *range(36, 40)]
    assert all("documents" in row and "shard" in row for row in rows)
    assert "going back to step 6 and leaving out 8 rows" in capfd.readouterr().err
    state = checkpoints.read_state(str(run), 24)
    assert state.position.rows_consumed == 24 * 4 + 8
    steps = [line["step"] for line in lines(run, "metrics.jsonl") if "loss" in line]
    assert steps == sorted(set(steps))


def test_a_run_stopped_after_a_rollback_ends_as_one_that_was_not(
    dataset, tmp_path, poison
):
    task.main(flags(dataset, tmp_path / "whole", *poison))
    task.main(flags(dataset, tmp_path / "cut", *poison, "loop.stop_after_step=13"))
    task.main(flags(dataset, tmp_path / "cut", *poison))
    one, other = weights(tmp_path / "whole", 24), weights(tmp_path / "cut", 24)
    assert [name for name in one if not np.array_equal(one[name], other[name])] == []


def test_a_run_that_needs_too_many_rollbacks_ends(dataset, tmp_path, poison):
    pairs = (*poison, "guard.skip_budget=0", "guard.max_rollbacks=1")
    with pytest.raises(WorkError, match=r"after 1 rollback\."):
        task.main(flags(dataset, tmp_path / "run", *pairs))


@pytest.mark.parametrize("name", ["weights.index", "weights.data-00000-of-00001"])
@pytest.mark.parametrize("damage", [os.unlink, lambda path: os.truncate(path, 20)])
def test_a_damaged_newest_checkpoint_is_passed_over_and_the_run_ends_the_same(
    dataset, tmp_path, whole, cut, capfd, name, damage
):
    run = shutil.copytree(cut, tmp_path / "run")
    damage(os.path.join(checkpoints.step_directory(str(run), 13), name))
    task.main(flags(dataset, run))
    told = capfd.readouterr().err
    assert "the checkpoint of step 13 is damaged" in told
    assert "goes on from step 12" in told
    one, other = weights(whole, 24), weights(run, 24)
    assert [name for name in one if not np.array_equal(one[name], other[name])] == []
