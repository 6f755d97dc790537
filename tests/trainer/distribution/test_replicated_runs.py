# SPDX-License-Identifier: Apache-2.0
"""Whole runs on two replicas and on two workers end where one device ends.

Each runs in processes of its own: devices and clusters are set once in a process.
"""

import json
import shutil
import signal
import time

import pytest

from tests.trainer.forked import Forked
from tests.trainer.small_runs import small_run
from trainer import evaluate, task
from trainer.distribution.local_ports import lend_ports
from trainer.run import checkpoints
from trainer.run.metrics import read_lines

pytestmark = pytest.mark.slow

PAIRS = (
    "loop.total_steps=24",
    "loop.log_every=6",
    "loop.evaluate_every=12",
    "loop.save_every=12",
    "loop.steps_per_loop=2",
    "data.global_batch_size=8",
)


def flags(dataset, run):
    return small_run(dataset, run, *PAIRS)


def losses(run):
    return [
        line.get("loss", line.get("validation_loss"))
        for line in read_lines(str(run / "metrics.jsonl"))
    ]


@pytest.fixture(scope="module")
def one_device(dataset, tmp_path_factory):
    run = tmp_path_factory.mktemp("replicated") / "one"
    task.main(flags(dataset, run))
    return run


def start(module, arguments, tf_config=None):
    variables = {}
    if tf_config is not None:
        variables["TF_CONFIG"] = json.dumps(tf_config)
    return Forked(module, arguments, variables)


def start_workers(dataset, *runs):
    """Starts two workers, on one directory or on each one's view of it."""
    hosts = [f"127.0.0.1:{port}" for port in lend_ports(2)]
    return [
        start(
            "trainer.task",
            flags(dataset, runs[index % len(runs)]),
            {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}},
        )
        for index in range(2)
    ]


def finish(processes):
    """Returns the exit statuses and what was written to standard error."""
    try:
        outputs = [process.communicate() for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], [err for _, err in outputs]


def test_two_replicas_train_and_evaluate_as_one_device(
    dataset, tmp_path, one_device, capsys
):
    run = tmp_path / "run"
    two = ["--strategy", "mirrored", "--logical_cpus", "2"]
    evaluation = ["--run", str(one_device), "--data", str(dataset)]
    processes = [
        start("trainer.task", [*flags(dataset, run), *two]),
        start("trainer.evaluate", [*evaluation, *two]),
    ]
    statuses, errors = finish(processes)
    printed = processes[1].communicate()[0].splitlines()
    assert statuses == [0, 0], errors
    assert losses(run) == pytest.approx(losses(one_device), abs=1e-5)
    evaluate.main(evaluation)
    wanted = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert json.loads(printed[-1]) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.drill
def test_a_signal_to_one_worker_stops_both_and_both_go_on(
    dataset, tmp_path, one_device
):
    run = tmp_path / "run"
    processes = start_workers(dataset, run)
    while not read_lines(str(run / "metrics.jsonl")):
        assert all(process.poll() is None for process in processes), finish(processes)
        time.sleep(0.01)
    processes[1].terminate()
    statuses, errors = finish(processes)
    assert statuses == [42, 42], errors
    stopped = checkpoints.steps(str(run))
    assert "on another worker's request" in errors[0].splitlines()[-1]
    assert f"saved at step {stopped[-1]} " in errors[1].splitlines()[-1]
    statuses, errors = finish(start_workers(dataset, run))
    assert statuses == [0, 0], errors
    assert checkpoints.steps(str(run))[-1] == 24
    assert losses(run) == pytest.approx(losses(one_device), abs=1e-5)


def test_a_worker_that_is_shown_old_metrics_does_as_the_chief_does(
    dataset, tmp_path, one_device
):
    views = [tmp_path / "chief", tmp_path / "stale"]
    for view in views:
        shutil.copytree(one_device, view)
    metrics = views[1] / "metrics.jsonl"
    kept = [line for line in read_lines(str(metrics)) if line["step"] < 24]
    metrics.write_text("".join(json.dumps(line) + "\n" for line in kept))
    statuses, errors = finish(start_workers(dataset, *views))
    assert statuses == [0, 0], errors
    assert losses(views[0]) == losses(one_device)


@pytest.mark.drill
def test_a_stopped_peer_ends_the_group_by_its_watchdog(dataset, tmp_path):
    run = tmp_path / "run"
    hosts = [f"127.0.0.1:{port}" for port in lend_ports(2)]
    more = ["--set", "loop.total_steps=100000", "loop.watchdog_seconds=5"]
    processes = [
        start(
            "trainer.task",
            [*flags(dataset, run), *more],
            {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}},
        )
        for index in range(2)
    ]
    while not read_lines(str(run / "metrics.jsonl")):
        assert processes[0].poll() is None, finish(processes)
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGSTOP)
    statuses, errors = finish(processes[:1])
    processes[1].kill()
    processes[1].communicate()
    assert statuses == [1]
    assert "error: wanted progress within 5 s" in errors[0].splitlines()[-1]
