# SPDX-License-Identifier: Apache-2.0
"""Many releases by one `quern-export --runs`, and by a command for each of them.

    python -m tests.benchmarks.export_many --runs RUN RUN --work DIRECTORY --turns 1

All checkpoints of the runs are exported in each type of weights, and each release is
checked, on both sides. What counts is the time on the clock; the processors' seconds,
of all processes, stand beside it, since they hold on a machine that others use as well.
"""

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from preprocessing.contracts.releases import WEIGHT_TYPES
from tests.benchmarks.turns import Comparison


@dataclass(frozen=True)
class Spent:
    """What one side took: seconds on the clock, and those of all processors."""

    clock: float
    processors: float


def main() -> None:
    """Measures both sides in turns and prints what each turn took."""
    flags = _parse()
    ours, theirs = [], []
    for turn in range(flags.turns):
        ours.append(_spent(_together, flags))
        theirs.append(_spent(_one_by_one, flags))
        print(f"turn {turn + 1}: one command {ours[-1]}, one each {theirs[-1]}")
    for what in ("clock", "processors"):
        speeds = [[1 / getattr(each, what) for each in side] for side in (ours, theirs)]
        print(f"{what}: {Comparison(*speeds)}")


def _together(flags: argparse.Namespace, models: str) -> None:
    words = ["--checkpoints", "all", "--weights", *flags.weights, "--output", models]
    _export(["--runs", *flags.runs, *words])


def _one_by_one(flags: argparse.Namespace, models: str) -> None:
    for run, kind in itertools.product(flags.runs, flags.weights):
        name = os.path.basename(os.path.abspath(run)) + (
            "" if kind == WEIGHT_TYPES[0] else f"-{kind}"
        )
        for step in _steps(run):
            words = ["--step", step, "--weights", kind, "--check"]
            _export(["--run", run, *words, "--output", os.path.join(models, name)])


def _spent(
    work: Callable[[argparse.Namespace, str], None], flags: argparse.Namespace
) -> Spent:
    models = os.path.join(flags.work, "models")
    shutil.rmtree(models, ignore_errors=True)
    clock, before = time.monotonic(), os.times()
    work(flags, models)
    after, seconds = os.times(), time.monotonic() - clock
    used = after.children_user - before.children_user
    return Spent(seconds, used + after.children_system - before.children_system)


def _steps(run: str) -> list[str]:
    found = Path(run, "checkpoints").glob("step-*")
    return sorted(path.name.removeprefix("step-").lstrip("0") for path in found)


def _export(words: Sequence[str]) -> None:
    command = [sys.executable, "-m", "trainer.export", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", nargs="+", required=True, metavar="RUN")
    parser.add_argument("--weights", nargs="+", default=["float32", "int8"])
    parser.add_argument("--work", required=True, metavar="DIRECTORY")
    parser.add_argument("--turns", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
