# SPDX-License-Identifier: Apache-2.0
"""What is made on a machine with a GPU is used like what is made without one.

Last, since TensorFlow compiles many of its own kernels when it evaluates or answers on
a GPU, where training is XLA's.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from preprocessing.contracts.releases import read_lineage
from tests.gpu.exact_runs import ExactRun
from tests.gpu.machine import REHEARSED, Running, start

pytestmark = pytest.mark.slow

Sides = dict[str, Running]


@pytest.fixture(scope="module")
def trained(undisturbed: tuple[ExactRun, Running]) -> ExactRun:
    """A run on the GPU, over."""
    run, running = undisturbed
    running.finish()
    return run


@pytest.fixture(scope="module")
def exports(trained: ExactRun) -> Sides:
    """Releases of it: one made with the GPU in sight, and one with it hidden."""
    return {
        name: start(
            release_of(trained, name).parent.with_suffix(".log"),
            "trainer.export",
            *("--run", str(trained.directory), "--check"),
            *("--output", str(release_of(trained, name).parent)),
            gpu=name == "seen",
        )
        for name in ("seen", "hidden")
    }


def release_of(trained: ExactRun, name: str) -> Path:
    return trained.directory.parent / name / "1"


@pytest.fixture(scope="module")
def evaluations(trained: ExactRun) -> Sides:
    """The run evaluated on either device, while the releases are made."""
    command = ["--run", str(trained.directory), "--data", str(trained.dataset)]
    return {
        side: start(
            trained.directory.parent / f"evaluate-{side}.log",
            "trainer.evaluate",
            *(*command, "--split", "train"),
            gpu=side == "gpu",
        )
        for side in ("gpu", "cpu")
    }


def test_a_release_answers_as_one_made_without_the_gpu(
    trained: ExactRun,
    exports: Sides,
    evaluations: Sides,
    tell: Callable[[str], None],
) -> None:
    answers = {}
    for name, running in exports.items():
        running.finish()
        answers[name] = read_lineage(str(release_of(trained, name))).expected
    assert answers["seen"] == answers["hidden"]
    texts = answers["seen"]["serving_default"]["outputs"]["text"]
    tell(f"both releases passed their check; {len(texts)} greedy texts are the same")
    assert any(texts)


def test_evaluation_on_the_gpu_is_that_on_the_cpu(
    evaluations: Sides, tell: Callable[[str], None]
) -> None:
    gpu, cpu = (
        json.loads(evaluations[side].finish().splitlines()[-1])
        for side in ("gpu", "cpu")
    )
    tell(f"loss {gpu['loss']:.6f} on the GPU, {cpu['loss']:.6f} on the CPU")
    assert gpu["tokens"] == cpu["tokens"]
    assert gpu["loss"] == pytest.approx(cpu["loss"], abs=1e-4)


def test_the_release_answers_on_the_gpu_as_on_the_cpu(
    trained: ExactRun, exports: Sides, tell: Callable[[str], None]
) -> None:
    """The check hides the GPU unless it is told which one to use."""
    exports["seen"].finish()
    release = release_of(trained, "seen")
    visible = {} if REHEARSED else {"CUDA_VISIBLE_DEVICES": "0"}
    log = release.parent.with_suffix(".check")
    printed = start(log, "trainer.check_release", str(release), **visible).finish()
    tell("; ".join(line for line in printed.splitlines() if "answers" in line))
