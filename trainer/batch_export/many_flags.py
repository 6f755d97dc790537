# SPDX-License-Identifier: Apache-2.0
"""Flags of quern-export that name many releases at once, and those that judge them."""

import argparse

from preprocessing.contracts.releases import WEIGHT_TYPES
from preprocessing.foundation.commands import CommandParser, UsageError
from trainer.batch_export.gate import Requirements

_WORDS = ("last", "best", "all")
# What is of one release alone.
_SINGLE = ("run", "from_huggingface", "step", "version")
SPLIT = "validation"


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


def add_judging_flags(parser: CommandParser) -> None:
    """Gives a command the flags --data, --split and --require."""
    parser.add_argument(
        "--data",
        metavar="DATASET",
        help="with --runs or --require: judge each release before it is published, in "
        "bits per byte of a split, speed, memory and size, and show those of --output "
        "beside each other, in releases.jsonl and releases.html too; with --run and "
        "narrower --weights alone: say what they lose",
    )
    parser.add_argument(
        "--split",
        metavar="NAME",
        help=f"with --data: which split of it (default: {SPLIT})",
    )
    parser.add_argument(
        "--require",
        nargs="+",
        default=[],
        metavar="'METRIC <= BOUND'",
        help="refuse a release that misses any of these: a metric, a comparison, and a "
        "number, or stable or previous times one, as 'bits_per_byte <= stable * 1.01'; "
        "size needs no --data",
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


def check_judging_flags(values: argparse.Namespace, required: Requirements) -> None:
    """Raises `UsageError` for flags of judging that lack what they need."""
    if values.split is not None and values.data is None:
        raise UsageError(
            f"wanted --data with --split, found --split {values.split} alone. Name the "
            "dataset"
        )
    if not required.each:
        return
    if values.from_huggingface is not None or values.format != "savedmodel":
        raise UsageError(
            "wanted --require with --run or --runs, whose releases are judged, found "
            "none of them. Leave it out"
        )
    others = sorted(required.metrics() - {"size"})
    if others and values.data is None:
        raise UsageError(
            f"wanted --data with --require of {others[0]}, to measure it, found none. "
            "Name a dataset"
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
