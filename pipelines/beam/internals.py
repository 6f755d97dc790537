# SPDX-License-Identifier: Apache-2.0
"""What this project uses of Beam's insides, all in one place: Apache Beam 2.77.

Beam documents neither its list of runners, nor the parser of its flags, nor how the
runner of this machine is made, nor the words its failures come in. Each of these is
asked for here and nowhere else; a Beam that has changed one fails a test by name.
"""

import argparse
import re
from traceback import walk_tb
from types import TracebackType
from typing import TYPE_CHECKING

from pipelines.beam.quiet import quiet_import
from preprocessing.foundation.commands import long_flags

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners import PipelineRunner

# The module that a worker's command line names, where Beam starts it by itself.
STOCK_WORKER = b"sdk_worker_main"
# What Beam raises, in a thread of its own, when a worker process has ended by itself.
_WORKER_ENDED = "Worker subprocess exited"
# What the driver is told of a worker that is gone before it answered.
_WORKER_GONE = "Channel closed"
_BEAM = ("apache_beam", "grpc")
# What Beam adds to the text of an exception in a step.
_STEP_NAME = re.compile(r"\s*\[while running.*")


def runner_names() -> set[str]:
    """Returns the names of Beam's runners in lower case."""
    with quiet_import():
        from apache_beam.runners.runner import _RUNNER_MAP
    return set(_RUNNER_MAP)


def flag_parser() -> argparse.ArgumentParser:
    """Returns a parser of every flag that Beam's option classes register."""
    with quiet_import():
        from apache_beam.options import pipeline_options
    parser = pipeline_options._BeamArgumentParser(allow_abbrev=False)
    for options in pipeline_options.PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    return parser


def beam_flags() -> list[str]:
    """Returns every long flag that Beam has."""
    return long_flags(flag_parser())


def local_runner(
    options: "PipelineOptions", worker_command: str | None
) -> "PipelineRunner":
    """Returns the FnApiRunner for this machine.

    Beam leaves the options out when it makes this class by name, so its workers would
    know no S3 endpoint and no project; the provision info carries them.

    Args:
        options: of the pipeline.
        worker_command: starts a worker process; None for Beam's own choice.
    """
    from apache_beam.portability.api import beam_provision_api_pb2 as provision
    from apache_beam.runners.portability.fn_api_runner import fn_runner
    from apache_beam.runners.portability.portable_runner import JobServiceHandle
    from apache_beam.transforms import environments

    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    info = fn_runner.ExtendedProvisionInfo(
        provision.ProvisionInfo(pipeline_options=encoded)
    )
    environment = None
    if worker_command is not None:
        environment = environments.SubprocessSDKEnvironment.from_command_string(
            worker_command
        )
    return fn_runner.FnApiRunner(default_environment=environment, provision_info=info)


def serve_as_worker(argv: list[str]) -> None:
    """Runs Beam's worker loop until the driver closes the channel."""
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(argv)


def is_beams(failed: TracebackType | None) -> bool:
    """Tells whether a thread that failed ran Beam's code, or that of its channels."""
    modules = (frame.f_globals.get("__name__", "") for frame, _ in walk_tb(failed))
    return any(name.split(".")[0] in _BEAM for name in modules)


def tells_of_a_death(failure: BaseException | None) -> bool:
    """Tells whether a thread of Beam's has failed because a worker process ended."""
    return _WORKER_ENDED in str(failure)


def tells_of_a_lost_worker(failure: BaseException) -> bool:
    """Tells whether a job has failed because a worker's connection ended."""
    return _WORKER_GONE in str(failure)


def without_step_name(text: str) -> str:
    """Returns the text of an exception as it was before Beam named the step in it."""
    return _STEP_NAME.sub("", text)
