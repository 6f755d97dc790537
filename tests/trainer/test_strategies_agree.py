# SPDX-License-Identifier: Apache-2.0
"""One replica, two replicas, two workers and accumulation train the same model."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.strategies_case import CLIP_NORM

# Label -> (result file, micro-batch size); the same global batch of 8 everywhere.
CASES = {
    "two replicas": ("mirrored", 4),
    "two replicas, accumulating": ("mirrored", 2),
    "worker 0 of 2": ("worker-0", 4),
    "worker 1 of 2": ("worker-1", 4),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """Runs one device, two logical CPUs and two workers at once, four processes."""
    directory = tmp_path_factory.mktemp("strategies")
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    processes = {
        "one": start(directory / "one.npz", ["one_device", "1", "8"]),
        "mirrored": start(directory / "mirrored.npz", ["mirrored", "2", "4", "2"]),
    }
    for index in range(2):
        name, task = f"worker-{index}", {"type": "worker", "index": index}
        processes[name] = start(
            directory / f"{name}.npz",
            ["multi_worker", "1", "4"],
            json.dumps({"cluster": cluster, "task": task}),
        )
    try:
        for name, process in processes.items():
            _, errors = process.communicate(timeout=280)
            assert process.returncode == 0, f"{name}: {errors[-2000:]}"
    finally:
        for process in processes.values():
            process.kill()
    return {name: dict(np.load(directory / f"{name}.npz")) for name in processes}


def start(output: Path, arguments: list[str], tf_config: str = "") -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.trainer.strategies_case"]
    return subprocess.Popen(
        [*command, *arguments, str(output)],
        env={**os.environ, "TF_CONFIG": tf_config, "CUDA_VISIBLE_DEVICES": "-1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.mark.parametrize("label", CASES)
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_losses_of_50_steps_agree_to_five_decimals(
    results: dict, label: str, optimizer: str
) -> None:
    name, micro = CASES[label]
    np.testing.assert_allclose(
        results[name][f"loss-{optimizer}-{micro}"],
        results["one"][f"loss-{optimizer}-8"],
        rtol=0,
        atol=5e-6,
    )


@pytest.mark.parametrize("label", CASES)
def test_gradients_of_the_first_step_agree(results: dict, label: str) -> None:
    name, micro = CASES[label]
    np.testing.assert_allclose(
        results[name][f"gradient-{micro}"],
        results["one"]["gradient-8"],
        rtol=0,
        atol=1e-6,
    )
    assert np.abs(results["one"]["gradient-8"]).max() > 1e-2


def test_clipping_is_active_at_every_step_of_adamw(results: dict) -> None:
    assert results["one"]["norm-adamw-8"].min() > CLIP_NORM


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_loss_falls_by_a_nat(results: dict, optimizer: str) -> None:
    losses = results["one"][f"loss-{optimizer}-8"]
    assert losses[0] - losses[-1] > 1.0
