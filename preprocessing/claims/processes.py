# SPDX-License-Identifier: Apache-2.0
"""Which process this is, in words that another one can judge: does it still live?

A process's number means something only to those who share its kernel and its namespace
of numbers. Containers may share a host's name and not the numbers, or the numbers and
not the name, and numbers come again: so the boot, the namespaces and the start of the
process stand beside it.
"""

import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACES = ("pid", "time")  # kernels before 5.6 have none of time
_STATE, _START = 0, 19  # of /proc/PID/stat, behind the command's name
_ENDED = "ZX"  # a zombie only waits to be asked for its status


@dataclass(frozen=True)
class ProcessId:
    """A process as a file names it.

    Attributes:
        host: the name of its machine or container.
        kernel: its boot and its namespaces of numbers and of time; empty where a
            system tells none, which is then like no other.
        process: its number there, above 0.
        start: when it began, in ticks since the boot.
    """

    host: str
    kernel: str
    process: int
    start: int


def this_process() -> ProcessId:
    """Returns this process."""
    number = os.getpid()
    fields = _fields(number)
    start = 0 if fields is None else int(fields[_START])
    return ProcessId(socket.gethostname(), _kernel(), number, start)


def lives(other: ProcessId) -> bool | None:
    """Tells whether a process lives; None where that cannot be seen from here."""
    here = socket.gethostname(), _kernel()
    if not here[1] or (other.host, other.kernel) != here:
        return None
    try:
        os.kill(other.process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another user's
    fields = _fields(other.process)
    if fields is None:
        return None  # hidden from us, or ended meanwhile
    return fields[_STATE] not in _ENDED and int(fields[_START]) == other.start


def _kernel() -> str:
    with contextlib.suppress(OSError):
        links = [Path(f"/proc/self/ns/{name}") for name in _NAMESPACES]
        spaces = [os.readlink(link) for link in links if link.is_symlink()]
        return " ".join([_BOOT.read_text().strip(), *spaces]) if spaces else ""
    return ""


def _fields(number: int) -> list[str] | None:
    """Returns what /proc says of a process; None where it shows none."""
    try:
        text = Path(f"/proc/{number}/stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()
