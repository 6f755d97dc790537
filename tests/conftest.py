# SPDX-License-Identifier: Apache-2.0
"""What all tests share: threads, seeds, a release, and which of them are slow."""

import functools
import multiprocessing.context
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Test files run side by side, one on each core (`make test`), where a pool of threads
# for each operation only waits for the others. Processes that tests start inherit this.
# Between operations TensorFlow keeps its threads: with one, parameter servers wait for
# themselves.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

# Hypothesis draws the same examples in every run.
settings.register_profile("seeded", derandomize=True)
settings.load_profile("seeded")

# What libraries start themselves, to ask about the machine.
_QUESTIONS = ("lscpu", "uname")
_started: list[str] = []


def _noting(what: str, function: Callable) -> Callable:
    @functools.wraps(function)
    def noted(*args: object, **kwargs: object) -> object:
        _started.append(what)
        return function(*args, **kwargs)

    return noted


def _noting_processes(start: Callable) -> Callable:
    @functools.wraps(start)
    def noted(self: subprocess.Popen, args: Any, *more: Any, **kwargs: Any) -> None:
        command = args if isinstance(args, str) else args[0]
        if command not in _QUESTIONS:
            _started.append("a process")
        start(self, args, *more, **kwargs)

    return noted


subprocess.Popen.__init__ = _noting_processes(subprocess.Popen.__init__)
Forked = multiprocessing.context.ForkServerProcess  # of `trainer/forked.py`
Forked.start = _noting("a process", Forked.start)


def _watch_loaded() -> None:
    """Notes jobs and loops as well, once a test has loaded what runs them."""
    loaded = [
        sys.modules.get(name) for name in ("apache_beam", "trainer.step.train_step")
    ]
    beam, step = loaded
    if beam is not None and not hasattr(beam.Pipeline.run, "__wrapped__"):
        beam.Pipeline.run = _noting("a Beam job", beam.Pipeline.run)
    if step is not None and not hasattr(step.run_steps, "__wrapped__"):
        step.run_steps = _noting("a training loop", step.run_steps)


@pytest.fixture(scope="session")
def shared_release(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns an untrained release of a family, to be left as it is.

    Written once, whatever processes run the tests: it takes 8 s of a core.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # of all workers of this run

    def released(family: str) -> Path:
        from tests.releases import shared_release  # which imports TensorFlow

        return shared_release(root / "releases", family)

    return released


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Forgets what the test before has started."""
    _watch_loaded()
    _started.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fails a test that starts what `make test-fast` has no time for, unmarked."""
    result = yield
    if _started and not _is_slow(item):
        pytest.fail(
            f"wanted @pytest.mark.slow on a test that starts {_started[0]}, found it "
            "without. Mark it, so that `make test-fast` leaves it out",
            pytrace=False,
        )
    return result


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts files with slow tests first, so that short ones fill the gaps at the end."""
    slow = {item.path for item in items if _is_slow(item)}
    items.sort(key=lambda item: item.path not in slow)


def _is_slow(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("slow", "drill"))
