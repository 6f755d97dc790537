# SPDX-License-Identifier: Apache-2.0
"""The command `quern-compare`: draws the curves of several runs to a PNG and a page."""

import logging
from collections.abc import Sequence
from typing import NoReturn

from preprocessing.foundation import storage
from preprocessing.foundation.commands import CommandParser, UsageError, run
from trainer.machine.tensorflow_logs import quiet_tensorflow

_ENDINGS = (".png", ".html")


def main(argv: Sequence[str]) -> None:
    """Writes FILE.png and FILE.html; the last line of standard output names them.

    Raises:
        UsageError: one of the runs is none or has no metrics yet, or the output cannot
            be written.
    """
    flags = _parser().parse_args(argv)
    outputs = choose_outputs(flags.output)
    # TensorFlow, behind the metrics, takes seconds to load.
    quiet_tensorflow(flags.debug)
    # It says at length that it could not write its settings, which it need not.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from trainer.comparison.figure import draw_png
    from trainer.comparison.page import draw_page
    from trainer.comparison.run_curves import read_curves

    runs = read_curves(flags.runs)
    for path, data in zip(outputs, (draw_png(runs), draw_page(runs)), strict=True):
        try:
            storage.write_atomically(path, data)
        except OSError as error:
            # A read-only place most of all, which PermissionError says nothing of.
            raise UsageError(
                f"wanted to write {path}, failed: {error.strerror}. Choose another "
                "--output"
            ) from None
    print(f"wrote {outputs[0]} and {outputs[1]}")


def choose_outputs(output: str) -> list[str]:
    """Returns the two files that `--output` means, its directory made.

    Raises:
        UsageError: one of them cannot be a file.
    """
    stem = output
    for ending in _ENDINGS:
        stem = stem.removesuffix(ending)
    if not stem.rpartition("/")[2]:
        raise UsageError(
            f"wanted --output FILE, found {output or 'nothing'}. Name a file, with or "
            "without .png or .html"
        )
    paths = [stem + ending for ending in _ENDINGS]
    for path in paths:
        if storage.is_dir(path):
            raise UsageError(
                f"wanted to write a file at {path}, found a directory. Choose another "
                "--output"
            )
    try:
        storage.make_directory(stem.rpartition("/")[0] or ".")
    except OSError as error:
        raise UsageError(
            f"wanted a directory for --output {output}, failed: {error.strerror}. "
            "Choose another --output"
        ) from None
    return paths


def _parser() -> CommandParser:
    parser = CommandParser(
        "quern-compare",
        "Draw the curves of several runs, finished or not: loss, validation loss, bits "
        "per byte and tokens per second, to a PNG and to a page with a table of what "
        "they reached and where their configurations differ.",
    )
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="a run's directory or cloud URI")
    add(
        "--output",
        required=True,
        metavar="FILE",
        help="writes FILE.png and FILE.html; an ending of FILE is left out",
    )
    return parser


def cli() -> NoReturn:
    """The console script."""
    run(main)


if __name__ == "__main__":
    cli()
