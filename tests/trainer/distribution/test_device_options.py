# SPDX-License-Identifier: Apache-2.0
"""How devices are cut and talk: chosen from numbers, so that no GPU is needed."""

import argparse

import pytest
import tensorflow as tf

from preprocessing.foundation.commands import CommandParser, UsageError
from trainer import task
from trainer.distribution import devices, strategies
from trainer.distribution.device_options import (
    DeviceOptions,
    add_device_flags,
    device_options,
)
from trainer.distribution.strategies import count_replicas, make_strategy, resolve


@pytest.mark.parametrize(
    ("options", "gpus", "replicas", "sharing"),
    [
        (DeviceOptions(), 0, 1, 1),
        (DeviceOptions(), 8, 8, 1),
        (DeviceOptions(logical_cpus=4), 0, 4, 4),
        (DeviceOptions(logical_cpus=4), 2, 2, 1),
        (DeviceOptions(logical_gpus=2), 1, 2, 2),
        (DeviceOptions(logical_gpus=3), 2, 6, 3),
    ],
)
def test_replicas_are_the_parts_of_the_gpus_or_else_of_the_cpu(
    options: DeviceOptions, gpus: int, replicas: int, sharing: int
) -> None:
    assert options.local_replicas(gpus) == replicas
    assert options.sharing(gpus) == sharing


@pytest.mark.parametrize(
    ("options", "gpus", "nccl"),
    [
        (DeviceOptions(), 0, False),
        (DeviceOptions(), 1, True),
        (DeviceOptions(logical_gpus=2), 1, False),
        (DeviceOptions(collectives="ring"), 8, False),
        (DeviceOptions(collectives="nccl"), 8, True),
    ],
)
def test_workers_talk_by_nccl_on_whole_gpus_and_by_the_ring_elsewhere(
    options: DeviceOptions, gpus: int, nccl: bool
) -> None:
    assert options.uses_nccl(gpus) is nccl


@pytest.mark.parametrize(
    ("options", "gpus", "missing"),
    [
        (DeviceOptions(logical_gpus=2), 0, "a GPU to cut for --logical_gpus 2"),
        (DeviceOptions(collectives="nccl"), 0, "found no GPU"),
        (
            DeviceOptions(collectives="nccl", logical_gpus=2),
            1,
            "found logical GPUs, which share one",
        ),
    ],
)
def test_what_the_devices_cannot_do_is_refused_on_one_line(
    options: DeviceOptions, gpus: int, missing: str
) -> None:
    with pytest.raises(UsageError, match=missing) as refused:
        options.check(gpus)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("field", "value"), [("logical_cpus", 0), ("logical_gpus", 0), ("collectives", "x")]
)
def test_a_value_out_of_range_names_its_flag(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"--{field}"):
        DeviceOptions(**{field: value})


def test_flags_not_given_leave_devices_whole() -> None:
    parser = CommandParser("quern", "")
    add_device_flags(parser)
    assert device_options(parser.parse_args([])) == DeviceOptions()
    flags = ["--logical_gpus", "2", "--collectives", "ring"]
    named: argparse.Namespace = parser.parse_args(flags)
    assert device_options(named) == DeviceOptions(1, 2, "ring")


def test_logical_gpus_share_nine_tenths_of_what_is_free() -> None:
    assert devices.share_mib(80 << 30, 2) == 36 << 10
    with pytest.raises(UsageError, match="memory for 4 logical GPUs, found 1 MiB"):
        devices.share_mib(1 << 20, 4)


def test_logical_gpus_need_a_gpu_before_anything_is_built(dataset, tmp_path) -> None:
    flags = ["--data", str(dataset), "--run", str(tmp_path / "run"), "--preset", "tiny"]
    with pytest.raises(UsageError, match="wanted a GPU to cut"):
        task.main([*flags, "--logical_gpus", "2"])
    with pytest.raises(UsageError, match="wanted a GPU to cut"):
        task.main([*flags, "--logical_gpus", "2", "--dry_run"])
    assert not (tmp_path / "run").exists()


def test_collectives_are_for_workers() -> None:
    with pytest.raises(UsageError, match="--collectives ring for --strategy multi_w"):
        make_strategy("one_device", DeviceOptions(collectives="ring"))


class Machine:
    """A machine with one GPU, as far as it is asked here."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.cuts: list = []
        gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")

        def listed(kind: str) -> list:
            return [gpu] if kind == "GPU" else []

        def cut(device: tf.config.PhysicalDevice, parts: list) -> None:
            self.cuts += [(device.device_type, part.memory_limit) for part in parts]

        patch.setattr(tf.config, "list_physical_devices", listed)
        patch.setattr(tf.config, "set_logical_device_configuration", cut)
        patch.setattr(devices, "gpu_memory", lambda which: 80 << 30)


def test_a_gpu_is_cut_and_auto_mirrors_its_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    machine, two = Machine(monkeypatch), DeviceOptions(logical_gpus=2)
    assert resolve("auto") == "one_device"
    assert resolve("auto", two) == "mirrored"
    assert count_replicas("auto", two) == 2
    devices.cut_devices(two)
    assert machine.cuts == [("GPU", 36 << 10)] * 2


def test_a_gpu_of_unknown_memory_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    monkeypatch.setattr(devices, "gpu_memory", lambda which: None)
    with pytest.raises(UsageError, match="nvidia-smi"):
        devices.cut_devices(DeviceOptions(logical_gpus=2))
    assert machine.cuts == []


def test_only_logical_gpus_are_summed_on_one_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    Machine(monkeypatch)
    asked = []
    monkeypatch.setattr(strategies, "device_names", lambda: ["GPU:0", "GPU:1"])
    monkeypatch.setattr(
        tf.distribute, "MirroredStrategy", lambda names, ops: asked.append(ops)
    )
    make_strategy("mirrored", DeviceOptions(logical_gpus=2))
    make_strategy("mirrored")
    assert isinstance(asked[0], tf.distribute.ReductionToOneDevice)
    assert asked[1] is None


@pytest.mark.parametrize(
    ("collectives", "wanted"), [("auto", "NCCL"), ("ring", "RING")]
)
def test_workers_name_nccl_which_auto_never_takes(
    monkeypatch: pytest.MonkeyPatch, collectives: str, wanted: str
) -> None:
    Machine(monkeypatch)
    asked = []
    monkeypatch.setattr(
        tf.distribute,
        "MultiWorkerMirroredStrategy",
        lambda communication_options: asked.append(communication_options),
    )
    monkeypatch.setattr(strategies, "resolve", lambda name, options: "multi_worker")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    make_strategy("multi_worker", DeviceOptions(collectives=collectives))
    assert asked[0].implementation.value == wanted
