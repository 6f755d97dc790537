# SPDX-License-Identifier: Apache-2.0
"""Runs a Beam graph on a runner chosen by name, never by guess.

`local` is Beam's FnApiRunner class with this project's worker entry point; any other
name is given to Beam. DirectRunner is refused: since Beam 2.68 it first tries to
download a binary, ignores its own flags where that works, and falls back silently.
"""

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pipelines.beam.execution import execute
from pipelines.beam.internals import (
    beam_flags,
    flag_parser,
    local_runner,
    named_runner,
    runner_names,
)
from pipelines.beam.job_server import at_a_job_server
from pipelines.beam.quiet import import_beam_without_clouds, quiet_import
from pipelines.beam.worker import DEBUG_VARIABLE
from preprocessing.foundation.commands import (
    CommandParser,
    UsageError,
    refuse_unknown,
    suggest,
)

if TYPE_CHECKING:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

LOCAL = "local"
STOCK = "FnApiRunner"
_REFUSED = ("directrunner", "switchingdirectrunner", "bundlebaseddirectrunner")
# What a worker prints to the driver's standard error when a stage fails: hundreds of
# traceback lines, of which the driver's error line keeps the one that matters.
_WORKER_LOG_LEVEL = "--default_sdk_harness_log_level=CRITICAL"


def add_runner_flags(parser: CommandParser) -> None:
    """Adds `--runner` and `--workers`; Beam's own flags are taken beside them."""
    parser.add_argument(
        "--runner",
        default=LOCAL,
        metavar="NAME",
        help="local: this machine, in worker processes; any other name is Beam's own "
        "(FnApiRunner, FlinkRunner, DataflowRunner …), whose flags are then accepted",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="worker processes of the local runner (default: the cores it may use)",
    )


def parse_with_beam_flags(
    parser: CommandParser, argv: Sequence[str]
) -> tuple[argparse.Namespace, list[str]]:
    """Parses a command's flags and returns (values, the flags meant for Beam).

    Raises:
        UsageError: a flag that neither the command nor Beam has (Beam itself would
            ignore it), a runner nobody knows, or fewer than one worker.
    """
    values, rest = parser.parse_known_args(list(argv))
    if values.debug:
        os.environ[DEBUG_VARIABLE] = "1"
    beam_args = split_beam_flags(rest, parser) if rest else []
    check_runner(values.runner)
    if values.workers is not None and values.workers < 1:
        raise UsageError(f"wanted --workers of 1 or more, found {values.workers}")
    return values, beam_args


def split_beam_flags(rest: Sequence[str], parser: CommandParser) -> list[str]:
    """Checks that the arguments a command does not know are all Beam's, and valid."""
    known = beam_flags()
    for argument in rest:
        if argument.startswith("--") and argument.split("=", 1)[0] not in known:
            refuse_unknown(argument, [*parser.known_flags(), *known], parser.prog)
    unread = _unread_by_beam(rest)
    if unread:
        refuse_unknown(unread[0], parser.known_flags(), parser.prog)
    return list(rest)


def check_runner(name: str) -> None:
    """Refuses a runner that Beam does not have, and DirectRunner for what it does."""
    if name == LOCAL:
        return
    if name.lower() in _REFUSED or name.lower() == "direct":
        raise UsageError(
            f"wanted a runner that does one thing, found {name}, which tries to "
            f"download another and falls back silently. Use --runner {LOCAL}, or "
            f"--runner {STOCK} for Beam's own local runner"
        )
    with quiet_import():
        from apache_beam.options.pipeline_options import StandardOptions
    known = StandardOptions.KNOWN_RUNNER_NAMES
    lower = name.lower()
    if "." not in name and not {lower, lower + "runner"} & (
        runner_names() | {STOCK.lower()}
    ):
        raise UsageError(
            f"wanted a runner known to Beam, found {name}."
            f"{suggest(name, [LOCAL, STOCK, *known])} Known: {LOCAL}, "
            f"{', '.join(known)}"
        )


def available_workers() -> int:
    """Returns the number of cores this process may run on."""
    return len(os.sched_getaffinity(0))


def run_pipeline(
    build: "Callable[[beam.Pipeline], None]",
    runner: str = LOCAL,
    workers: int | None = None,
    beam_args: Sequence[str] = (),
) -> None:
    """Builds a graph and runs it to its end.

    Args:
        build: adds the transforms to an empty pipeline.
        runner: `local`, or a name Beam knows.
        workers: processes for the runners of this machine; None: one per core. One
            worker runs inside this process.
        beam_args: flags for Beam, already checked by `split_beam_flags`.

    Raises:
        WorkError: the job failed, with the first cause on one line.
        UsageError: raised by a step of the job as such, or the runner cannot start.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # workers inherit it
    if runner == LOCAL:
        import_beam_without_clouds()
    with quiet_import():
        import apache_beam as beam
    count = workers or available_workers()
    options = _options(runner, count, beam_args)
    made = _runner(runner, count, options)
    if is_local(runner):
        pipeline = beam.Pipeline(runner=made, options=options)
        build(pipeline)
        execute(pipeline)
        return
    with at_a_job_server(runner, made, options) as engine:
        pipeline = beam.Pipeline(runner=made, options=options)
        build(pipeline)
        execute(pipeline, engine)


def is_local(runner: str) -> bool:
    """Tells whether a runner is one of those of this machine."""
    return runner == LOCAL or runner.lower() == STOCK.lower()


def _options(runner: str, workers: int, beam_args: Sequence[str]) -> "PipelineOptions":
    from apache_beam.options.pipeline_options import PipelineOptions

    flags = [_WORKER_LOG_LEVEL]
    if runner == LOCAL:
        flags += [f"--direct_num_workers={workers}", "--runner=FnApiRunner"]
    elif runner.lower() == STOCK.lower():
        mode = "in_memory" if workers == 1 else "multi_processing"
        flags += [
            "--runner=FnApiRunner",
            f"--direct_num_workers={workers}",
            f"--direct_running_mode={mode}",
        ]
    else:
        flags.append(f"--runner={runner}")
    return PipelineOptions([*flags, *beam_args])


def _runner(
    name: str, workers: int, options: "PipelineOptions"
) -> "beam.runners.PipelineRunner":
    """Returns the FnApiRunner for this machine, or what Beam makes of a name."""
    if is_local(name):
        own = name == LOCAL and workers > 1
        return local_runner(
            options, f"exec {sys.executable} -m pipelines.beam.worker" if own else None
        )
    try:
        return named_runner(name)
    except (ValueError, ImportError, AttributeError) as error:
        raise UsageError(
            f"wanted to start {name}, found: {error}. Install what it needs"
        ) from error


def _unread_by_beam(rest: Sequence[str]) -> list[str]:
    """Returns the arguments that Beam's parser leaves over."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return flag_parser().parse_known_args(list(rest))[1]
    except SystemExit:
        reason = complaint.getvalue().strip().rsplit("error: ", 1)[-1]
        raise UsageError(f"{reason} (one of Beam's flags)") from None
