# SPDX-License-Identifier: Apache-2.0
"""The processes of a group on one machine: started, heard, watched, ended together."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

from preprocessing.foundation import strict_json
from trainer.distribution.local_ports import lend_ports
from trainer.machine.watchdog import HEARTBEAT

_GRACE_SECONDS = 20.0
_LOOK_SECONDS = 0.1
# Members that lost a peer end by themselves, and their own last lines say more.
_FOLLOW_SECONDS = 3.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Shape:
    """How many processes of each role a group has.

    Attributes:
        workers: processes that train.
        parameter_servers: processes that hold weights; with any there is also a
            coordinator, `chief 0`.
        pin_cores: whether each worker has cores of its own.
    """

    workers: int
    parameter_servers: int
    pin_cores: bool

    def cluster(self) -> dict[str, list[str]]:
        """Returns addresses on free ports of loopback, by role."""
        roles = {"worker": self.workers}
        if self.parameter_servers:
            roles = {"chief": 1, **roles, "ps": self.parameter_servers}
        ports = lend_ports(sum(roles.values()))
        addresses = iter(f"127.0.0.1:{port}" for port in ports)
        return {
            role: [next(addresses) for _ in range(count)]
            for role, count in roles.items()
        }


@dataclass(frozen=True)
class GroupFailure:
    """Why a group ended before it was done.

    Attributes:
        member: like `worker 1`.
        status: its exit status; None if a signal ended it, or it had to be ended.
        line: a sentence on it, its own last error in it.
    """

    member: str
    status: int | None
    line: str


@dataclass
class _Member:
    name: str
    process: subprocess.Popen[bytes]
    heartbeat: str
    readers: list[threading.Thread] = field(default_factory=list)
    error: str = ""

    def told(self) -> str:
        """Returns how it ended, and its last error line."""
        status = self.process.returncode
        if status is not None and status < 0:
            how = f"was ended by {signal.Signals(-status).name}"
        else:
            how = f"ended with status {status}"
        return f"{self.name} {how}" + (f": {self.error}" if self.error else "")


class Group:
    """One start of all members."""

    def __init__(self, shape: Shape, command: list[str], directory: str) -> None:
        """Starts them; `directory` takes their heartbeats."""
        self._members: list[_Member] = []
        self._coordinated = bool(shape.parameter_servers)
        cluster = shape.cluster() if shape.workers > 1 or self._coordinated else {}
        names = [
            (role, index)
            for role, tasks in cluster.items()
            for index in range(len(tasks))
        ] or [("worker", 0)]
        cores = sorted(os.sched_getaffinity(0))
        for role, index in names:
            environment = dict(os.environ)
            environment.pop("TF_CONFIG", None)
            if cluster:
                task = {"type": role, "index": index}
                config = {"cluster": cluster, "task": task}
                environment["TF_CONFIG"] = strict_json.dumps(config)
            beat = os.path.join(directory, f"{role}-{index}")
            with open(beat, "w"):
                environment[HEARTBEAT] = beat
            pinned = cores[index :: shape.workers] if role == "worker" else cores
            prepare = _in_child(pinned if shape.pin_cores and pinned else None)
            self._start(f"{role} {index}", command, environment, beat, prepare)

    def watch(self, signals: list[int], stall_seconds: float) -> GroupFailure | None:
        """Waits for the group's end; returns why it was early, None if it is done.

        Args:
            signals: those that came for the launcher; they are passed on as they come.
            stall_seconds: a member that trains and does nothing for so long is stuck.
        """
        sent = 0
        while True:
            while sent < len(signals):
                # A Ctrl-C is meant as a wish to stop, which quern-train hears as TERM.
                number = signals[sent]
                self._send(signal.SIGTERM if number == signal.SIGINT else number)
                sent += 1
            ended = [m for m in self._trainers() if m.process.poll() is not None]
            if len(ended) == len(self._trainers()) or (self._coordinated and ended):
                bad = [m for m in ended if m.process.returncode]
                return self._failure(bad) if bad else None
            bad = [m for m in self._all_ended() if m.process.returncode]
            if bad:
                return self._failure(self._followers(bad))
            stuck = self._stuck(stall_seconds)
            if stuck is not None:
                return stuck
            time.sleep(_LOOK_SECONDS)

    def end(self) -> None:
        """Ends what still runs: asks first, then kills."""
        self._send(signal.SIGTERM)
        end = time.monotonic() + _GRACE_SECONDS
        for member in self._members:
            try:
                member.process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                member.process.kill()
                member.process.wait()
            for reader in member.readers:
                reader.join(5.0)

    def _start(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        beat: str,
        prepare: Callable[[], None],
    ) -> None:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C comes to the launcher alone
            preexec_fn=prepare,
        )
        member = _Member(name, process, beat)
        for source, target in (
            (process.stdout, sys.stdout),
            (process.stderr, sys.stderr),
        ):
            reader = threading.Thread(
                target=_stream, args=(member, source, target), daemon=True
            )
            reader.start()
            member.readers.append(reader)
        self._members.append(member)

    def _trainers(self) -> list[_Member]:
        """Returns the members whose end is the run's: the coordinator, or all."""
        if not self._coordinated:
            return self._members
        return [member for member in self._members if member.name == "chief 0"]

    def _all_ended(self) -> list[_Member]:
        return [m for m in self._members if m.process.poll() is not None]

    def _followers(self, bad: list[_Member]) -> list[_Member]:
        """Gives the others a moment to end too: whose fault it was is seen then."""
        end = time.monotonic() + _FOLLOW_SECONDS
        while time.monotonic() < end and len(self._all_ended()) < len(self._members):
            time.sleep(_LOOK_SECONDS)
        late = [m for m in self._all_ended() if m.process.returncode and m not in bad]
        return [*bad, *late]

    def _failure(self, bad: list[_Member]) -> GroupFailure:
        """Returns the failure of the first of `bad`; refusals and stops come first."""
        for member in bad:
            for reader in member.readers:
                reader.join(5.0)
        statuses = [member.process.returncode for member in bad]
        for status in (2, 42):
            if status in statuses and (status == 2 or set(statuses) == {42}):
                member = bad[statuses.index(status)]
                line = member.error if status == 2 and member.error else member.told()
                return GroupFailure(member.name, status, line)
        first = bad[0]
        status = first.process.returncode
        return GroupFailure(first.name, status if status > 0 else None, first.told())

    def _stuck(self, seconds: float) -> GroupFailure | None:
        trains = ("chief",) if self._coordinated else ("worker",)
        for member in self._members:
            silent = time.time() - os.stat(member.heartbeat).st_mtime
            if member.name.startswith(trains) and silent > seconds:
                line = f"{member.name} made no progress for {silent:.0f} s"
                member.process.kill()  # it may be stopped, and deaf to a request
                return GroupFailure(member.name, None, line)
        return None

    def _send(self, number: int) -> None:
        for member in self._members:
            if member.process.poll() is None:
                member.process.send_signal(number)


def _stream(member: _Member, source: IO[bytes], target: IO[str]) -> None:
    """Copies a member's output line by line, its name before each."""
    for raw in source:
        line = raw.decode(errors="replace").rstrip("\r\n").rsplit("\r", 1)[-1]
        if line.startswith("error: "):
            member.error = line.removeprefix("error: ")
        # In one write: print makes two, and another member's line may come between.
        target.write(f"[{member.name}] {line}\n")
        target.flush()


def _in_child(cores: list[int] | None) -> Callable[[], None]:
    """Returns what a member does before it becomes the command."""
    library, parent = ctypes.CDLL(None, use_errno=True), os.getpid()

    def prepare() -> None:
        # No orphans: the kernel kills a member whose launcher is gone.
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        if cores is not None:
            os.sched_setaffinity(0, cores)

    return prepare
