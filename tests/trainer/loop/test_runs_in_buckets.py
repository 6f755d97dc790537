# SPDX-License-Identifier: Apache-2.0
"""A dataset and a run in an object store work as on a disk."""

import pytest
import tensorflow as tf

from preprocessing.foundation import storage
from tests.trainer.small_runs import small_run
from trainer import task
from trainer.run import checkpoints
from trainer.run.metrics import read_lines

pytestmark = pytest.mark.slow

PAIRS = ("loop.total_steps=6", "loop.log_every=2", "loop.save_every=2")


def train(data, run, *pairs):
    task.main(small_run(data, run, *PAIRS, *pairs))


def losses(run):
    lines = read_lines(storage.join(str(run), "metrics.jsonl"))
    return [
        (line["step"], line.get("loss"), line.get("validation_loss")) for line in lines
    ]


def event_steps(run, directory):
    """Returns the steps of all losses among the events of a run in a bucket."""
    steps = []
    for name in storage.list_names(run):
        if "tfevents" in name:
            copy = directory / name
            copy.write_bytes(storage.read_bytes(storage.join(run, name)))
            for record in tf.data.TFRecordDataset(str(copy)):
                event = tf.compat.v1.Event.FromString(record.numpy())
                steps += [event.step for v in event.summary.value if v.tag == "loss"]
    return sorted(steps)


def test_a_run_in_a_bucket_resumes_and_ends_as_one_on_disk(dataset, bucket, tmp_path):
    data, run = f"{bucket}/dataset", f"{bucket}/run"
    for path in dataset.iterdir():
        storage.write_atomically(storage.join(data, path.name), path.read_bytes())
    train(dataset, tmp_path / "run")
    train(data, run, "loop.stop_after_step=4", "loop.keep_last=1")
    assert checkpoints.steps(run) == [4]
    train(data, run, "loop.keep_last=1")
    assert checkpoints.steps(run) == [6]
    assert losses(run) == losses(tmp_path / "run")
    assert event_steps(run, tmp_path) == [2, 4, 6]
    weights = [
        checkpoints.open_run(str(path)).model.trainable_variables[0].numpy()
        for path in (run, tmp_path / "run")
    ]
    assert (weights[0] == weights[1]).all()
