# SPDX-License-Identifier: Apache-2.0
"""A run that was stopped or killed ends as if nothing had happened, bit for bit."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.foundation.commands import Interrupted
from trainer import task
from trainer.run import checkpoints
from trainer.run.metrics import read_lines

pytestmark = pytest.mark.slow

TOTAL = 60
# Two sub-rows a row, so that sixty steps of eight rows read three epochs.
OFTEN = [
    f"loop.total_steps={TOTAL}",
    "loop.log_every=4",
    "loop.save_every=6",
    "loop.evaluate_every=15",
    "loop.steps_per_loop=3",
    "loop.keep_last=2",
    "data.sequence_length=32",
    "model.dropout=0.1",
    "model.num_layers=1",
    "compute.peak_flops=1e12",
]


def flags(dataset, run, pairs=()):
    named = ["--data", str(dataset), "--run", str(run), "--preset", "tiny"]
    return [*named, "--set", *OFTEN, *pairs]


def weights(run, step):
    """Returns every stored value of a checkpoint by name, optimizer included."""
    reader = tf.train.load_checkpoint(
        os.path.join(checkpoints.step_directory(str(run), step), "weights")
    )
    names = [name for name in reader.get_variable_to_shape_map() if "/." in name]
    return {name: reader.get_tensor(name) for name in names}


def lines(run):
    """Returns the metrics that do not depend on the clock."""
    clock = {"tokens_per_second", "mfu", "data_wait"}
    return [
        {name: value for name, value in line.items() if name not in clock}
        for line in read_lines(str(run / "metrics.jsonl"))
    ]


def event_steps(run):
    """Returns the (tag, step) of all events, each as often as it appears."""
    found = []
    for path in run.glob("events.out.tfevents.*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            found += [(value.tag, event.step) for value in event.summary.value]
    return sorted(found)


def assert_same(run, undisturbed, step=TOTAL):
    one, other = weights(run, step), weights(undisturbed, step)
    assert one.keys() == other.keys()
    assert [name for name in one if not np.array_equal(one[name], other[name])] == []
    assert lines(run) == lines(undisturbed)
    assert event_steps(run) == event_steps(undisturbed)


@pytest.fixture(scope="module")
def undisturbed(dataset, tmp_path_factory):
    run = tmp_path_factory.mktemp("resume") / "undisturbed"
    task.main(flags(dataset, run))
    return run


@pytest.mark.smoke
def test_ten_steps_are_four_and_a_stop_and_six(dataset, tmp_path):
    ten = ["loop.total_steps=10", "loop.log_every=5"]
    task.main(flags(dataset, tmp_path / "one", ten))
    task.main(flags(dataset, tmp_path / "two", [*ten, "loop.stop_after_step=4"]))
    assert checkpoints.steps(str(tmp_path / "two")) == [4]
    task.main(flags(dataset, tmp_path / "two", ten))
    assert_same(tmp_path / "two", tmp_path / "one", step=10)


def test_another_end_says_what_becomes_of_the_learning_rate(dataset, tmp_path, capsys):
    given = ["optimizer.schedule=cosine", "optimizer.warmup_steps=0"]
    runs = [
        ["loop.total_steps=8", "loop.stop_after_step=2"],
        ["loop.total_steps=4", "loop.log_every=1", "loop.stop_after_step=3"],
    ]
    for pairs in runs:
        task.main(flags(dataset, tmp_path / "run", [*given, *pairs]))
    said = capsys.readouterr().err
    [told] = [line for line in said.splitlines() if "in place of 8" in line]
    rate = lines(tmp_path / "run")[-1]["learning_rate"]
    # Half of four steps are done: 0.1 + 0.9 / 2 of the peak; of eight, a quarter.
    quarter = 0.01 * (0.1 + 0.9 * (1 + np.cos(np.pi / 4)) / 2)
    assert rate == pytest.approx(0.0055)
    assert f"at {rate:.4g}, not {quarter:.4g}" in told


def start(dataset, run):
    command = [sys.executable, "-m", "trainer.task", *flags(dataset, run)]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for_line(process, run, count):
    """Waits until a running process has written `count` lines of metrics."""
    while len(read_lines(str(run / "metrics.jsonl"))) < count:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)


def kill_and_run_again(dataset, run, seed):
    draw = random.Random(seed)
    process = start(dataset, run)
    wait_for_line(process, run, draw.randint(1, TOTAL // 8))
    time.sleep(draw.random() * 0.05)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert TOTAL not in checkpoints.steps(str(run))
    task.main(flags(dataset, run))


@pytest.mark.parametrize("seed", [1])
def test_a_killed_run_ends_as_if_nothing_had_happened(
    dataset, tmp_path, undisturbed, seed
):
    kill_and_run_again(dataset, tmp_path / "run", seed)
    assert_same(tmp_path / "run", undisturbed)


@pytest.fixture(scope="module")
def lifetime(dataset, tmp_path_factory):
    """How long an undisturbed process lives, from its start to its end: seconds."""
    began = time.monotonic()
    process = start(dataset, tmp_path_factory.mktemp("lifetime") / "run")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return time.monotonic() - began


@pytest.mark.drill
@pytest.mark.parametrize("seed", range(2, 23))
def test_a_run_killed_at_any_moments_of_its_life_ends_as_if_nothing_had_happened(
    dataset, tmp_path, undisturbed, lifetime, seed
):
    draw = random.Random(seed)
    for _ in range(2):  # The second kill may fall into the restore after the first.
        process = start(dataset, tmp_path / "run")
        try:
            process.communicate(timeout=draw.uniform(0, lifetime))
        except subprocess.TimeoutExpired:
            process.kill()
        _, errors = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), errors
    task.main(flags(dataset, tmp_path / "run"))
    assert_same(tmp_path / "run", undisturbed)


def test_a_signal_saves_and_stops_and_the_run_goes_on(dataset, tmp_path, undisturbed):
    run = tmp_path / "run"

    def terminate():
        # The handler is in place once a line is written.
        while len(read_lines(str(run / "metrics.jsonl"))) < 2:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=terminate)
    thread.start()
    with pytest.raises(Interrupted, match=r"saved at step \d+ and stopped on SIGUSR1"):
        task.main(flags(dataset, run))
    thread.join()
    assert 0 < checkpoints.steps(str(run))[-1] < TOTAL
    task.main(flags(dataset, run))
    assert_same(run, undisturbed)
