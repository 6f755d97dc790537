# SPDX-License-Identifier: Apache-2.0
"""Prism and pools of workers for tests, and which of their processes live."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import grpc
from apache_beam.portability.api import beam_job_api_pb2 as api
from apache_beam.portability.api import beam_job_api_pb2_grpc as job_service

import pipelines
from pipelines.beam import internals
from pipelines.duplicates import line_duplicates
from tests.pipelines import prepared

PRISM_VARIABLE = "PRISM"


def prism_binary() -> Path | None:
    """Returns the binary that `PRISM` names, or that `make prism` built; else None."""
    named = os.environ.get(PRISM_VARIABLE)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    built = cache / "quern" / f"prism-{version('apache-beam')}" / "prism"
    path = Path(named) if named else built
    return path if named or path.exists() else None


def started(prism: str) -> tuple[str, ...]:
    """Flags of a job whose command starts Prism."""
    return ("--runner", "PrismRunner", "--prism_location", prism)


def there(server: str, pool: str) -> tuple[str, ...]:
    """Flags of a job for a Prism that runs already, with workers from a pool."""
    environment = ("--environment_type", "EXTERNAL", "--environment_config", pool)
    return ("--runner", "PortableRunner", "--job_endpoint", server, *environment)


def free_address() -> str:
    """Returns HOST:PORT where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


@contextlib.contextmanager
def prism_at(binary: str, address: str) -> Iterator[subprocess.Popen]:
    """Runs Prism, its log thrown away."""
    port = address.split(":")[1]
    words = [binary, "--job_port", port, "--serve_http=false"]
    with ended(subprocess.Popen(words, stderr=subprocess.DEVNULL)) as process:
        wait_for(lambda: not internals.instead_of_a_job_server(address, 1.0), process)
        yield process


@contextlib.contextmanager
def pool_at(address: str, code: Path | None = None) -> Iterator[subprocess.Popen]:
    """Runs quern-beam-worker, of this Quern or of the code in a directory.

    What it says of workers goes to its standard error.
    """
    home = str(code or Path(pipelines.__file__).parents[1])
    words = ["-m", "pipelines.beam_worker", "--port", address.split(":")[1]]
    process = subprocess.Popen(
        [sys.executable, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=home,
        env={**os.environ, "PYTHONPATH": home},
    )
    with ended(process):
        assert process.stdout is not None
        assert process.stdout.readline().startswith(
            f"workers are to be had at {address}"
        )
        yield process


@contextlib.contextmanager
def ended(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """Ends a process with the block."""
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def last_state(address: str) -> str:
    """Returns the state of the last job that a Prism was sent, which numbers them."""
    states = []
    with grpc.insecure_channel(address) as channel, contextlib.suppress(grpc.RpcError):
        server = job_service.JobServiceStub(channel)
        while True:
            number = f"job-{len(states) + 1:03d}"
            states.append(server.GetState(api.GetJobStateRequest(job_id=number)).state)
    return api.JobState.Enum.Name(states[-1])


def workers_of(pool: subprocess.Popen) -> list[int]:
    """Returns the worker processes of a pool."""
    return running(sys.executable, pool.pid)


def running(binary: str, children_of: int | None = None) -> list[int]:
    """Returns the processes of a binary that this process, or another, has started."""
    parent = os.getpid() if children_of is None else children_of
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
            status = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if words[0] == os.fsencode(binary) and int(status[1]) == parent:
            found.append(int(place.name))
    return found


def lives(process: int) -> bool:
    """Tells whether a process is there and no zombie."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def has_begun(output: Path) -> bool:
    """Tells whether a curated preparation has done its first piece of work."""
    return any((output / "_work" / line_duplicates.FOUND).glob("[0-9]*.json"))


def command(words: list[str]) -> subprocess.Popen:
    """Starts a preparation in a process of its own."""
    command = [sys.executable, "-c", prepared.COMMAND, *words]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for(moment: Callable[[], bool], job: subprocess.Popen | None = None) -> None:
    """Waits until something is so; fails where a job ends before."""
    while not moment():
        assert job is None or job.poll() is None, "the job has ended before"
        time.sleep(0.005)
