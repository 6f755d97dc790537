# SPDX-License-Identifier: Apache-2.0
"""A gradient that is not finite on one replica alone is skipped on all of them."""

import json

import pytest

from tests.trainer.forked import Forked
from trainer.distribution.local_ports import lend_ports
from trainer.step.guard import NOT_FINITE

pytestmark = pytest.mark.slow


def start(strategy: str, logical_cpus: int, tf_config: str = "") -> Forked:
    return Forked(
        "tests.trainer.step.replica_fault_case",
        [strategy, str(logical_cpus)],
        {"TF_CONFIG": tf_config, "CUDA_VISIBLE_DEVICES": "-1"},
    )


@pytest.mark.parametrize("strategy", ["mirrored", "multi_worker"])
def test_all_replicas_skip_what_is_not_finite_on_one(strategy: str) -> None:
    if strategy == "mirrored":
        processes = [start("mirrored", 2)]
    else:
        cluster = {"worker": [f"127.0.0.1:{port}" for port in lend_ports(2)]}
        configs = [
            {"cluster": cluster, "task": {"type": "worker", "index": index}}
            for index in range(2)
        ]
        processes = [start("multi_worker", 1, json.dumps(each)) for each in configs]
    for process in processes:
        printed, errors = process.communicate()
        assert process.returncode == 0, errors[-2000:]
        assert json.loads(printed) == {"skipped": [NOT_FINITE], "kept": True}
