# SPDX-License-Identifier: Apache-2.0
"""Ports of this machine for processes that are still to be started.

A port that is merely free may be gone before somebody listens on it: Linux gives any
from 32,768 on (`net.ipv4.ip_local_port_range`) to each connection that is opened, and
TensorFlow takes seconds to start. So ports are taken from below that range, and kept
from whoever asks here at the same time.
"""

import os
import socket
from collections.abc import Iterable, Iterator

_FIRST, _END = 10_000, 32_768
# A step without a common divisor with their number, so that a walk meets every port,
# and processes that start side by side walk far apart.
_STRIDE = 7_919
_held: list[socket.socket] = []


def lend_ports(count: int, candidates: Iterable[int] | None = None) -> list[int]:
    """Returns ports of the loopback that nobody has, kept until this process ends.

    Args:
        count: how many.
        candidates: which to try in turn; None is all that no connection is given.

    Raises:
        OSError: there are not so many.
    """
    ports: list[int] = []
    for port in _walk() if candidates is None else candidates:
        if len(ports) == count:
            return ports
        if _hold(port):
            ports.append(port)
    raise OSError(
        f"wanted {count} free ports from {_FIRST} to {_END - 1}, found {len(ports)}. "
        "End what listens on them"
    )


def _walk() -> Iterator[int]:
    size = _END - _FIRST
    return (_FIRST + (os.getpid() + turn) * _STRIDE % size for turn in range(size))


def _hold(port: int) -> bool:
    """Takes a port for this process, unless another has it or listens on it."""
    # A name in the abstract namespace (unix(7)) has one holder, ends with its process,
    # however that ends, and is no file.
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0quern-port-{port}")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
    except OSError:
        name.close()
        return False
    _held.append(name)
    return True
