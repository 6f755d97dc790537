# SPDX-License-Identifier: Apache-2.0
"""What this project uses of Beam's insides, all in one place: Apache Beam 2.77.

Beam documents neither its list of runners, nor the parser of its flags, nor how the
runner of this machine is made, nor the words its failures come in. Each of these is
asked for here and nowhere else; a Beam that has changed one fails a test by name.
"""

import argparse
import re
import tempfile
from collections.abc import Callable, Iterator
from traceback import walk_tb
from types import TracebackType
from typing import TYPE_CHECKING

from pipelines.beam.quiet import quiet_import
from preprocessing.foundation import strict_json
from preprocessing.foundation.commands import long_flags

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners import PipelineRunner
    from apache_beam.runners.runner import PipelineResult

# The module that a worker's command line names, where Beam starts it by itself.
STOCK_WORKER = b"sdk_worker_main"
# What Beam raises, in a thread of its own, when a worker process has ended by itself.
_WORKER_ENDED = "Worker subprocess exited"
# What the driver is told of a worker that is gone before it answered.
_WORKER_GONE = ("Channel closed", "SDK worker disconnected")  # Beam's, Prism's
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


def named_runner(name: str) -> "PipelineRunner":
    """Returns a runner as Beam makes it from its name or import path."""
    from apache_beam.runners.runner import create_runner

    return create_runner(name)


def sends_jobs(runner: "PipelineRunner") -> bool:
    """Tells whether a runner sends its jobs to a job server."""
    from apache_beam.runners.portability.portable_runner import PortableRunner

    return isinstance(runner, PortableRunner)


def job_server_command(
    runner: "PipelineRunner", options: "PipelineOptions", directory: str
) -> tuple[list[str], str] | None:
    """Returns what starts the job server of a runner, and where it will answer.

    Beam's own way to start it sets a signal handler, which only the main thread may,
    and which ends the server before anybody can cancel the job there.

    Args:
        runner: sends jobs, and was told no server.
        options: of the pipeline.
        directory: for the server's files.

    Returns:
        None where the runner starts no process.

    Raises:
        RuntimeError, ValueError, OSError: there is none to start.
    """
    from apache_beam.options.pipeline_options import DebugOptions
    from apache_beam.runners.portability import job_server, portable_runner

    assert isinstance(runner, portable_runner.PortableRunner)
    # Else it is a server of another job of this process, with that one's flags.
    options.view_as(DebugOptions).add_experiment("disable_prism_server_singleton")
    server = runner.default_job_server(options)
    if isinstance(server, job_server.StopOnExitJobServer):
        server = server._job_server
    if not isinstance(server, job_server.SubprocessJobServer):
        return None
    server._local_temp_root = tempfile.mkdtemp(dir=directory)
    command, endpoint = server.subprocess_cmd_and_endpoint()
    return [str(word) for word in command], endpoint


def instead_of_a_job_server(endpoint: str, seconds: float) -> str:
    """Returns what is found at an endpoint; nothing where a job server answers.

    Args:
        endpoint: HOST:PORT.
        seconds: how long it may take to connect, and to answer then.
    """
    import grpc
    from apache_beam.portability.api import beam_job_api_pb2 as api
    from apache_beam.runners.portability.job_server import ExternalJobServer

    question = api.DescribePipelineOptionsRequest()
    try:
        server = ExternalJobServer(endpoint, seconds).start()
        server.DescribePipelineOptions(question, timeout=seconds)
    except grpc.FutureTimeoutError:
        return "none that answers"
    except grpc.RpcError as error:
        details = getattr(error, "details", str)()
        return f"what does not answer as one does ({details})"
    return ""


def is_at_a_server(result: "PipelineResult") -> bool:
    """Tells whether a job was sent to a job server."""
    from apache_beam.runners.portability import portable_runner

    return isinstance(result, portable_runner.PipelineResult)


def job_messages(result: "PipelineResult") -> Iterator[tuple[bool, str]]:
    """Yields what a job server tells of a job: whether it is an error, and the text.

    Details are left out. Beam's own stream of them ends after --job_server_timeout,
    and its stream of states with it, as if the job had failed.
    """
    from apache_beam.portability.api import beam_job_api_pb2 as api
    from apache_beam.runners.portability import portable_runner

    assert isinstance(result, portable_runner.PipelineResult)
    request = api.JobMessagesRequest(job_id=result._job_id)
    for message in result._job_service.GetMessageStream(request):
        told = message.message_response
        if told.importance >= api.JobMessage.JOB_MESSAGE_WARNING:
            error = told.importance == api.JobMessage.JOB_MESSAGE_ERROR
            yield error, told.message_text


