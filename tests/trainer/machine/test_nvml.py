# SPDX-License-Identifier: Apache-2.0
"""What NVIDIA's driver is asked: one that answers, one that does not, and none."""

from types import SimpleNamespace

import pytest

from trainer.machine import nvml

MODULE = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release\n"
    "GCC version:  gcc version 13.3.0\n"
)
NVLINK_CAPABILITY = 2


def driver_of(gpus, init=0, linked=lambda one, other, capability: 0):
    """A library like NVML's: `gpus` are (name, capability, total, free)."""

    def value(pointer):
        return pointer._obj  # what ctypes.byref refers to

    def version(text, size):
        text.value = b"580.159.04"
        return 0

    def cuda(number):
        value(number).value = 13_000
        return 0

    def count(number):
        value(number).value = len(gpus)
        return 0

    def handle(index, target):
        value(target).value = index + 1
        return 0

    def name(which, text, size):
        text.value = gpus[which.value - 1][0].encode()
        return 0

    def capability(which, major, minor):
        value(major).value, value(minor).value = gpus[which.value - 1][1]
        return 0

    def memory(which, target):
        value(target)[0], value(target)[1] = gpus[which.value - 1][2:]
        return 0

    def peer(one, other, kind, status):
        value(status).value = linked(one.value - 1, other.value - 1, kind)
        return 0

    return SimpleNamespace(
        nvmlInit_v2=lambda: init,
        nvmlShutdown=lambda: 0,
        nvmlSystemGetDriverVersion=version,
        nvmlSystemGetCudaDriverVersion_v2=cuda,
        nvmlDeviceGetCount_v2=count,
        nvmlDeviceGetHandleByIndex_v2=handle,
        nvmlDeviceGetName=name,
        nvmlDeviceGetCudaComputeCapability=capability,
        nvmlDeviceGetMemoryInfo=memory,
        nvmlDeviceGetP2PStatus=peer,
    )


def absent(name):
    raise OSError(f"{name}: cannot open shared object file")


GPUS = [("NVIDIA H100 80GB HBM3", (9, 0), 80 << 30, 79 << 30)] * 3


def test_a_driver_tells_its_version_and_its_gpus(tmp_path):
    found = nvml.read_driver(lambda name: driver_of(GPUS), tmp_path / "absent")
    assert (found.version, found.cuda, found.error) == ("580.159.04", "13.0", "")
    assert found.gpus == (nvml.Gpu(*GPUS[0]),) * 3


def test_links_are_nvlink_or_pcie_or_the_hosts_memory(tmp_path):
    def linked(one, other, capability):
        nvlink = (one, other) == (0, 1)
        peers = nvlink or (one, other) == (0, 2)
        return int(not (nvlink if capability == NVLINK_CAPABILITY else peers))

    found = nvml.read_driver(lambda name: driver_of(GPUS, linked=linked), tmp_path)
    assert found.links == ((0, 1, nvml.NVLINK), (0, 2, nvml.PEER), (1, 2, nvml.HOST))


def test_what_an_old_driver_cannot_be_asked_is_not_guessed(tmp_path):
    library = driver_of(GPUS)
    del library.nvmlDeviceGetP2PStatus, library.nvmlSystemGetCudaDriverVersion_v2
    del library.nvmlDeviceGetCudaComputeCapability
    found = nvml.read_driver(lambda name: library, tmp_path)
    assert {kind for _, _, kind in found.links} == {nvml.NOT_ASKED}
    assert found.cuda == "" and found.gpus[0] == nvml.Gpu(
        GPUS[0][0], None, *GPUS[0][2:]
    )


@pytest.mark.parametrize("load", [absent, lambda name: driver_of(GPUS, init=9)])
def test_no_library_and_no_module_is_no_driver(tmp_path, load):
    assert nvml.read_driver(load, tmp_path / "absent") is None


def test_a_module_without_its_library_tells_its_version(tmp_path):
    (tmp_path / "version").write_text(MODULE)
    found = nvml.read_driver(absent, tmp_path / "version")
    assert found.version == "580.159.04" and "libnvidia-ml" in found.error


def test_a_library_newer_than_the_module_says_so(tmp_path):
    (tmp_path / "version").write_text(MODULE)
    found = nvml.read_driver(
        lambda name: driver_of(GPUS, init=18), tmp_path / "version"
    )
    assert "kernel module" in found.error and not found.gpus


def test_gpus_are_seen_on_the_bus_without_a_driver(tmp_path):
    for name, vendor, kind in (
        ("0", "0x10de", "0x030200"),  # an H100 is a 3D controller
        ("1", "0x10de", "0x040300"),  # a card's sound
        ("2", "0x8086", "0x030000"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "class").write_text(f"{kind}\n")
    assert nvml.gpus_on_the_bus(tmp_path) == 1
    assert nvml.gpus_on_the_bus(tmp_path / "absent") == 0
