# SPDX-License-Identifier: Apache-2.0
"""What every Quern command shares: strict flags, error lines and exit statuses.

A command module has `main(argv)`, which works and raises, and `cli()`, which calls
`run(main)`. Exit statuses: 0 done; 2 anything knowable before work starts; 1 a job
that failed at work; 42 saved and stopped on request.
"""

import argparse
import contextlib
import difflib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NoReturn

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


_TOLD = 3  # of many names, in an error of one line


class UsageError(Exception):
    """Something knowable before work starts is wrong: exit status 2."""


class WorkError(Exception):
    """The job failed while working: exit status 1."""


class Interrupted(BaseException):
    """The job saved its state and stopped because it was asked to: exit status 42.

    Like `KeyboardInterrupt` no `Exception`, since signals raise it in the middle of
    code, a library's too, that may catch those.
    """


def note(line: str) -> None:
    """Says on stderr what goes on all the same, and may not be what was meant."""
    print(f"note: {line}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def stopping_on_request() -> Iterator[None]:
    """Turns SIGTERM and SIGUSR1 into `Interrupted`; finished steps are on disk."""

    def stop(number: int, frame: object) -> None:
        raise Interrupted(
            f"stopped on {signal.Signals(number).name}; finished work is saved. Run "
            "the same command again to go on"
        )

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    before = {name: signal.signal(name, stop) for name in _STOP_SIGNALS}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def suggest(word: str, known: Iterable[str]) -> str:
    """Returns ' Did you mean …?' for the closest known word, else an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {close[0]}?" if close else ""


def count_of(number: int, thing: str) -> str:
    """Returns '1 row' or '2,000 rows': a number with what it counts, in one or many."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def first_of(names: Sequence[str], joint: str = ", ") -> str:
    """Returns the first three of some names or sentences, and how many more there are.

    Args:
        names: what is told, the most telling first.
        joint: what stands between two.
    """
    more = len(names) - _TOLD
    return joint.join(names[:_TOLD]) + (f" and {more:,} more" if more > 0 else "")


class CommandParser(argparse.ArgumentParser):
    """An `ArgumentParser` that never guesses and never ignores.

    Flags cannot be abbreviated, an unknown flag is refused with a suggestion, and
    every complaint is a `UsageError` instead of a usage dump.
    """

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            allow_abbrev=False,
            formatter_class=_HelpFormatter,
        )
        self.add_argument(
            "--debug", action="store_true", help="print tracebacks with errors"
        )

    def error(self, message: str) -> NoReturn:
        """Raises `UsageError` with argparse's own message."""
        raise UsageError(f"{message}. Run {self.prog} --help for the flags")

    def known_flags(self) -> list[str]:
        """Returns every long flag this parser accepts."""
        return long_flags(self)

    def parse_args(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        namespace: argparse.Namespace | None = None,
    ) -> argparse.Namespace:
        """Parses `args`, refusing what it does not know with a suggestion."""
        values, unknown = self.parse_known_args(args, namespace)
        if unknown:
            refuse_unknown(unknown[0], self.known_flags(), self.prog)
        return values


def long_flags(parser: argparse.ArgumentParser) -> list[str]:
    """Returns every long flag that a parser accepts.

    argparse tells them to nobody; Python 3.11 keeps them in `_option_string_actions`.
    """
    return [flag for flag in parser._option_string_actions if flag.startswith("--")]


def refuse_unknown(argument: str, known: Iterable[str], prog: str) -> NoReturn:
    """Raises the `UsageError` for an argument that no flag accepts."""
    name = argument.split("=", 1)[0]
    raise UsageError(
        f"wanted the flags of {prog}, found unknown argument {name}."
        f"{suggest(name, known)} Run {prog} --help for the flags"
    )


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows each flag's default, except where there is none to show."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        # By identity: 0 equals False, and is worth showing.
        if any(action.default is none for none in (None, False, argparse.SUPPRESS)):
            return action.help
        if isinstance(action.default, list):
            words = " ".join(action.default).replace("%", "%%")
            return f"{action.help} (default: {words})" if words else action.help
        return super()._get_help_string(action)


def run(main: Callable[[Sequence[str]], None]) -> NoReturn:
    """Runs `main` on the process's arguments and ends the process.

    The last line on standard error of a failed command is `error: …`. The process
    ends through `os._exit` after flushing, since tensorflow-io's S3 threads abort a
    normal interpreter exit (status 134).
    """
    arguments = sys.argv[1:]
    try:
        main(arguments)
        status, line = 0, None
    except SystemExit as end:  # argparse's --help
        status, line = (end.code if isinstance(end.code, int) else 0), None
    except BaseException as error:
        status, line = _judge(error)
        if "--debug" in arguments:
            traceback.print_exc()
    _end(status, line)


def _judge(error: BaseException) -> tuple[int, str | None]:
    """Returns (exit status, error line) for an exception that ended a command."""
    text = " ".join(str(error).split())
    if isinstance(error, UsageError):
        return 2, f"error: {text}"
    if isinstance(error, Interrupted):
        return 42, text or None
    if isinstance(error, WorkError):
        return 1, f"error: {text}"
    if isinstance(error, KeyboardInterrupt):
        return 130, "error: wanted to finish, was interrupted. Run it again to resume"
    if isinstance(error, OSError) and error.errno == 28:
        return 1, f"error: wanted to write, the disk is full ({text}). Free some space"
    return 1, f"error: {type(error).__name__}: {text}. Run with --debug for a traceback"


def _end(status: int, line: str | None) -> NoReturn:
    """Ends the process; its threads, which end with it, do not have the last word."""
    threading.excepthook = lambda failure: None
    logging.disable()
    sys.stdout.flush()
    if line:
        sys.stderr.write(f"{line}\n")  # in one piece, as `print` would not
    sys.stderr.flush()
    os._exit(status)
