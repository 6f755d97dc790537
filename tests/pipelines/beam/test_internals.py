# SPDX-License-Identifier: Apache-2.0
"""What is used of Beam's insides is there; where it is not, a test says what breaks."""

import inspect
import subprocess
import sys
from pathlib import Path

import apache_beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
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
