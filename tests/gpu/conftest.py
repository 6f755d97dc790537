# SPDX-License-Identifier: Apache-2.0
"""What the tests on a GPU share; without a GPU they are skipped, with one reason."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.datasets import write_dataset
from tests.gpu.exact_runs import ExactRun
from tests.gpu.machine import Running, count_gpus

_NONE = "wanted a GPU that TensorFlow sees, found none"


@pytest.fixture(scope="session", autouse=True)
def gpus() -> int:
    """How many GPUs TensorFlow sees."""
    count = count_gpus()
    if not count:
        pytest.skip(_NONE)
    return count


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Gives all skips for want of a GPU one place, so that `-rs` makes one line."""
    report = yield
    if report.skipped and _NONE in str(report.longrepr):
        report.longrepr = ("tests/gpu", None, f"Skipped: {_NONE}")
    return report


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory, gpus: int) -> Path:
    """A dataset of 64 tokens a row. Runs on it evaluate nothing: it has no such split.

    What evaluates is tried by itself, since TensorFlow compiles kernels for it.
    """
    directory = tmp_path_factory.mktemp("gpu") / "dataset"
    return write_dataset(directory, validation_documents=0)


@pytest.fixture(scope="session")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, dataset: Path
) -> tuple[ExactRun, Running]:
    """A run on the GPU that nothing happens to, and its process, just started."""
    run = ExactRun(tmp_path_factory.mktemp("undisturbed") / "run", dataset)
    return run, run.start()


@pytest.fixture
def tell(
    request: pytest.FixtureRequest, capfd: pytest.CaptureFixture
) -> Callable[[str], None]:
    """Prints what a test found, at once: a visit to a machine may end early."""

    def line(text: str) -> None:
        with capfd.disabled():
            print(f"\n{request.node.name}: {text}", flush=True)

    return line
