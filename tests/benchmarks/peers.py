# SPDX-License-Identifier: Apache-2.0
"""Runs a peer in an interpreter of its own and asks it for work, line by line.

A peer's script prints a JSON line when it is ready, then one for each line it is given
on standard input.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from typing import IO, Any


class Peer:
    """A process that waits for work; `facts` is what it said when it was ready."""

    def __init__(self, process: subprocess.Popen[str], facts: dict[str, Any]) -> None:
        self._process, self.facts = process, facts

    def ask(self, request: Any) -> Any:
        """Sends a request as JSON and returns the answer."""
        print(json.dumps(request), file=_open(self._process.stdin), flush=True)
        return json.loads(_open(self._process.stdout).readline())

    def close(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.wait()


def start_peer(name: str, command: Sequence[str]) -> Peer | None:
    """Starts a peer and waits until it is ready; None, said by name, where it fails."""
    # The peer's directory must not shadow its packages, nor ours reach it.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    # A file, not a pipe: nobody reads a pipe while the peer compiles, and it may fill.
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )
        line = _open(process.stdout).readline()
        if line:
            return Peer(process, json.loads(line))
        process.wait()
        errors.seek(0)
        reason = (errors.read().strip() or "no output").splitlines()[-1]
    print(f"{name} skipped: {reason}")
    return None


def _open(stream: IO[str] | None) -> IO[str]:
    assert stream is not None  # every stream is a pipe
    return stream
