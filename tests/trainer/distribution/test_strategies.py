# SPDX-License-Identifier: Apache-2.0
import json

import pytest
import tensorflow as tf

from preprocessing.foundation.commands import UsageError
from trainer.distribution.device_options import DeviceOptions
from trainer.distribution.strategies import choose, make_strategy, read_tf_config

WORKERS = {
    "cluster": {"worker": ["a:1", "b:1"]},
    "task": {"type": "worker", "index": 1},
}


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TF_CONFIG", "TPU_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("roles", "num_gpus", "expected"),
    [
        ((), 0, "one_device"),
        ((), 1, "one_device"),
        ((), 2, "mirrored"),
        (("worker",), 0, "multi_worker"),
        (("chief", "worker"), 2, "multi_worker"),
        (("worker", "ps"), 0, "parameter_server"),
    ],
)
def test_auto_reads_the_cluster_first_and_the_devices_then(
    roles: tuple, num_gpus: int, expected: str
) -> None:
    assert choose("auto", frozenset(roles), num_gpus) == expected
    assert choose("mirrored", frozenset(roles), num_gpus) == "mirrored"


def test_auto_takes_a_tpu_where_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPU_NAME", "local")
    assert choose("auto", frozenset(), 0) == "tpu"


def test_the_roles_are_those_of_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_tf_config() == frozenset()
    monkeypatch.setenv("TF_CONFIG", json.dumps(WORKERS))
    assert read_tf_config() == {"worker"}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"cluster": {"worker": ["a:1"]}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
    ],
)
def test_a_broken_tf_config_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UsageError, match="wanted TF_CONFIG as"):
        make_strategy("auto")


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("tpu", "wanted a TPU"),
        ("parameter_server", "TF_CONFIG naming parameter servers"),
        ("multi_worker", "TF_CONFIG naming workers"),
        ("mirored", "--strategy"),
    ],
)
def test_what_is_not_there_is_named(name: str, missing: str) -> None:
    with pytest.raises(UsageError, match=missing):
        make_strategy(name)


def test_a_started_tensorflow_cannot_be_split_any_more() -> None:
    tf.config.list_logical_devices()
    with pytest.raises(UsageError, match="already started"):
        make_strategy("mirrored", DeviceOptions(logical_cpus=3))


def test_one_device_has_one_replica() -> None:
    assert make_strategy("one_device").num_replicas_in_sync == 1
