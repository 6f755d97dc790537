# SPDX-License-Identifier: Apache-2.0
"""How many bytes a device has: a GPU's own, or what control groups leave a process."""

import os
import subprocess
from pathlib import Path
from typing import Literal

import tensorflow as tf

_CGROUPS = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
# Version 1 writes a number near 2^63 where there is no limit.
_NO_LIMIT = 1 << 60


def device_memory() -> int | None:
    """Returns the bytes a process may use on its device, None if that is unknown.

    For GPUs it is the memory of the smallest; for a CPU, which all logical devices
    share, the machine's or what the process's control group is limited to.
    """
    if tf.config.list_physical_devices("GPU"):
        return gpu_memory("total")
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    limit = (
        control_group_limit(_MEMBERSHIP.read_text()) if _MEMBERSHIP.exists() else None
    )
    return min(pages * size, limit) if limit is not None else pages * size


def gpu_memory(which: Literal["total", "free"]) -> int | None:
    """Returns bytes of the smallest of the machine's GPUs, None if unknown."""
    command = [
        "nvidia-smi",
        f"--query-gpu=memory.{which}",
        "--format=csv,noheader,nounits",
    ]
    try:
        printed = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    sizes = [int(line) for line in printed.stdout.split() if line.isdigit()]
    return min(sizes) << 20 if sizes else None


def control_group_limit(membership: str, root: Path = _CGROUPS) -> int | None:
    """Returns the least memory limit of a process's control groups, None without one.

    Args:
        membership: what `/proc/PID/cgroup` says: lines of `number:controllers:path`.
            Inside a container the path may be the host's, and then only the root's
            own limit can be seen.
        root: where control groups are mounted.
    """
    limits = []
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top = root / controllers
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        inside = top / path.lstrip("/")
        for folder in (inside, *inside.parents):
            limits += _limit(folder / name)
            if folder == top:
                break
    return min(limits, default=None)


def _limit(path: Path) -> list[int]:
    """Returns the limit that a file states, if it is there and states one."""
    try:
        text = path.read_text().strip()
    except OSError:
        return []
    return [int(text)] if text.isdigit() and int(text) < _NO_LIMIT else []
