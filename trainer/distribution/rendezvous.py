# SPDX-License-Identifier: Apache-2.0
"""How the processes of a cluster find each other, or say why not within a minute.

TensorFlow waits for peers without a word, and dies in C++ on a port that is in use. So
the port is tried and the peers greeted first, and asked what they are about to do.
While TensorFlow connects, it lets no other thread run: a process of its own keeps the
time.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import tensorflow as tf

from preprocessing.foundation import strict_json
from preprocessing.foundation.commands import UsageError, WorkError
from trainer.distribution.agreement import Statement, decoded, disagreement, encoded

_PROBE_SECONDS = 2.0
_PAUSE_SECONDS = 0.1
_LOOK_SECONDS = 1.0
_GO, _NO = b"go\n", b"no "
_LONGEST_LINE = 1 << 20
# Ends when its input does, which is when the parent is done, or dead.
_TIMEKEEPER = """
import os, select, signal, sys
seconds, parent, message = sys.argv[1:]
if not select.select([sys.stdin], [], [], float(seconds))[0]:
    print(message, file=sys.stderr, flush=True)
    os.kill(int(parent), signal.SIGKILL)
"""


@dataclass(frozen=True)
class Cluster:
    """The cluster that TF_CONFIG describes, and this process's place in it.

    Attributes:
        addresses: `host:port` of each task, by its name, like `worker 0`.
        task: the name of this process's own.
    """

    addresses: dict[str, str]
    task: str

    @property
    def first(self) -> str:
        """The task that leads the workers."""
        return "chief 0" if "chief 0" in self.addresses else "worker 0"

    @property
    def role(self) -> str:
        """The task's type: worker, chief, ps."""
        return self.task.split()[0]


def read_cluster() -> Cluster | None:
    """Returns what TF_CONFIG says, None if it is not set; it has to be valid."""
    text = os.environ.get("TF_CONFIG", "")
    if not text.strip():
        return None
    config = strict_json.loads(text)
    addresses = {
        f"{role} {index}": address
        for role, tasks in config["cluster"].items()
        for index, address in enumerate(tasks)
    }
    return Cluster(addresses, f"{config['task']['type']} {config['task']['index']}")


@contextlib.contextmanager
def connecting(seconds: float, statement: Statement) -> Iterator[None]:
    """Keeps the time while TensorFlow connects to the peers that TF_CONFIG names.

    Where they do not all connect in time, the process is killed, with a line on it.

    Args:
        seconds: for all of them to connect.
        statement: what this process shares with all others.

    Raises:
        UsageError: this process's own port is in use, or the processes state different
            things; the latter is raised in all of them.
        WorkError: whom TensorFlow would wait for does not answer in time.
    """
    cluster = read_cluster()
    if cluster is None:
        yield
        return
    check_port(cluster.addresses[cluster.task])
    _meet(cluster, seconds, statement)
    message = f"error: {_unreachable(cluster, [], seconds)}"
    command = [sys.executable, "-I", "-c", _TIMEKEEPER]
    timekeeper = subprocess.Popen(
        [*command, str(seconds), str(os.getpid()), message], stdin=subprocess.PIPE
    )
    try:
        yield
    finally:
        timekeeper.communicate()


def check_port(address: str) -> None:
    """Raises `UsageError` unless the port of `host:port` is free on this machine."""
    port = address.rsplit(":", 1)[-1]
    with socket.socket() as each:
        # Left over connections of a run before are no obstacle; a listener is.
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            each.bind(("", int(port)))
        except (OSError, ValueError, OverflowError) as error:
            raise UsageError(
                f"wanted to listen on {address}, which TF_CONFIG gives this process, "
                f"found: {getattr(error, 'strerror', None) or error}. End what uses "
                "the port, or name another one on every worker"
            ) from None


