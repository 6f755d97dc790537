# SPDX-License-Identifier: Apache-2.0
"""Prism for tests: where its binary is, and which of its processes live."""

import os
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from pipelines.duplicates import line_duplicates

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


def wait_for(moment: Callable[[], bool], job: subprocess.Popen | None = None) -> None:
    """Waits until something is so; fails where a job ends before."""
    while not moment():
        assert job is None or job.poll() is None, "the job has ended before"
        time.sleep(0.005)
