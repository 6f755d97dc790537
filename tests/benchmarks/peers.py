# SPDX-License-Identifier: Apache-2.0
"""Runs a peer in an interpreter of its own and asks it for work, line by line.

A peer's script prints a JSON line when it is ready, then one for each line it is given
on standard input.
"""

import json
import os
import select
import subprocess
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO, Any


def peer_script(name: str) -> Path:
    """Returns the path of a peer's script."""
    return Path(__file__).with_name("peer_sides") / name


class Peer:
    """A process that waits for work; `facts` is what it said when it was ready."""

    def __init__(self, process: subprocess.Popen[str], facts: dict[str, Any]) -> None:
        self._process, self.facts = process, facts

    def ask(self, request: Any) -> Any:
        """Sends a request as JSON and returns the answer."""
        print(json.dumps(request), file=_open(self._process.stdin), flush=True)
        line = _open(self._process.stdout).readline()
        if not line:
            raise RuntimeError(f"wanted an answer to {request!r}, the peer is gone")
        return json.loads(line)

    def close(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.wait()


class LaunchedPeer:
    """A peer that gets ready while its caller does something else."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        without: Collection[str] = ("PYTHONPATH",),
    ) -> None:
        """Starts the process.

        Args:
            name: how it is called where it fails.
            command: what to run.
            without: variables of the environment that it must not see.
        """
        self._name = name
        environment = {k: v for k, v in os.environ.items() if k not in without}
        # A file, not a pipe: nobody reads a pipe while the peer compiles, and it may
        # fill.
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )

    def ready(self, seconds: float | None = None) -> Peer | None:
        """Waits until it is ready; None, said by name, where it fails or is late.

        Args:
            seconds: how long it may take; None is for ever.
        """
        stdout = _open(self._process.stdout)
        if not select.select([stdout], [], [], seconds)[0]:
            self.close()
            print(f"{self._name} skipped: not ready in time")
            return None
        line = stdout.readline()
        if line:
            return Peer(self._process, json.loads(line))
        self._process.wait()
        self._errors.seek(0)
        reason = (self._errors.read().strip() or "no output").splitlines()[-1]
        print(f"{self._name} skipped: {reason}")
        return None

    def close(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.wait()


def start_peer(name: str, command: Sequence[str]) -> Peer | None:
    """Starts a peer and waits until it is ready; None, said by name, where it fails."""
    # The peer's directory must not shadow its packages, nor ours reach it.
    return LaunchedPeer(name, command).ready()


def _open(stream: IO[str] | None) -> IO[str]:
    assert stream is not None  # every stream is a pipe
    return stream
