# SPDX-License-Identifier: Apache-2.0
"""Checks an unpublished release in a process that never imports TensorFlow."""

import os
import subprocess
import sys
from pathlib import Path

from preprocessing.foundation.commands import UsageError, WorkError


def check_apart(directory: str) -> str:
    """Checks a release as `trainer.check_release` does, and returns what that printed.

    Raises:
        WorkError: it differs from what it should be; the message names how.
    """
    try:
        return run_apart("trainer.check_release", directory)
    except (UsageError, WorkError) as error:
        raise WorkError(f"{error}. The release was not published") from None


def run_apart(module: str, *arguments: str) -> str:
    """Runs a module as a process of its own, without a GPU; returns what it printed.

    Raises:
        UsageError: it ended with status 2; the message is that of its last line.
        WorkError: it failed otherwise.
    """
    home = str(Path(__file__).resolve().parent.parent.parent)
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    changed = {"PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": "-1"}
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, **changed},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"status {ended.returncode}"]
        reason = lines[-1].removeprefix("error: ")
        raise (UsageError if ended.returncode == 2 else WorkError)(reason)
    return ended.stdout
