# SPDX-License-Identifier: Apache-2.0
"""Saving takes one moment's values, leaves training alone, and fails in one line."""

import functools
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.foundation import storage
from preprocessing.foundation.commands import WorkError
from trainer.run import checkpoints
from trainer.run.checkpoint_files import set_aside
from trainer.run.checkpoint_values import write_values
from trainer.run.checkpoint_writer import CheckpointWriter
from trainer.run.checkpoints import State
from trainer.run.loop_config import LoopConfig
from trainer.run.position import Position
from trainer.run.retention import kept_steps

CASE = "tests.trainer.run.checkpoints_case"
ROOT = Path(__file__).parents[3]


class Weights(tf.Module):
    """One weight and its moments, as an optimizer changes them in place."""

    def __init__(self, value, size=4):
        super().__init__()
        self.weight = tf.Variable(tf.fill([size], float(value)))
        self.moments = [tf.Variable(tf.fill([size], float(value))) for _ in range(2)]

    @tf.function(autograph=False)
    def step(self):
        tf.raw_ops.ResourceApplyAdam(
            var=self.weight.handle,
            m=self.moments[0].handle,
            v=self.moments[1].handle,
            beta1_power=0.5,
            beta2_power=0.5,
            lr=1.0,
            beta1=0.5,
            beta2=0.5,
            epsilon=0.1,
            grad=tf.ones_like(self.weight),
        )

    def values(self):
        return np.stack([self.weight, *self.moments]).tolist()


def keep_all(steps):
    return steps


def writer_of(run, module, kept=keep_all):
    return CheckpointWriter(str(run), {"model": module}, kept)


def state(step):
    return State(Position(step, step * 8), "hash", seed=4)


def restored(run, step):
    module = Weights(0.0)
    checkpoints.restore(str(run), step, {"model": module})
    return module.values()


def test_what_is_written_is_what_the_weights_were_when_save_was_called(tmp_path):
    module, gate = Weights(1.0), threading.Event()

    def held_back(prefix, values):
        assert gate.wait(60)
        write_values(prefix, values)

    parts = {"model": module}
    writer = CheckpointWriter(str(tmp_path), parts, keep_all, held_back)
    module.step()
    at_save = module.values()
    writer.save(state(5))
    for _ in range(3):
        module.step()
    module.weight.assign_add(tf.ones([4]))
    assert writer.failure() is None
    assert checkpoints.steps(str(tmp_path)) == [], "the step went on before the write"
    gate.set()
    writer.wait()
    assert restored(tmp_path, 5) == at_save != module.values()
    writer.close()


def test_a_save_waits_for_the_one_before_and_both_are_whole(tmp_path):
    module = Weights(1.0)
    writer = writer_of(tmp_path, module)
    values = {}
    for step in (5, 10, 15):
        module.step()
        values[step] = module.values()
        writer.save(state(step))
    writer.close()
    assert checkpoints.steps(str(tmp_path)) == [5, 10, 15]
    assert {step: restored(tmp_path, step) for step in values} == values


def test_what_is_not_kept_goes_with_the_next_commit_and_with_the_last_one_at_close(
    tmp_path,
):
    config = LoopConfig(keep_last=1, keep_every=20, keep_best=1)
    kept = functools.partial(kept_steps, str(tmp_path), config)
    writer = writer_of(tmp_path, Weights(1.0), kept)
    losses = {5: 4.0, 10: 2.0, 15: 3.0, 20: 3.0, 25: 1.0, 30: 1.5}
    there = {}
    for step, loss in losses.items():
        writer.save(state(step))
        writer.wait()
        there[step] = checkpoints.steps(str(tmp_path))
        with open(tmp_path / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"step": step, "validation_loss": loss}) + "\n")
    # A checkpoint becomes the best only after it was saved.
    assert there[10] == [5, 10]
    assert there[15] == [10, 15]
    assert there[25] == [10, 20, 25]
    assert there[30] == [20, 25, 30]
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 30, "validation_loss": 0.5}\n')
    writer.close()
    assert checkpoints.steps(str(tmp_path)) == [20, 30]


def test_what_a_killed_writer_left_is_removed(tmp_path):
    parent = tmp_path / "checkpoints"
    half_written, half_removed = parent / ".0123.tmp", parent / "step-00000003"
    for leftover in (half_written, half_removed):
        leftover.mkdir(parents=True)
        (leftover / "weights.index").write_bytes(b"")
    writer = writer_of(tmp_path, Weights(1.0))
    writer.save(state(5))
    writer.close()
    assert os.listdir(parent) == ["step-00000005"]


def test_a_full_disk_ends_in_one_line_and_leaves_the_earlier_checkpoints(tmp_path):
    writer = writer_of(tmp_path, Weights(5.0, size=1 << 16))
    writer.save(state(5))
    writer.wait()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Stands in for a full disk: the write of the larger file fails half-way.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        writer.save(state(10))
        with pytest.raises(WorkError, match=r"wanted to save step 10.*Free some space"):
            writer.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(writer.failure(), WorkError)
    writer.save(state(15))  # Not one worker alone: `failure` is how all of them end.
    with pytest.raises(WorkError, match="wanted to save step 10"):
        writer.close()
    assert checkpoints.steps(str(tmp_path)) == [5]
    assert os.listdir(tmp_path / "checkpoints") == ["step-00000005"]


def test_a_vanished_run_is_no_place_to_begin_another_one(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    writer = writer_of(run, Weights(5.0))
    shutil.rmtree(run)
    writer.save(state(5))
    with pytest.raises(WorkError, match=r"save step 5 .*No such file.*is there"):
        writer.close()
    assert not run.exists()


def test_a_place_that_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "checkpoints").write_text("a file where the directory belongs")
    writer = writer_of(tmp_path, Weights(5.0))
    writer.save(state(5))
    with pytest.raises(WorkError, match=r"save step 5 .*may be written"):
        writer.close()


def test_a_bucket_is_written_kept_and_fallen_back_in_like_a_disk(bucket):
    run = f"{bucket}/checkpoints-alone"
    module = Weights(1.0)
    writer = writer_of(run, module, lambda steps: steps[-2:])
    for step in (5, 10, 15):
        writer.save(state(step))
        module.step()
    writer.close()
    assert checkpoints.steps(run) == [10, 15]
    data = storage.join(
        checkpoints.step_directory(run, 15), "weights.data-00000-of-00001"
    )
    whole = storage.read_bytes(data)
    storage.write_atomically(data, whole[:1] + b"!" + whole[2:])
    newest = checkpoints.find_newest(run)
    assert (newest.step, [each.step for each in newest.damaged]) == (10, [15])
    set_aside(run, 15)
    assert checkpoints.steps(run) == [10]
    at_ten = Weights(1.0)
    at_ten.step()
    assert restored(run, 10) == at_ten.values()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["replicas", "pieces"])
def test_one_device_restores_what_many_saved_and_the_other_way_round(tmp_path, kind):
    """In a process of its own: devices and clusters are set once in a process."""
    ended = subprocess.run(
        [sys.executable, "-m", CASE, kind, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
