# SPDX-License-Identifier: Apache-2.0
"""Checkpoints are complete or invisible, strict, and damaged ones are named."""

import os
import resource

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.commands import UsageError, WorkError
from trainer import checkpoints
from trainer.checkpoints import State
from trainer.loop import Position
from trainer.variable_names import variable_shapes


class Pair(tf.Module):
    """Two weights, one of them in a list."""

    def __init__(self, value, width=3):
        super().__init__()
        self.table = tf.Variable(np.full((2, width), value, np.float32))
        self.layers = [tf.Variable(np.full(4, value, np.float32))]

    def values(self):
        return [self.table.numpy().tolist(), self.layers[0].numpy().tolist()]


def state(step):
    return State(Position(step, step * 8, nats=0.1, weight=3.0), "hash", seed=4)


def save(run, step, module, keep_last=10, chief=True):
    checkpoints.save(str(run), state(step), {"model": module}, chief, keep_last)


def directory(run, step):
    return run / "checkpoints" / f"step-{step:08d}"


def test_what_was_saved_is_restored_with_its_position(tmp_path):
    save(tmp_path, 7, Pair(1.5))
    module = Pair(0.0)
    assert checkpoints.read_state(str(tmp_path), 7) == state(7)
    checkpoints.restore(str(tmp_path), 7, {"model": module})
    assert module.values() == Pair(1.5).values()


def test_variables_are_named_by_their_attributes(tmp_path):
    save(tmp_path, 7, Pair(1.5))
    stored = tf.train.list_variables(str(directory(tmp_path, 7) / "weights"))
    names = {name.split("/.")[0] for name, _ in stored if "/." in name}
    assert names == {"model/table", "model/layers/0"}
    assert set(variable_shapes({"model": Pair(0.0)})) == names


def test_the_last_ones_are_kept(tmp_path):
    for step in (5, 10, 15, 20):
        save(tmp_path, step, Pair(step), keep_last=2)
    assert checkpoints.steps(str(tmp_path)) == [15, 20]
    assert sorted(os.listdir(tmp_path / "checkpoints")) == [
        "step-00000015",
        "step-00000020",
    ]


def test_a_half_written_or_half_removed_checkpoint_is_invisible(tmp_path):
    save(tmp_path, 5, Pair(5.0))
    save(tmp_path, 10, Pair(10.0))
    os.unlink(directory(tmp_path, 10) / "state.json")
    leftover = tmp_path / "checkpoints" / ".0123.tmp"
    leftover.mkdir()
    assert checkpoints.steps(str(tmp_path)) == [5]
    assert checkpoints.choose_step(str(tmp_path), None) == 5
    save(tmp_path, 10, Pair(11.0))
    assert checkpoints.steps(str(tmp_path)) == [5, 10]
    assert not leftover.exists()


def test_a_worker_that_is_not_the_chief_leaves_nothing(tmp_path):
    save(tmp_path, 5, Pair(5.0), chief=False)
    assert checkpoints.steps(str(tmp_path)) == []
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "damage", "complaint"),
    [
        ("weights.index", os.unlink, "weights.index is missing"),
        ("weights.index", lambda path: os.truncate(path, 9), "has 9 of"),
        ("state.json", lambda path: os.truncate(path, 9), "cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_named_with_what_to_do(
    tmp_path, name, damage, complaint
):
    save(tmp_path, 5, Pair(5.0))
    damage(directory(tmp_path, 5) / name)
    with pytest.raises(UsageError, match=rf"step-00000005, .*{complaint}.*Remove"):
        checkpoints.read_state(str(tmp_path), 5)


def test_changed_values_are_found_by_their_checksum(tmp_path):
    save(tmp_path, 5, Pair(5.0))
    path = directory(tmp_path, 5) / "weights.data-00000-of-00001"
    data = bytearray(path.read_bytes())
    data[data.find(np.float32(5.0).tobytes())] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(UsageError, match="step-00000005"):
        checkpoints.restore(str(tmp_path), 5, {"model": Pair(0.0)})


def test_names_and_shapes_that_do_not_fit_are_listed(tmp_path):
    save(tmp_path, 5, Pair(5.0))
    wider = Pair(0.0, width=5)
    wider.extra = tf.Variable(0.0)
    wider.layers = []
    with pytest.raises(UsageError) as error:
        checkpoints.restore(str(tmp_path), 5, {"model": wider})
    text = str(error.value)
    assert "it lacks model/extra;" in text
    assert "the model has no place for model/layers/0;" in text
    assert "model/table (stored [2, 3], wanted [2, 5])" in text


def test_a_full_disk_leaves_the_earlier_checkpoints_and_nothing_else(tmp_path):
    save(tmp_path, 5, Pair(5.0))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Stands in for a full disk: the write of the larger file fails half-way.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(WorkError, match=r"wanted to save step 10.*Free some space"):
            save(tmp_path, 10, Pair(10.0, width=1 << 16))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoints.steps(str(tmp_path)) == [5]
    assert os.listdir(tmp_path / "checkpoints") == ["step-00000005"]


def test_a_step_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(UsageError, match="Train it first"):
        checkpoints.choose_step(str(tmp_path), None)
    save(tmp_path, 5, Pair(5.0))
    save(tmp_path, 9, Pair(5.0))
    with pytest.raises(UsageError, match="found steps 5, 9"):
        checkpoints.choose_step(str(tmp_path), 6)
