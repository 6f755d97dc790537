# SPDX-License-Identifier: Apache-2.0
"""However a GPU is shared out, the same model comes out: losses of 50 steps.

One GPU, with and without accumulation, two logical GPUs cut from it under Mirrored, two
workers on it that sum by the ring, and where there are two GPUs, both by NCCL.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.gpu.machine import REHEARSED, TWO, Running, start
from trainer.distribution.local_ports import lend_ports

pytestmark = pytest.mark.slow

# Label -> (result file, split of strategies_case.py); the same global batch of 8. All
# are compiled whole by XLA, which draws dropout's numbers alike wherever it draws them.
CASES = {
    "one GPU, accumulating": ("one", "4/whole"),
    "two logical GPUs": ("logical", "4/whole"),
    "worker 0 of 2 by the ring": ("worker-0", "4/whole"),
    "worker 1 of 2 by the ring": ("worker-1", "4/whole"),
    "two GPUs by NCCL": ("nccl", "4/whole"),
}
BOTH = "sgd,dropout"
Results = Callable[[str], dict[str, np.ndarray]]


def start_all(directory: Path, gpus: int) -> dict[str, Running]:
    """Starts all at once, each in processes of its own."""
    ring = "" if REHEARSED else "collectives=ring"
    commands = {
        "one": ["one_device", "", BOTH, "8/whole", "4/whole"],
        "logical": ["mirrored", f"{TWO}=2", BOTH, "4/whole"],
        "worker-0": ["multi_worker", ring, BOTH, "4/whole"],
        "worker-1": ["multi_worker", ring, BOTH, "4/whole"],
        "cpu": ["one_device", "", "sgd", "8"],
    }
    if gpus > 1:
        commands["nccl"] = ["mirrored", "", BOTH, "4/whole"]
    workers = [f"127.0.0.1:{port}" for port in lend_ports(2)]
    started = {}
    for name, command in commands.items():
        tf_config, visible = "", {"CUDA_VISIBLE_DEVICES": "0"}
        if name.startswith("worker"):
            task = {"type": "worker", "index": int(name[-1])}
            tf_config = json.dumps({"cluster": {"worker": workers}, "task": task})
        if name in ("cpu", "nccl") or REHEARSED:
            visible = {}
        started[name] = start(
            directory / f"{name}.log",
            "tests.trainer.distribution.strategies_case",
            *(*command, str(directory / f"{name}.npz")),
            gpu=name != "cpu",
            TF_CONFIG=tf_config,
            **visible,
        )
    return started


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, gpus: int) -> Iterator[Results]:
    """Returns what a process found, once it has ended well."""
    directory = tmp_path_factory.mktemp("replicas")
    started = start_all(directory, gpus)

    def of(name: str) -> dict[str, np.ndarray]:
        if name not in started:
            pytest.skip("wanted two GPUs for NCCL, found one")
        started[name].finish()
        return dict(np.load(directory / f"{name}.npz"))

    yield of
    for running in started.values():
        running.kill()


def test_fifty_steps_on_the_gpu_are_those_of_the_cpu(
    results: Results, tell: Callable[[str], None]
) -> None:
    gpu, cpu = results("one")["loss-sgd-8/whole"], results("cpu")["loss-sgd-8"]
    tell(f"losses within {np.abs(gpu - cpu).max():.1e} nats")
    np.testing.assert_allclose(gpu, cpu, rtol=0, atol=1e-4)
    assert gpu[0] - gpu[-1] > 1.0


@pytest.mark.parametrize("label", CASES)
def test_losses_agree_to_five_decimals(
    results: Results, label: str, tell: Callable[[str], None]
) -> None:
    name, split = CASES[label]
    found, one = results(name), results("one")
    apart = {
        case: np.abs(found[f"loss-{case}-{split}"] - one[f"loss-{case}-8/whole"]).max()
        for case in BOTH.split(",")
    }
    gradient = np.abs(found[f"gradient-{split}"] - one["gradient-8/whole"]).max()
    tell(
        f"losses within {apart['sgd']:.1e} nats, with dropout {apart['dropout']:.1e}, "
        f"first gradients within {gradient:.1e}"
    )
    assert max(apart.values()) <= 5e-6 and gradient <= 1e-6
