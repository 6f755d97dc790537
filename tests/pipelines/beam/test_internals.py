# SPDX-License-Identifier: Apache-2.0
"""What is used of Beam's insides is there; where it is not, a test says what breaks."""

import inspect
import subprocess
import sys
from pathlib import Path

import apache_beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_job_api_pb2 as api
from apache_beam.runners.portability import portable_runner
from apache_beam.runners.worker import sdk_worker_main
from apache_beam.transforms import environments

from pipelines.beam import internals as beam_internals

OPTIONS = PipelineOptions(["--runner=FnApiRunner", "--s3_region_name=eu-north-9"])


def broken(what: str) -> str:
    return (
        f"Apache Beam {apache_beam.__version__} changed inside: {what} "
        "(pipelines/beam/internals.py)"
    )


@pytest.mark.smoke
def test_runners_and_flags_are_known_by_name():
    names = beam_internals.runner_names()
    assert {"flinkrunner", "dataflowrunner"} <= names, broken(
        "--runner refuses every runner, for the list of their names is elsewhere"
    )
    flags = beam_internals.beam_flags()
    assert {"--project", "--s3_region_name", "--direct_num_workers"} <= set(flags), (
        broken("Beam's own flags are refused as unknown")
    )
    found, unknown = beam_internals.flag_parser().parse_known_args(["--project", "p"])
    assert (found.project, unknown) == ("p", []), broken("Beam's flags are not read")


@pytest.mark.smoke
def test_the_local_runner_gives_its_workers_the_options_and_our_command():
    runner = beam_internals.local_runner(
        OPTIONS, "exec python -m pipelines.beam.worker"
    )
    environment = runner._default_environment
    assert environment.command_string == "exec python -m pipelines.beam.worker", broken(
        "worker processes are Beam's own, twice as slow to start and loud"
    )
    known = dict(runner._provision_info.provision_info.pipeline_options)
    assert known["beam:option:s3_region_name:v1"] == "eu-north-9", broken(
        "workers know no S3 endpoint and no project"
    )
    alone = beam_internals.local_runner(OPTIONS, None)._default_environment
    assert isinstance(alone, environments.EmbeddedPythonEnvironment), broken(
        "one worker no longer runs inside the driver"
    )


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("source", "text", "hears", "what"),
    [
        (
            "portability/local_job_service.py",
            "Worker subprocess exited",
            beam_internals.tells_of_a_death,
            "a job whose worker was killed waits for it for ever",
        ),
        (
            "worker/data_plane.py",
            "Channel closed",
            beam_internals.tells_of_a_lost_worker,
            "a lost worker is told in Beam's words, without what to do",
        ),
        (
            "common.py",
            " [while running '",
            lambda error: beam_internals.without_step_name(str(error)) != str(error),
            "error lines end with the name of a step",
        ),
    ],
)  # fmt: skip
def test_failures_come_in_the_words_that_are_listened_for(source, text, hears, what):
    runners = Path(apache_beam.__file__).parent / "runners"
    assert text in (runners / source).read_text(), broken(what)
    assert hears(RuntimeError(f"an error{text}step']"))
    assert not hears(RuntimeError("an error"))


def test_a_worker_process_enters_where_beams_own_does():
    assert len(inspect.signature(sdk_worker_main.main).parameters) == 1, broken(
        "no worker process of the local runner starts"
    )
    assert beam_internals.STOCK_WORKER.decode() in sdk_worker_main.__name__, broken(
        "workers that a failed job leaves waiting are not ended"
    )


@pytest.mark.slow
def test_beam_imports_without_the_clouds_and_leaves_their_names_free():
    clouds = {"azure.storage.blob", "boto3", "google.cloud.storage", "pymongo"}
    program = (
        "import sys; from pipelines.beam.quiet import import_beam_without_clouds;"
        f"import_beam_without_clouds(); print(*({clouds} & set(sys.modules)));"
        "import boto3"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert ended.returncode == 0, broken(f"a local job fails at import: {ended.stderr}")
    assert ended.stdout.split() == [], broken(
        f"every process of a local job starts slower: {ended.stdout.strip()} comes too"
    )


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("name", "flag", "program"),
    [
        ("PrismRunner", "--prism_location", "{file}"),
        ("FlinkRunner", "--flink_job_server_jar", "java"),
        ("SparkRunner", "--spark_job_server_jar", "java"),
    ],
)
def test_a_job_server_is_started_by_a_command(tmp_path, name, flag, program):
    file = tmp_path / "server"
    file.write_bytes(b"")
    options = PipelineOptions([f"--runner={name}", f"{flag}={file}"])
    runner = beam_internals.named_runner(name)
    assert beam_internals.sends_jobs(runner)
    told = beam_internals.job_server_command(runner, options, str(tmp_path))
    what = broken("Beam starts the job server itself, which outlives the command")
    assert told is not None, what
    command, endpoint = told
    assert command[0] == program.format(file=file) and str(file) in command, what
    assert endpoint.split(":")[1] in command, what


@pytest.mark.smoke
def test_what_a_job_server_tells_is_heard_by_the_jobs_number():
    class Service:
        def GetMessageStream(self, request):  # noqa: N802  # as gRPC has it
            asked.append(request.job_id)
            kinds = api.JobMessage.MessageImportance.values()
            tell = api.JobMessagesResponse
            for kind in sorted(kinds):
                told = api.JobMessage(importance=kind, message_text=f"text {kind}")
                yield tell(message_response=told)
            yield tell(state_response=api.JobStateEvent(state=api.JobState.DONE))

    asked, ended = [], []
    result = portable_runner.PipelineResult(
        Service(), "job-7", iter(()), iter(()), [lambda: ended.append(1)]
    )
    what = broken("what an engine says of a job is not heard")
    assert beam_internals.is_at_a_server(result), what
    assert list(beam_internals.job_messages(result)) == [
        (False, f"text {api.JobMessage.JOB_MESSAGE_WARNING}"),
        (True, f"text {api.JobMessage.JOB_MESSAGE_ERROR}"),
    ], what
    assert asked == ["job-7"], what
    beam_internals.end_of_job(result)
    assert ended == [1], broken("workers in this process outlive their job")
    states = {"DONE": True, "FAILED": True, "CANCELLED": True, "RUNNING": False}
    found = {state: beam_internals.is_over(state) for state in states}
    assert found == states, broken("the end of a job is not seen")
