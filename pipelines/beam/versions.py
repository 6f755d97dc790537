# SPDX-License-Identifier: Apache-2.0
"""Which Quern, Beam and Python a process has, compared before a worker reads a step.

A worker of another version fails at the first thing that it does not find, or finds it
and writes other bytes. So a step travels behind the versions of who sent it, in a form
that every version reads, and a worker that has others reads no further.

Quern's version is its number and its code's: between two releases the number stays.
"""

import functools
import hashlib
import pickle
import platform
import socket
from importlib import metadata
from pathlib import Path
from typing import Any

from preprocessing.foundation.commands import UsageError

_ROOMS = ("preprocessing", "pipelines", "trainer")
Versions = dict[str, str]


class SameVersions:
    """A step that is read only where the versions are those that it was sent with."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Returns the versions, and the step as bytes that are left alone till then."""
        return read_step, (own_versions(), pickle.dumps((type(self), self.__dict__)))


def read_step(sent_with: Versions, step: bytes) -> object:
    """Reads a step.

    Raises:
        UsageError: this process has other versions than the one that sent it.
    """
    check_same(sent_with, own_versions())
    kind, attributes = pickle.loads(step)
    read = kind.__new__(kind)
    read.__dict__.update(attributes)
    return read


def check_same(sent_with: Versions, found: Versions) -> None:
    """Refuses versions that differ, by name.

    Args:
        sent_with: those of who sent a step.
        found: this worker's.

    Raises:
        UsageError: some differ.
    """
    differ = [
        f"{name} {found.get(name)} for {version}"
        for name, version in sent_with.items()
        if found.get(name) != version
    ]
    if differ:
        raise UsageError(
            "wanted workers with the versions of this command, found on "
            f"{socket.gethostname()}: {', '.join(differ)}. Install the same there"
        )


@functools.cache
def own_versions() -> Versions:
    """Returns the versions of this process."""
    python = platform.python_version_tuple()
    return {
        "Quern": f"{metadata.version('quern')} (code {_code()})",
        "Beam": metadata.version("apache-beam"),
        "Python": f"{python[0]}.{python[1]}",
    }


def _code() -> str:
    """Returns a hash of all that is imported from here."""
    home, total = Path(__file__).parents[2], hashlib.blake2b(digest_size=4)
    for path in sorted(path for room in _ROOMS for path in (home / room).rglob("*.py")):
        name = path.relative_to(home).as_posix()
        total.update(f"{name}\n{path.stat().st_size}\n".encode() + path.read_bytes())
    return total.hexdigest()