def end_of_job(result: "PipelineResult") -> None:
    """Ends what a job at a server kept in this process: workers in its threads."""
    from apache_beam.runners.portability import portable_runner

    assert isinstance(result, portable_runner.PipelineResult)
    result._cleanup()


def is_over(state: str) -> bool:
    """Tells whether a job in a state does nothing any more."""
    from apache_beam.runners.runner import PipelineState

    return bool(PipelineState.is_terminal(state))


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
    return any(words in str(failure) for words in _WORKER_GONE)


def without_step_name(text: str) -> str:
    """Returns the text of an exception as it was before Beam named the step in it."""
    return _STEP_NAME.sub("", text)


def serve_pool(
    address: str,
    start: Callable[[str, list[str]], None],
    stop: Callable[[str], None],
) -> Callable[[], None]:
    """Serves engines that ask for workers, as Beam's own pool does.

    That one listens on every network of its machine, and its workers stand still when
    they have printed more than a pipe holds.

    Args:
        address: HOST:PORT to listen at.
        start: starts the worker of an id, given its arguments.
        stop: ends the worker of an id, and returns when it has.

    Returns:
        What ends the service.

    Raises:
        RuntimeError: the address cannot be listened at.
    """
    from concurrent.futures import ThreadPoolExecutor

    import grpc
    from apache_beam.portability.api import beam_fn_api_pb2 as api
    from apache_beam.portability.api import beam_fn_api_pb2_grpc as service

    class Pool(service.BeamFnExternalWorkerPoolServicer):
        """Answers an engine."""

        def StartWorker(  # noqa: N802  # as gRPC has it
            self, request: api.StartWorkerRequest, context: object
        ) -> api.StartWorkerResponse:
            """Starts a worker."""
            endpoints = {
                "logging": request.logging_endpoint.url,
                "provision": request.provision_endpoint.url,
                "control": request.control_endpoint.url,
            }
            words = [f"--{name}_endpoint={url}" for name, url in endpoints.items()]
            try:
                start(request.worker_id, [f"--id={request.worker_id}", *words])
            except OSError as error:
                return api.StartWorkerResponse(error=str(error))
            return api.StartWorkerResponse()

        def StopWorker(  # noqa: N802  # as gRPC has it
            self, request: api.StopWorkerRequest, context: object
        ) -> api.StopWorkerResponse:
            """Ends a worker."""
            stop(request.worker_id)
            return api.StopWorkerResponse()

    # An engine may ping as often as it likes; two pools never share a port.
    options = [
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.server(ThreadPoolExecutor(16), options=options)
    service.add_BeamFnExternalWorkerPoolServicer_to_server(Pool(), server)
    server.add_insecure_port(address)
    server.start()
    return lambda: server.stop(grace=1).wait()


def provisioned(
    worker_id: str, provision: str, control: str, logging: str
) -> dict[str, str]:
    """Asks an engine for a job's options, as the boot program of Beam's image does.

    Args:
        worker_id: of the worker that asks.
        provision: the endpoint to ask at.
        control: where the worker gets its work, unless the engine says otherwise.
        logging: where its log goes, likewise.

    Returns:
        The environment that Beam's worker loop reads.
    """
    import grpc
    from apache_beam.portability.api import beam_provision_api_pb2 as api
    from apache_beam.portability.api import beam_provision_api_pb2_grpc as service
    from apache_beam.portability.api import endpoints_pb2
    from apache_beam.runners.job import utils

    def descriptor(told: str, known: str) -> str:
        return str(endpoints_pb2.ApiServiceDescriptor(url=told or known))

    with grpc.insecure_channel(provision) as channel:
        info = (
            service.ProvisionServiceStub(channel)
            .GetProvisionInfo(
                api.GetProvisionInfoRequest(), metadata=(("worker_id", worker_id),)
            )
            .info
        )
    return {
        "WORKER_ID": worker_id,
        "PIPELINE_OPTIONS": strict_json.dumps(
            utils.struct_to_dict(info.pipeline_options)
        ),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
        "LOGGING_API_SERVICE_DESCRIPTOR": descriptor(
            info.logging_endpoint.url, logging
        ),
        "CONTROL_API_SERVICE_DESCRIPTOR": descriptor(
            info.control_endpoint.url, control
        ),
    }
