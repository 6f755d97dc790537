# SPDX-License-Identifier: Apache-2.0
"""The command `quern-train`: trains a language model on a dataset."""

import itertools
from collections.abc import Sequence
from typing import NoReturn

from preprocessing.commands import CommandParser, UsageError, run
from trainer.tensorflow_logs import quiet_tensorflow


def main(argv: Sequence[str]) -> None:
    """Trains, or resumes what the run's directory holds.

    Raises:
        UsageError: something is wrong with the flags, dataset or run's directory.
        WorkError: a row is damaged, or a checkpoint cannot be written.
        Interrupted: saved, and stopped on request.
    """
    parser = _parser()
    flags = parser.parse_args(argv)
    if not (flags.run or flags.dry_run):
        raise UsageError("wanted --run DIR to train in, found none. Name a directory")
    if flags.max_duration is not None and flags.max_duration <= 0:
        raise UsageError(
            f"wanted --max_duration above 0 seconds, found {flags.max_duration}"
        )
    # TensorFlow takes seconds to load; --help and wrong flags need none of it.
    quiet_tensorflow(flags.debug)
    from trainer.plan import ConfigSource, plan, show
    from trainer.training import train

    pairs = tuple(itertools.chain.from_iterable(flags.set))
    source = ConfigSource(flags.preset, flags.config, pairs)
    planned = plan(flags.data, flags.run, source, flags.strategy, flags.logical_cpus)
    if flags.dry_run:
        print("\n".join(show(planned)))
    else:
        train(planned, flags.run, flags.max_duration)


def _parser() -> CommandParser:
    parser = CommandParser(
        "quern-train",
        "Train a language model on a prepared dataset. A --run that exists is resumed, "
        "with the same dataset; only loop.* may change then.",
    )
    add = parser.add_argument
    add("--data", required=True, help="the dataset: a directory or cloud URI")
    add("--run", help="directory of the run: configuration, checkpoints, metrics")
    add("--preset", help="a named configuration: tiny, laptop, recurrent, 14m")
    add("--config", help="JSON or TOML file of keys, applied over the preset")
    add(
        "--set",
        nargs="+",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        help="keys to change, over preset and file; repeatable, the last wins",
    )
    add(
        "--strategy",
        default="auto",
        help="auto, one_device, mirrored, multi_worker (auto looks at TF_CONFIG and "
        "the devices)",
    )
    add(
        "--logical_cpus",
        type=int,
        default=1,
        help="devices to split the CPU into, for strategies without GPUs",
    )
    add(
        "--max_duration",
        type=float,
        metavar="SECONDS",
        help="save and stop with status 42 after this time",
    )
    add(
        "--dry_run",
        action="store_true",
        help="print size, cost and memory of the run, and train nothing",
    )
    return parser


def cli() -> NoReturn:
    """The console script."""
    run(main)


if __name__ == "__main__":
    cli()
