# SPDX-License-Identifier: Apache-2.0
"""Compiles loops over arrays to machine code, once per machine and version of Quern.

Judging text asks for loops that no columnar engine has (words of a character class,
repeated n-grams, minima of hashes). Written in numpy they make a dozen passes over
memory: 6 MB/s for the repetition rules, where one compiled loop reads hundreds.
numba compiles on first use, some seconds for a rule, and keeps the result in the user's
cache directory. It decides by one file's date whether a result is still good, and would
miss a change in a function that this one calls from another file; so the directory is
named after the contents of every source that can hold one. Workers that start together
want the same loops at once: one compiles, the others wait and read what it kept. That
leans on `Dispatcher.compile`, through which every call compiles in numba 0.68 and which
numba does not document.
"""

import contextlib
import fcntl
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numba
import numpy as np

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Returns the function compiled; without fast math, so the same on any machine.

    Arguments are numpy arrays and numbers. Indices are not checked and the interpreter
    is not held, as in C.
    """
    made: Any = numba.njit(cache=True, nogil=True)(function)
    # Called once in a process for each type of arguments; looks into the cache first.
    compile_or_load = made.compile

    def compile_alone(signature: Any) -> Any:
        with _alone():
            return compile_or_load(signature)

    made.compile = compile_alone
    return made


_in_process = threading.RLock()  # a loop that calls another has it compiled as well
_depth = 0


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keeps other processes from compiling, where the cache can be written at all."""
    global _depth
    with _in_process, contextlib.ExitStack() as held:
        if _depth == 0:
            with contextlib.suppress(OSError):
                path = os.path.join(getattr(numba.config, "CACHE_DIR"), "lock")  # noqa: B009
                file = held.enter_context(open(path, "wb"))
                fcntl.flock(file, fcntl.LOCK_EX)
        _depth += 1
        try:
            yield
        finally:
            _depth -= 1


def _cache_directory() -> str:
    # numba compiles for the numpy that it finds.
    digest = hashlib.sha256(f"{numba.__version__} {np.__version__}".encode())
    for path in sorted(Path(__file__).parent.parent.rglob("*.py")):
        digest.update(path.read_bytes())
    name = f"quern/{digest.hexdigest()[:16]}"
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    directory = os.path.join(home, name)
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError:
        # A home that cannot be written, as in some containers.
        directory = os.path.join(tempfile.gettempdir(), f"{os.getuid()}-{name}")
        os.makedirs(directory, exist_ok=True)
    return directory


# An address that the user set for numba itself comes first.
if not os.environ.get("NUMBA_CACHE_DIR"):
    # Set by name: numba makes its settings when it is imported.
    setattr(numba.config, "CACHE_DIR", _cache_directory())  # noqa: B010
