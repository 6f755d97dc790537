# SPDX-License-Identifier: Apache-2.0
"""Flags of quern-export that name many releases at once."""

import argparse

from preprocessing.contracts.releases import WEIGHT_TYPES
from preprocessing.foundation.commands import CommandParser, UsageError

_WORDS = ("last", "best", "all")
# What is of one release alone.
_SINGLE = ("run", "from_huggingface", "step", "version", "data")


def add_many_flags(parser: CommandParser) -> None:
    """Gives a command the flags --runs and --checkpoints."""
    parser.add_argument(
        "--runs",
        nargs="+",
        metavar="RUN",
        help="in place of --run: export each into a model of its own name below "
        "--output MODELS, one for each of --weights; what is there already stays, and "
        "each is checked",
    )
    parser.add_argument(
        "--checkpoints",
        nargs="+",
        type=_checkpoint,
        metavar="last|best|all|STEP",
        help="with --runs: which of each; best has the lowest validation loss of "
        "those that are there (default: last)",
    )


def check_many_flags(values: argparse.Namespace) -> None:
    """Raises `UsageError` for flags that do not go with many releases, or with one."""
    if values.runs is None:
        _check_single(values)
        return
    found = [name for name in _SINGLE if getattr(values, name) is not None]
    if values.format != "savedmodel":
        found.append("format")
    if found:
        raise UsageError(
            f"wanted --runs without --{found[0]}, which is of one release alone, "
            "found both. Leave one out"
        )


def _check_single(values: argparse.Namespace) -> None:
    if values.checkpoints is not None:
        raise UsageError(
            "wanted --checkpoints with --runs, found it without. Name the checkpoint "
            "of a --run by --step"
        )
    if len(values.weights) > 1:
        raise UsageError(
            f"wanted one of {', '.join(WEIGHT_TYPES)} for --weights, found "
            f"{' '.join(values.weights)}. Name --runs to export several"
        )


def _checkpoint(text: str) -> int | str:
    if text in _WORDS:
        return text
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(
            f"wanted {', '.join(_WORDS)} or a step, found {text!r}"
        )
    return int(text)
