# SPDX-License-Identifier: Apache-2.0
"""The same model comes out of every strategy: losses of 50 steps to five decimals.

Dropout included, since its masks follow from the row's place in the global batch.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from tests.trainer.distribution.strategies_case import CLIP_NORM
from tests.trainer.forked import Forked
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
# Each is another's part, whose agreement holds only if its own does: four steps of
# accumulation beside two, lanes and replicas compiled in parts beside replicas alone.
# Of two servers one has whole what is too small for pieces.
PARTS = {
    "one device, accumulating 2",
    "two replicas, parts by XLA",
    "a parameter server",
}
LABELS = [label for label in CASES if label not in PARTS]
SYNCHRONOUS = [label for label in LABELS if "parameter" not in label]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    return train(tmp_path_factory.mktemp("strategies"), "dropout", LABELS)


def train(directory: Path, cases: str, labels: Iterable[str]) -> dict[str, dict]:
    """Runs every strategy at once, each in processes of its own."""
    asked = {name: ["8"] if name == "one" else [] for name, _ in CASES.values()}
    for name, split in map(CASES.__getitem__, labels):
        asked[name].append(split)
    kinds = {
        "one": ["one_device", ""],
        "mirrored": ["mirrored", "logical_cpus=2"],
        "four": ["mirrored", "logical_cpus=4"],
    }
    processes = {
        name: start(directory / f"{name}.npz", [*kind, cases, *asked[name]])
        for name, kind in kinds.items()
    }
    arguments = ["multi_worker", "", cases, *asked["worker-1"]]
    processes |= start_cluster(directory, "", arguments, worker=2)
    servers = {}
    for name, count in (("whole-", 1), ("pieces-", 2)):
        if asked[f"{name}chief-0"]:
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
    return {name: dict(np.load(directory / f"{name}.npz")) for name in processes}


def start_cluster(
    directory: Path, prefix: str, arguments: list[str], **tasks: int
) -> dict[str, Forked]:
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


def start(output: Path, arguments: list[str], tf_config: str = "") -> Forked:
    return Forked(
        "tests.trainer.distribution.strategies_case",
        [*arguments, str(output)],
        {"TF_CONFIG": tf_config, "CUDA_VISIBLE_DEVICES": "-1"},
    )


def assert_losses_agree(results: dict, label: str, case: str) -> None:
    name, split = CASES[label]
    # AdamW is blind to what all gradients are multiplied by, and clipping hides it:
    # so their norms before that agree as well.
    for what in ("loss", "norm"):
        found, wanted = results[name], results["one"]
        np.testing.assert_allclose(
            found[f"{what}-{case}-{split}"],
            wanted[f"{what}-{case}-8"],
            rtol=0,
            atol=5e-6,
        )


@pytest.mark.parametrize("label", LABELS)
def test_losses_and_gradients_of_50_steps_agree_to_five_decimals(
    results: dict, label: str
) -> None:
    assert_losses_agree(results, label, "dropout")


@pytest.mark.drill
@pytest.mark.parametrize("case", ["adamw", "sgd", "dropout"])
def test_every_strategy_agrees_with_and_without_dropout(
    tmp_path: Path, case: str
) -> None:
    results = train(tmp_path, case, CASES)
    for label in CASES:
        assert_losses_agree(results, label, case)


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


def test_the_loss_falls_by_a_nat(results: dict) -> None:
    losses = results["one"]["loss-dropout-8"]
    assert losses[0] - losses[-1] > 1.0
