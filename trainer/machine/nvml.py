# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's driver and its GPUs, asked of NVML, the library that comes with a driver.

Through ctypes: no package has to be installed, nothing is allocated on a GPU, and where
there is no driver the answer takes no time. It sees every GPU of the machine, whatever
CUDA_VISIBLE_DEVICES says. Names and numbers are those of nvml.h.
"""

import ctypes
import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LIBRARY = "libnvidia-ml.so.1"
_LOADED = Path("/proc/driver/nvidia/version")
_BUS = Path("/sys/bus/pci/devices")
_NVIDIA, _DISPLAY_CLASS = "0x10de", "0x03"
_SUCCESS, _NOT_LOADED = 0, 9
_CODES = {
    4: "no permission to ask",
    15: "a GPU fell off the bus",
    18: "the driver was renewed, and its old kernel module is still loaded",
}
_TEXT_BYTES = 96
_CAPABILITY_READ, _CAPABILITY_NVLINK = 0, 2
NVLINK, PEER, HOST = "NVLink", "PCIe", "host memory"
NOT_ASKED = "not asked"


@dataclass(frozen=True)
class Gpu:
    """A GPU as its driver describes it; an empty value was not told.

    Attributes:
        name: the maker's name for it.
        capability: major and minor compute capability.
        total: bytes of its memory.
        free: bytes of it that no process holds.
    """

    name: str
    capability: tuple[int, int] | None
    total: int
    free: int


@dataclass(frozen=True)
class Driver:
    """A driver that is loaded.

    Attributes:
        version: its own, such as "580.65.06"; empty where it was not told.
        cuda: the newest CUDA that it runs in full, such as "13.0"; or empty.
        gpus: its GPUs, in its own order.
        links: (GPU, GPU, how one reaches the other's memory): `NVLINK`, `PEER` by way
            of PCIe, `HOST` by way of the host's memory, or `NOT_ASKED`.
        error: why it did not answer; empty where it did.
    """

    version: str
    cuda: str = ""
    gpus: tuple[Gpu, ...] = ()
    links: tuple[tuple[int, int, str], ...] = ()
    error: str = ""


class _Failed(Exception):
    """NVML answered with an error's number, or lacks the function."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


def read_driver(
    load: Callable[[str], Any] = ctypes.CDLL, loaded: Path = _LOADED
) -> Driver | None:
    """Returns the driver that is loaded, or None where none is.

    Args:
        load: opens a shared library by name, or raises `OSError`.
        loaded: a file that the kernel module shows while it is loaded.
    """
    version = _module_version(loaded)
    try:
        with _session(load(_LIBRARY)) as library:
            return _ask(library)
    except OSError:
        if version is None:
            return None
        return Driver(version, error=f"{_LIBRARY} does not open")
    except _Failed as failed:
        if version is None and failed.code == _NOT_LOADED:
            return None
        reason = _CODES.get(failed.code or 0, f"NVML error {failed.code}")
        return Driver(version or "", error=reason)


def gpus_on_the_bus(devices: Path = _BUS) -> int:
    """Counts NVIDIA's display devices on the PCI bus, seen without a driver."""
    found = 0
    for device in devices.glob("*"):
        try:
            vendor = (device / "vendor").read_text().strip()
            kind = (device / "class").read_text()
        except OSError:
            continue
        found += vendor == _NVIDIA and kind.startswith(_DISPLAY_CLASS)
    return found


def _module_version(loaded: Path) -> str | None:
    try:
        text = loaded.read_text()
    except OSError:
        return None
    match = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", text)
    return match[0] if match else ""


@contextmanager
def _session(library: Any) -> Iterator[Any]:
    _call(library, "nvmlInit_v2")
    try:
        yield library
    finally:
        library.nvmlShutdown()


def _ask(library: Any) -> Driver:
    text, count = ctypes.create_string_buffer(_TEXT_BYTES), ctypes.c_uint()
    _call(library, "nvmlSystemGetDriverVersion", text, _TEXT_BYTES)
    _call(library, "nvmlDeviceGetCount_v2", ctypes.byref(count))
    handles = [_handle(library, index) for index in range(count.value)]
    return Driver(
        version=text.value.decode(),
        cuda=_cuda(library),
        gpus=tuple(_gpu(library, handle) for handle in handles),
        links=tuple(
            (a, b, _link(library, handles[a], handles[b]))
            for a, b in itertools.combinations(range(len(handles)), 2)
        ),
    )


def _cuda(library: Any) -> str:
    number = ctypes.c_int()
    try:
        _call(library, "nvmlSystemGetCudaDriverVersion_v2", ctypes.byref(number))
    except _Failed:
        return ""
    return f"{number.value // 1000}.{number.value % 1000 // 10}"


def _handle(library: Any, index: int) -> ctypes.c_void_p:
    handle = ctypes.c_void_p()
    _call(library, "nvmlDeviceGetHandleByIndex_v2", index, ctypes.byref(handle))
    return handle


def _gpu(library: Any, handle: ctypes.c_void_p) -> Gpu:
    name = ctypes.create_string_buffer(_TEXT_BYTES)
    major, minor = ctypes.c_int(), ctypes.c_int()
    memory = (ctypes.c_ulonglong * 3)()  # total, free, used
    _call(library, "nvmlDeviceGetName", handle, name, _TEXT_BYTES)
    # What is not told stays empty, and is reported so.
    with suppress(_Failed):
        function = "nvmlDeviceGetCudaComputeCapability"
        _call(library, function, handle, ctypes.byref(major), ctypes.byref(minor))
    with suppress(_Failed):
        _call(library, "nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
    capability = (major.value, minor.value) if major.value else None
    return Gpu(name.value.decode(), capability, memory[0], memory[1])


def _link(library: Any, one: ctypes.c_void_p, other: ctypes.c_void_p) -> str:
    try:
        for capability, kind in (
            (_CAPABILITY_NVLINK, NVLINK),
            (_CAPABILITY_READ, PEER),
        ):
            status = ctypes.c_int()
            function = "nvmlDeviceGetP2PStatus"
            _call(library, function, one, other, capability, ctypes.byref(status))
            if status.value == _SUCCESS:
                return kind
    except _Failed:
        return NOT_ASKED
    return HOST


def _call(library: Any, name: str, *arguments: Any) -> None:
    try:
        code = getattr(library, name)(*arguments)
    except AttributeError:
        raise _Failed(None) from None
    if code != _SUCCESS:
        raise _Failed(code)
