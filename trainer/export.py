# SPDX-License-Identifier: Apache-2.0
"""quern-export: turns a run's checkpoint into a release TensorFlow Serving can load.

checkpoint -> float32 model + tokenizer in one graph -> SavedModel
           -> tokenizer, lineage, warm-up requests beside it
           -> --check: another process reloads it as a stock server would
           -> visible as OUTPUT/VERSION, or not at all
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from preprocessing.contracts.manifest import Manifest
from preprocessing.contracts.releases import SAVED_MODEL_NAME
from preprocessing.foundation.commands import (
    CommandParser,
    UsageError,
    WorkError,
    run,
    stopping_on_request,
)
from trainer.machine.tensorflow_logs import quiet_tensorflow
from trainer.release.publish import choose_version, staged
from trainer.run.step_flag import add_step_flag


def main(argv: Sequence[str]) -> None:
    """Exports the run that `argv` names.

    Raises:
        UsageError: the run or the output is not what it should be, or the graph cannot
            reproduce the tokenizer.
        WorkError: the release cannot be written, or answers otherwise than the trainer.
    """
    values = _parse(argv)
    choose_version(values.output, values.version)
    # Both sides of the check compute on the CPU, where they round alike; and a GPU may
    # belong to a training job. Read when TensorFlow is loaded, inherited by the check.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    # TensorFlow takes seconds to load; --help and wrong flags need none of it.
    quiet_tensorflow(values.debug)
    from trainer.models.model import PrecisionConfig
    from trainer.release.release import write_release
    from trainer.run.checkpoints import open_run

    # A server on any machine computes in float32; the run's own type may be bfloat16.
    opened = open_run(values.run, values.step, PrecisionConfig())
    check_servable(opened.manifest)
    output = values.output.rstrip("/")
    with (
        stopping_on_request(),
        staged(output, values.version) as (staging, version),
    ):
        write_release(opened, staging, os.path.basename(output))
        if values.check:
            _check(staging)
    print(f"exported step {opened.step} as {output}/{version}")


def check_servable(manifest: Manifest) -> None:
    """Raises `UsageError` for a run whose model a release would use otherwise."""
    if "prefix_lengths" in manifest.features:
        raise UsageError(
            "wanted a run that reads from left to right, found one of the objective "
            f"{manifest.objective}, whose prompts are read whole: no release does that "
            "yet. Train on another objective to serve the model"
        )


def _check(directory: str) -> None:
    """Checks an unpublished release in a process that never imports TensorFlow."""
    home = str(Path(__file__).resolve().parent.parent)
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    ended = subprocess.run(
        [sys.executable, "-m", "trainer.check_release", directory],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    print(ended.stdout, end="", flush=True)
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"status {ended.returncode}"]
        reason = lines[-1].removeprefix("error: ")
        raise WorkError(f"{reason}. The release was not published")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser(
        "quern-export",
        "Exports a checkpoint as a SavedModel in TensorFlow Serving's layout: text "
        "in, text out, the tokenizer in the graph. Writes OUTPUT/VERSION with "
        f"{SAVED_MODEL_NAME} and what belongs to it; never overwrites a version.",
    )
    parser.add_argument("--run", required=True, metavar="DIR", help="the run to export")
    parser.add_argument(
        "--output",
        required=True,
        metavar="MODELS/NAME",
        help="the model's directory; its last part is the name clients use",
    )
    add_step_flag(parser)
    parser.add_argument(
        "--version",
        type=int,
        metavar="N",
        help="version to write (default: highest + 1)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="before publishing, reload the release as a stock TensorFlow Serving "
        "would and compare its answers with the trainer's",
    )
    return parser.parse_args(argv)


def cli() -> NoReturn:
    """Runs the command on the process's arguments."""
    run(main)


if __name__ == "__main__":
    cli()
