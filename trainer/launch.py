# SPDX-License-Identifier: Apache-2.0
"""The command `quern-launch`: runs a group of processes here, and keeps it up."""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from preprocessing.foundation.commands import (
    CommandParser,
    Interrupted,
    UsageError,
    WorkError,
    count_of,
    run,
)
from trainer.distribution.launch_group import Group, Shape

_FIRST_DELAY, _LONGEST_DELAY = 1.0, 60.0
_LOOK_SECONDS = 0.1
# A group that trained for this long before it failed has its restarts back.
_PROGRESS_SECONDS = 300.0


def main(argv: Sequence[str]) -> None:
    """Runs the group until it is done, asked to stop, or beyond help.

    Raises:
        UsageError: the flags, or a member that ended with status 2.
        WorkError: members kept failing.
        Interrupted: all members saved and stopped.
    """
    own, command = _split(argv)
    flags = _parser().parse_args(own)
    if flags.workers < 1 or flags.parameter_servers < 0 or flags.max_restarts < 0:
        raise UsageError(
            "wanted --workers of 1 or more, and --parameter_servers and --max_restarts "
            f"of 0 or more, found {flags.workers}, {flags.parameter_servers} and "
            f"{flags.max_restarts}. Correct them"
        )
    shape = Shape(flags.workers, flags.parameter_servers, flags.pin_cores)
    signals: list[int] = []

    def notice(number: int, frame: FrameType | None) -> None:
        signals.append(number)

    forwarded = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before = {number: signal.signal(number, notice) for number in forwarded}
    try:
        _keep_up(shape, command, flags, signals)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _keep_up(
    shape: Shape, command: list[str], flags: argparse.Namespace, signals: list[int]
) -> None:
    """Starts the group, again after each failure."""
    restarts, delay = 0, _FIRST_DELAY
    while True:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="quern-launch-") as directory:
            group = Group(shape, command, directory)
            try:
                failure = group.watch(signals, flags.stall_timeout)
            finally:
                group.end()
        if failure is None:
            return
        if failure.status == 42:
            raise Interrupted(f"{failure.member} and its group saved and stopped")
        if failure.status == 2:
            raise UsageError(failure.line)
        if time.monotonic() - began > _PROGRESS_SECONDS:
            restarts, delay = 0, _FIRST_DELAY
        if restarts >= flags.max_restarts or signals:
            raise WorkError(
                f"wanted the group to go on, {failure.line} after "
                f"{count_of(restarts, 'restart')}. Mend the cause; the same command "
                "resumes"
            )
        restarts += 1
        print(
            f"{failure.line}; starting the group again in {delay:.0f} s "
            f"({restarts} of {flags.max_restarts})",
            file=sys.stderr,
            flush=True,
        )
        end = time.monotonic() + delay
        while time.monotonic() < end and not signals:
            time.sleep(_LOOK_SECONDS)
        if signals:
            raise Interrupted(
                "stopped between two starts; the same command resumes from the last "
                "checkpoint"
            )
        delay = min(2 * delay, _LONGEST_DELAY)


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the launcher's own flags, and the command after `--`."""
    if "--" not in argv:
        if {"--help", "-h"} & set(argv):
            return list(argv), []
        raise UsageError(
            "wanted -- and then the command to launch, found none. For example "
            "quern-launch --workers 2 -- quern-train --data … --run … --preset laptop"
        )
    at = list(argv).index("--")
    command = list(argv[at + 1 :])
    if not command:
        raise UsageError("wanted a command after --, found none. Put quern-train there")
    if command[0] == "quern-train":
        # By module: the launcher works without the commands on the path.
        command[:1] = [sys.executable, "-m", "trainer.task"]
    return list(argv[:at]), command


def _parser() -> CommandParser:
    parser = CommandParser(
        "quern-launch",
        "Run a training command as several processes on this machine: quern-launch "
        "--workers 2 -- quern-train … . The group is started again when a member dies "
        "or stalls; status 2 and 42 are passed on.",
    )
    add = parser.add_argument
    add("--workers", type=int, default=1, help="processes that train")
    add(
        "--parameter_servers",
        type=int,
        default=0,
        help="processes that hold the weights; the workers then train asynchronously",
    )
    add("--max_restarts", type=int, default=10, help="of the group, without progress")
    add(
        "--stall_timeout",
        type=float,
        default=1800.0,
        metavar="SECONDS",
        help="without progress a member is taken for stuck; longer than compilation",
    )
    add(
        "--pin_cores",
        action="store_true",
        help="give each worker its own share of this process's cores",
    )
    return parser


def cli() -> NoReturn:
    """The console script."""
    run(main)


if __name__ == "__main__":
    cli()
