# SPDX-License-Identifier: Apache-2.0
"""The same model comes out of every strategy: losses of 50 steps to five decimals.

Dropout included, since its masks follow from the row's place in the global batch.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.distribution.strategies_case import CLIP_NORM
from trainer.distribution.local_ports import lend_ports

pytestmark = pytest.mark.slow

# Label -> (result file, split of strategies_case.py); the same global batch of 8.
CASES = {
    "one device, accumulating 2": ("one", "4"),
    "one device, accumulating 4": ("one", "2"),
    "one device, two lanes": ("one", "8x2"),
    "one device, two lanes, accumulating": ("one", "4x2"),
    "two replicas": ("mirrored", "4"),
    "two replicas, accumulating": ("mirrored", "2"),
    "four replicas": ("four", "2"),
    "worker 0 of 2": ("worker-0", "4"),
    "worker 1 of 2": ("worker-1", "4"),
    "one device, parts by XLA": ("one", "8/parts"),
    "two replicas, parts by XLA": ("mirrored", "4/parts"),
    "two replicas, two lanes each, parts by XLA": ("mirrored", "4x2/parts"),
    "worker 1 of 2, parts by XLA": ("worker-1", "4/parts"),
    "a parameter server": ("whole-chief-0", "8"),
    "two parameter servers with pieces": ("pieces-chief-0", "8"),
}
SYNCHRONOUS = [label for label in CASES if "parameter" not in label]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    return train(tmp_path_factory.mktemp("strategies"), "sgd,dropout")


def train(directory: Path, cases: str) -> dict[str, dict]:
    """Runs every strategy at once, each in processes of its own."""
    alone = {
        "one": ["one_device", "", cases, "8", "4", "2", "8x2", "4x2", "8/parts"],
        "mirrored": [
            "mirrored",
            "logical_cpus=2",
            cases,
            "4",
            "2",
            "4/parts",
            "4x2/parts",
        ],
        "four": ["mirrored", "logical_cpus=4", cases, "2"],
    }
    processes = {
        name: start(directory / f"{name}.npz", arguments)
        for name, arguments in alone.items()
    }
    processes |= start_cluster(
        directory, "", ["multi_worker", "", cases, "4", "4/parts"], worker=2
    )
    servers = {}
    for name, count in (("whole-", 1), ("pieces-", 2)):
        arguments = ["parameter_server", "", cases, "8"]
        servers |= start_cluster(
            directory, name, arguments, chief=1, worker=1, ps=count
        )
    processes |= {name: servers.pop(name) for name in list(servers) if "chief" in name}
    try:
        for name, process in processes.items():
            _, errors = process.communicate()
            assert process.returncode == 0, f"{name}: {errors[-2000:]}"
    finally:
        for process in (*processes.values(), *servers.values()):
            process.kill()
            process.wait()
    return {name: dict(np.load(directory / f"{name}.npz")) for name in processes}


def start_cluster(
    directory: Path, prefix: str, arguments: list[str], **tasks: int
) -> dict[str, subprocess.Popen]:
    """Starts `tasks` processes of each role, named like `worker-0`."""
    ports = iter(lend_ports(sum(tasks.values())))
    cluster = {
        role: [f"127.0.0.1:{next(ports)}" for _ in range(count)]
        for role, count in tasks.items()
    }
    return {
        f"{prefix}{role}-{index}": start(
            directory / f"{prefix}{role}-{index}.npz",
            arguments,
            json.dumps({"cluster": cluster, "task": {"type": role, "index": index}}),
        )
        for role, count in tasks.items()
        for index in range(count)
    }


def start(output: Path, arguments: list[str], tf_config: str = "") -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.trainer.distribution.strategies_case"]
    return subprocess.Popen(
        [*command, *arguments, str(output)],
        env={**os.environ, "TF_CONFIG": tf_config, "CUDA_VISIBLE_DEVICES": "-1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_losses_agree(results: dict, label: str, case: str) -> None:
    name, split = CASES[label]
    found, wanted = results[name][f"loss-{case}-{split}"], results["one"]
    np.testing.assert_allclose(found, wanted[f"loss-{case}-8"], rtol=0, atol=5e-6)


@pytest.mark.parametrize("label", CASES)
@pytest.mark.parametrize("case", ["sgd", "dropout"])
def test_losses_of_50_steps_agree_to_five_decimals(
    results: dict, label: str, case: str
) -> None:
    assert_losses_agree(results, label, case)


@pytest.mark.drill
def test_losses_of_adamw_without_dropout_agree_too(tmp_path: Path) -> None:
    results = train(tmp_path, "adamw")
    for label in CASES:
        assert_losses_agree(results, label, "adamw")


@pytest.mark.parametrize("label", SYNCHRONOUS)
def test_gradients_of_the_first_step_agree(results: dict, label: str) -> None:
    name, split = CASES[label]
    np.testing.assert_allclose(
        results[name][f"gradient-{split}"],
        results["one"]["gradient-8"],
        rtol=0,
        atol=1e-6,
    )
    assert np.abs(results["one"]["gradient-8"]).max() > 1e-2


def test_clipping_is_active_at_every_step_of_adamw(results: dict) -> None:
    assert results["one"]["norm-dropout-8"].min() > CLIP_NORM


@pytest.mark.parametrize("case", ["sgd", "dropout"])
def test_the_loss_falls_by_a_nat(results: dict, case: str) -> None:
    losses = results["one"][f"loss-{case}-8"]
    assert losses[0] - losses[-1] > 1.0
