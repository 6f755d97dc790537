# SPDX-License-Identifier: Apache-2.0
"""Ports for processes that are still to be started are nobody else's."""

import json
import socket
import subprocess
import sys

import pytest

from trainer.distribution import local_ports
from trainer.distribution.local_ports import lend_ports

_ASK = (
    "import json, sys; from trainer.distribution.local_ports import lend_ports\n"
    "print(json.dumps(lend_ports(300)), flush=True); sys.stdin.read()"
)


@pytest.mark.slow
def test_processes_that_ask_at_once_get_different_ports_until_they_end():
    command = [sys.executable, "-c", _ASK]
    pipe = subprocess.PIPE
    askers = [subprocess.Popen(command, stdin=pipe, stdout=pipe) for _ in range(3)]
    lent = [json.loads(asker.stdout.readline()) for asker in askers]
    assert len({port for ports in lent for port in ports}) == 900
    assert not local_ports._hold(lent[0][0])
    for asker in askers:
        asker.communicate()
    assert local_ports._hold(lent[0][0])


def test_a_port_that_is_listened_on_is_passed_over():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=r"wanted 1 free ports.* found 0"):
            lend_ports(1, [port, port])


def test_no_port_is_one_that_connections_are_opened_from():
    assert all(10_000 <= port < 32_768 for port in lend_ports(50))
    assert len(set(local_ports._walk())) == 32_768 - 10_000
