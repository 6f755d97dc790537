# SPDX-License-Identifier: Apache-2.0
"""Checks an unpublished release in a process that never imports TensorFlow."""

import os
import subprocess
import sys
from pathlib import Path

from preprocessing.foundation.commands import WorkError


def check_apart(directory: str) -> str:
    """Checks a release as `trainer.check_release` does, and returns what that printed.

    Raises:
        WorkError: it differs from what it should be; the message names how.
    """
    home = str(Path(__file__).resolve().parent.parent.parent)
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    ended = subprocess.run(
        [sys.executable, "-m", "trainer.check_release", directory],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"status {ended.returncode}"]
        reason = lines[-1].removeprefix("error: ")
        raise WorkError(f"{reason}. The release was not published")
    return ended.stdout
