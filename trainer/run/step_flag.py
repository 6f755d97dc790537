# SPDX-License-Identifier: Apache-2.0
"""The flag --step of the commands that open a run: which of its checkpoints."""

import argparse
from typing import Literal

from preprocessing.foundation.commands import CommandParser


def add_step_flag(parser: CommandParser) -> None:
    """Gives a command `--step`, as `trainer.run.checkpoints.open_run` takes it."""
    parser.add_argument(
        "--step",
        type=_step,
        metavar="N|best",
        help="which checkpoint: a step, or best for the one of the lowest validation "
        "loss (default: the newest)",
    )


def _step(text: str) -> int | Literal["best"]:
    if text == "best":
        return "best"
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"wanted a step or best, found {text!r}")
    return int(text)
