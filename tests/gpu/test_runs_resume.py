# SPDX-License-Identifier: Apache-2.0
"""Runs on a GPU go on after a kill, on another device, and on parts of the card."""

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.gpu.exact_runs import STEPS, ExactRun
from tests.gpu.machine import REHEARSED, TWO, Running

pytestmark = pytest.mark.slow

# Logical GPUs are mirrored without being told to.
PARTS = [f"--{TWO}", "2", "--strategy", "mirrored" if REHEARSED else "auto"]
HALF = f"loop.stop_after_step={STEPS // 2}"
Runs = dict[str, tuple[ExactRun, Running]]


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory,
    dataset: Path,
    undisturbed: tuple[ExactRun, Running],
) -> Iterator[Runs]:
    """All that the tests below begin with, started at once."""
    directory = tmp_path_factory.mktemp("runs")

    def named(name: str, deterministic: bool = False) -> ExactRun:
        return ExactRun(directory / name, dataset, deterministic)

    free = ("killed", "cpu", "to-gpu", "to-cpu", "parts")
    run = {name: named(name) for name in free}
    run |= {name: named(name, True) for name in ("exact", "exact-killed")}
    started = {
        "exact": run["exact"].start(),
        "exact-killed": run["exact-killed"].start(),
        "killed": run["killed"].start(),
        "to-cpu": run["to-cpu"].start(HALF),
        "parts": run["parts"].start(flags=PARTS),
        "to-gpu": run["to-gpu"].start(HALF, gpu=False),
        "cpu": run["cpu"].start(gpu=False),
    }
    killers = [
        threading.Thread(target=kill_early, args=(run[name], started[name]))
        for name in ("exact-killed", "killed")
    ]
    for killer in killers:
        killer.start()
    pairs = {name: (run[name], running) for name, running in started.items()}
    yield {"gpu": undisturbed, **pairs}
    for running in started.values():
        running.kill()


def kill_early(run: ExactRun, running: Running) -> None:
    """Kills a run once it has something to go on from."""
    running.wait_for(run.saved(10))
    running.kill()


def ended(runs: Runs, name: str) -> ExactRun:
    run, running = runs[name]
    running.finish()
    return run


def killed_and_resumed(runs: Runs, name: str) -> ExactRun:
    run, running = runs[name]
    assert running.process.wait() == -signal.SIGKILL, running.messages()
    assert not run.saved(STEPS).exists()
    run.start().finish()
    return run


def test_a_killed_run_with_deterministic_operations_ends_bit_for_bit(
    runs: Runs, tell: Callable[[str], None]
) -> None:
    again = killed_and_resumed(runs, "exact-killed")
    undisturbed = ended(runs, "exact")
    one, other = again.weights(), undisturbed.weights()
    assert one.keys() == other.keys()
    differing = [name for name in one if not np.array_equal(one[name], other[name])]
    tell(f"{len(differing)} of {len(one)} stored values differ")
    assert differing == []
    np.testing.assert_array_equal(again.losses(), undisturbed.losses())


def test_a_killed_run_ends_near_an_undisturbed_one(
    runs: Runs, tell: Callable[[str], None]
) -> None:
    again = killed_and_resumed(runs, "killed")
    found, wanted = again.losses(), ended(runs, "gpu").losses()
    tell(f"losses within {np.abs(found - wanted).max():.1e} nats")
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_logical_gpus_of_the_command_train_as_one(
    runs: Runs, tell: Callable[[str], None]
) -> None:
    found, wanted = ended(runs, "parts").losses(), ended(runs, "gpu").losses()
    tell(f"losses within {np.abs(found - wanted).max():.1e} nats")
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "to_gpu"), [("to-gpu", True), ("to-cpu", False)])
def test_a_run_goes_on_on_the_other_device(
    runs: Runs, name: str, to_gpu: bool, tell: Callable[[str], None]
) -> None:
    run = ended(runs, name)
    assert run.saved(STEPS // 2).exists() and not run.saved(STEPS).exists()
    run.start(gpu=to_gpu).finish()
    found = run.losses()
    apart = {
        other: np.abs(found - ended(runs, other).losses()).max()
        for other in ("gpu", "cpu")
    }
    tell(f"losses within {apart['gpu']:.1e} nats of the GPU's, {apart['cpu']:.1e} CPU")
    assert max(apart.values()) <= 1e-4
    assert found[0] - found[-1] > 0.1