def answers(address: str) -> bool:
    """Tells whether something listens at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_PROBE_SECONDS):
            return True
    except (OSError, ValueError):
        return False


def as_lost_peer(error: tf.errors.OpError) -> WorkError | None:
    """Returns a line on a peer that is gone, if that is what TensorFlow's error means.

    To be asked where several processes train together.
    """
    lost = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.CancelledError,
        tf.errors.DeadlineExceededError,
        tf.errors.InternalError,
        tf.errors.FailedPreconditionError,
    )
    if not isinstance(error, lost):
        return None
    # TensorFlow puts where the operation was made before what happened to it.
    text = " ".join(str(error.message).split()).rpartition("aborted by: ")[-1]
    return WorkError(
        f"wanted all processes of the run to answer, found one gone: {text[:160]}. "
        "Look at the others' logs; the same command on all of them resumes"
    )


def meet_coordinator(cluster: Cluster, seconds: float, statement: Statement) -> None:
    """Has a server of asynchronous training state its part, and waits for the others.

    One that comes back to a coordinator at work goes on at once: the coordinator's port
    is TensorFlow's by then, which answers in another language.

    Raises:
        UsageError: this process's port is in use, or the processes state different
            things.
        WorkError: the coordinator did not appear in time.
    """
    check_port(cluster.addresses[cluster.task])
    if _report(cluster, time.monotonic() + seconds, statement, returning=True):
        raise WorkError(
            f"wanted the coordinator at {cluster.addresses[cluster.first]} within "
            f"{seconds:g} s, found none. Start quern-train with the same TF_CONFIG as "
            f"{cluster.first}"
        )


def _meet(cluster: Cluster, seconds: float, statement: Statement) -> None:
    """Waits until all processes are there and agree, before TensorFlow connects.

    The first one listens, hears the others' names and statements, and tells them to go
    on, or why not. A coordinator then waits for the ports of its servers.
    """
    others = [name for name in cluster.addresses if name != cluster.task]
    end = time.monotonic() + seconds
    if cluster.task == cluster.first:
        missing = _gather(cluster, set(others), end, statement)
        if not missing and any(name.startswith("ps ") for name in others):
            missing = _silent(cluster, others, end)
    else:
        missing = _report(cluster, end, statement)
    if missing:
        raise WorkError(_unreachable(cluster, missing, seconds))


def _silent(cluster: Cluster, names: list[str], end: float) -> list[str]:
    """Returns the processes whose ports do not answer by `end`."""
    missing = names
    while True:
        missing = [n for n in missing if not answers(cluster.addresses[n])]
        if not missing or time.monotonic() > end:
            return missing
        time.sleep(_PAUSE_SECONDS)


def _gather(
    cluster: Cluster, others: set[str], end: float, statement: Statement
) -> list[str]:
    """Returns the processes that did not tell their names by `end`; none go on then.

    Raises:
        UsageError: they state different things.
    """
    port = int(cluster.addresses[cluster.task].rsplit(":", 1)[-1])
    coordinates = any(name.startswith("ps ") for name in others)
    statements = {cluster.task: statement}
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("", port)))
        listener.settimeout(_LOOK_SECONDS)
        arrived: dict[str, socket.socket] = {}
        while waiting := others - set(arrived):
            if time.monotonic() > end:
                return sorted(waiting)
            with contextlib.suppress(OSError):  # a timeout, or a peer that left
                connection = stack.enter_context(listener.accept()[0])
                connection.settimeout(_PROBE_SECONDS)
                name, said = decoded(_line(connection))
                if name in others:  # and not a stranger
                    arrived[name], statements[name] = connection, said
                continue
            if coordinates:
                # Servers of a coordinator that was restarted serve already.
                others -= {n for n in waiting if answers(cluster.addresses[n])}
        order = [name for name in cluster.addresses if name in statements]
        refusal = disagreement({name: statements[name] for name in order})
        reply = _GO if refusal is None else _NO + refusal.encode() + b"\n"
        for name in sorted(others):
            with contextlib.suppress(OSError):
                arrived[name].sendall(reply)
    if refusal is not None:
        raise UsageError(refusal)
    return []


def _report(
    cluster: Cluster, end: float, statement: Statement, returning: bool = False
) -> list[str]:
    """Tells the first process this one's name; returns it if it does not answer.

    `returning` takes any answer for leave to go on that is no refusal.

    Raises:
        UsageError: it says that the processes state different things.
    """
    host, _, port = cluster.addresses[cluster.first].rpartition(":")
    while (left := end - time.monotonic()) > 0:
        said = b""
        with (
            contextlib.suppress(OSError),
            socket.create_connection((host, int(port)), timeout=left) as connection,
        ):
            connection.sendall(encoded(cluster.task, statement))
            connection.settimeout(max(left, _PAUSE_SECONDS))
            said = _line(connection)
        if said.startswith(_NO):
            raise UsageError(said.removeprefix(_NO).decode(errors="replace").strip())
        if said == _GO or (said and returning):
            return []
        time.sleep(_PAUSE_SECONDS)
    return [cluster.first]


def _line(connection: socket.socket) -> bytes:
    """Reads up to the end of a line; what came before a time-out or end, if none."""
    read = b""
    with contextlib.suppress(OSError):
        while not read.endswith(b"\n") and len(read) < _LONGEST_LINE:
            more = connection.recv(1 << 16)
            if not more:
                break
            read += more
    return read


def _unreachable(cluster: Cluster, missing: list[str], seconds: float) -> str:
    named = ", ".join(f"{name} at {cluster.addresses[name]}" for name in missing)
    return (
        f"wanted all {len(cluster.addresses)} processes to meet within {seconds:g} s, "
        f"{cluster.task} found no answer from {named or 'TensorFlow on one of them'}. "
        "Start them all with the same cluster in TF_CONFIG, and let their ports through"
    )
