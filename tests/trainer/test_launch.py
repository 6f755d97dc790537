# SPDX-License-Identifier: Apache-2.0
"""The launcher starts, hears, restarts and ends a group; drills kill its members."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.trainer.loop.test_resume import lines, weights
from tests.trainer.small_runs import small_run
from trainer.run.metrics import read_lines

pytestmark = pytest.mark.slow

PAIRS = (
    "loop.total_steps=60",
    "loop.log_every=4",
    "loop.save_every=6",
    "loop.evaluate_every=0",  # that takes a graph more in each of twelve processes
    "loop.steps_per_loop=3",
    "model.dropout=0.1",
)
# A member that notes its role, and then does what its first argument says.
_MEMBER = """
import json, os, sys, time
task = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {})
name = f"{task.get('type')}-{task.get('index')}"
open(os.path.join(sys.argv[1], f"{name}-{os.getpid()}"), "w").close()
print("hello", flush=True)
"""


def launch(flags, code, directory, **options):
    command = [sys.executable, "-m", "trainer.launch", *flags, "--"]
    return subprocess.Popen(
        [*command, sys.executable, "-c", _MEMBER + code, str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_every_member_knows_its_place_and_is_heard_by_name(tmp_path):
    flags = ["--workers", "2", "--parameter_servers", "1"]
    # Servers stay until the launcher ends them, and the chief till all are there.
    code = """
while task['type'] != 'chief' or len(os.listdir(sys.argv[1])) < 4:
    time.sleep(0.02)
"""
    printed, errors = launch(flags, code, tmp_path).communicate()
    names = {entry.name.rsplit("-", 1)[0] for entry in tmp_path.iterdir()}
    assert names == {"chief-0", "worker-0", "worker-1", "ps-0"}, errors
    assert sorted(printed.splitlines())[0] == "[chief 0] hello"


def test_lines_of_members_that_write_at_once_stay_whole(tmp_path):
    code = """
for _ in range(3000):
    print("one line", flush=True)
"""
    printed, _ = launch(["--workers", "3"], code, tmp_path).communicate()
    allowed = {
        f"[worker {i}] {text}" for i in range(3) for text in ("hello", "one line")
    }
    lines = printed.splitlines()
    assert set(lines) == allowed and len(lines) == 3 * 3001


@pytest.mark.parametrize(("status", "starts"), [(0, 1), (2, 1), (42, 1), (7, 3)])
def test_done_refused_and_stopped_are_final_and_failures_are_not(
    tmp_path, status, starts
):
    code = f"print('error: no luck', file=sys.stderr); sys.exit({status})"
    process = launch(["--max_restarts", "2"], code, tmp_path)
    _, errors = process.communicate()
    assert len(list(tmp_path.iterdir())) == starts
    assert process.returncode == (1 if status == 7 else status)
    if status == 7:
        last = errors.splitlines()[-1]
        assert last.startswith("error: ")
        assert "worker 0 ended with status 7: no luck after 2 restarts" in last


def test_a_stalled_member_ends_the_group(tmp_path):
    flags = ["--stall_timeout", "1", "--max_restarts", "0"]
    process = launch(flags, "time.sleep(600)", tmp_path)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "worker 0 made no progress for" in errors.splitlines()[-1]


def test_no_member_outlives_a_killed_launcher(tmp_path):
    process = launch(["--workers", "2"], "time.sleep(600)", tmp_path)
    while len(list(tmp_path.iterdir())) < 2:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    members = [int(entry.name.rsplit("-", 1)[1]) for entry in tmp_path.iterdir()]
    end = time.monotonic() + 60
    while any(os.path.exists(f"/proc/{m}") for m in members):
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("flags", "wanted"), [(["--workers", "2"], "wanted --"), (["--"], "after --")]
)
def test_a_launch_of_nothing_is_refused(flags, wanted):
    command = [sys.executable, "-m", "trainer.launch", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert wanted in done.stderr.splitlines()[-1]


def train_together(dataset, run):
    """Starts two workers under the launcher."""
    command = [sys.executable, "-m", "trainer.launch", "--workers", "2", "--"]
    return subprocess.Popen(
        [*command, "quern-train", *small_run(dataset, run, *PAIRS)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def workers_of(launcher):
    """Returns the process numbers of a launcher's workers, in their order."""
    path = f"/proc/{launcher.pid}/task/{launcher.pid}/children"
    with open(path) as file:
        members = [int(number) for number in file.read().split()]
    found = {}
    for member in members:
        with open(f"/proc/{member}/environ", "rb") as file:
            variables = dict(
                each.split(b"=", 1) for each in file.read().split(b"\0") if b"=" in each
            )
        found[json.loads(variables[b"TF_CONFIG"])["task"]["index"]] = member
    return [found[index] for index in sorted(found)]


def wait_for_lines(launcher, run, count):
    while len(read_lines(str(run / "metrics.jsonl"))) < count:
        assert launcher.poll() is None, launcher.stderr.read()
        time.sleep(0.005)


@pytest.fixture(scope="module")
def undisturbed(dataset, tmp_path_factory):
    run = tmp_path_factory.mktemp("launched") / "undisturbed"
    launcher = train_together(dataset, run)
    _, errors = launcher.communicate()
    assert launcher.returncode == 0, errors
    return run


def kill_one(dataset, run, undisturbed, seed):
    draw = random.Random(seed)
    launcher = train_together(dataset, run)
    wait_for_lines(launcher, run, draw.randint(1, 8))
    time.sleep(draw.random() * 0.1)
    os.kill(workers_of(launcher)[draw.randint(0, 1)], signal.SIGKILL)
    _, errors = launcher.communicate()
    assert launcher.returncode == 0, errors
    assert "starting the group again" in errors
    one, other = weights(run, 60), weights(undisturbed, 60)
    assert one.keys() == other.keys()
    assert [name for name in one if not np.array_equal(one[name], other[name])] == []
    assert lines(run) == lines(undisturbed)


@pytest.mark.parametrize("seed", [1])
def test_a_killed_worker_is_restarted_and_nothing_differs(
    dataset, tmp_path, undisturbed, seed
):
    kill_one(dataset, tmp_path / "run", undisturbed, seed)


@pytest.mark.drill
@pytest.mark.parametrize("seed", range(2, 23))
def test_workers_killed_at_any_moment_are_restarted_and_nothing_differs(
    dataset, tmp_path, undisturbed, seed
):
    kill_one(dataset, tmp_path / "run", undisturbed, seed)


def stop_one(dataset, run, seed):
    draw = random.Random(seed)
    launcher = train_together(dataset, run)
    wait_for_lines(launcher, run, draw.randint(1, 8))
    time.sleep(draw.random() * 0.05)
    os.kill(workers_of(launcher)[draw.randint(0, 1)], signal.SIGTERM)
    _, errors = launcher.communicate()
    assert launcher.returncode == 42, errors
    ends = [line for line in errors.splitlines() if "saved at step" in line]
    steps = {line.split("saved at step ")[1].split()[0] for line in ends}
    assert len(ends) == 2 and len(steps) == 1, errors


@pytest.mark.parametrize("seed", [1])
def test_a_signal_to_one_worker_saves_the_same_step_on_both(dataset, tmp_path, seed):
    stop_one(dataset, tmp_path / "run", seed)


@pytest.mark.drill
@pytest.mark.parametrize("seed", range(2, 13))
def test_a_signal_at_any_moment_saves_the_same_step_on_both(dataset, tmp_path, seed):
    stop_one(dataset, tmp_path / "run", seed)
