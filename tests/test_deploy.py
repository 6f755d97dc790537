# SPDX-License-Identifier: Apache-2.0
"""deploy/: what can be shown of it without Docker, Slurm or a second host."""

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from google.protobuf import text_format
from packaging.requirements import Requirement
from tensorflow_serving.config import model_server_config_pb2

from tests.pipelines.generation.model_servers import serving, tensorflow_serving

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILES = sorted((DEPLOY / "containers").glob("*.Dockerfile"))
GPU_TRAINER = DEPLOY / "containers" / "trainer-gpu.Dockerfile"
WITH_TF_CONFIG = DEPLOY / "slurm" / "with-tf-config.sh"
CHECK_IMAGE = DEPLOY / "serving" / "check-image.sh"
TASK = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_STEP_NODELIST": "node7"}
SHOW = [sys.executable, "-c", "import os; print(os.environ['TF_CONFIG'])"]


def instructions(dockerfile):
    """Yields (INSTRUCTION, its words), continued lines joined, comments left out."""
    lines = [line for line in dockerfile.read_text().splitlines() if line[:1] != "#"]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word, shlex.split(rest)


def locked(package, lock="constraints.txt"):
    return re.search(rf"^{package}==(\S+)$", (ROOT / lock).read_text(), re.M)[1]


def cuda_packages():
    """The packages of NVIDIA's that TensorFlow's extra asks for."""
    names = {Requirement(line).name for line in metadata.requires("tensorflow")}
    return {name for name in names if name.startswith("nvidia-")}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_what_a_container_file_copies_is_in_the_repository(dockerfile):
    copied = [
        words[:-1]
        for word, words in instructions(dockerfile)
        if word == "COPY" and not words[0].startswith("--from=")
    ]
    missing = [s for sources in copied for s in sources if not (ROOT / s).exists()]
    assert copied and not missing


def test_the_corpus_worker_has_the_beam_version_of_the_lock():
    words = dict(instructions(DEPLOY / "containers" / "corpus-worker.Dockerfile"))
    assert words["FROM"] == [f"apache/beam_python3.11_sdk:{locked('apache-beam')}"]


def test_the_trainer_has_the_tensorflow_version_of_the_lock():
    text = (DEPLOY / "containers" / "trainer.Dockerfile").read_text()
    assert f"tensorflow[and-cuda]=={locked('tensorflow')}" in text


def test_the_gpu_trainer_brings_python_with_the_uv_of_its_own_lock():
    images = [w for word, w in instructions(GPU_TRAINER) if word == "FROM"]
    uv = locked("uv", "constraints-tf221.txt")
    assert images[0] == [f"ghcr.io/astral-sh/uv:{uv}", "AS", "uv"]
    assert re.fullmatch(r"nvidia/cuda:12\.\d+\.\d+-base-ubuntu\d\d\.04", *images[1])


def test_the_gpu_trainer_installs_the_gpu_extra_under_the_second_lock():
    (line,) = [
        words
        for word, words in instructions(GPU_TRAINER)
        if word == "RUN" and "install" in words
    ]
    given = dict(itertools.pairwise(line))
    assert given["--constraint"] == "constraints-tf221.txt" and ".[gpu]" in line


@pytest.mark.parametrize("lock", ["constraints.txt", "constraints-tf221.txt"])
def test_both_locks_pin_all_that_tensorflows_cuda_extra_asks_for(lock):
    wanted = cuda_packages()
    assert "nvidia-cuda-nvcc-cu12" in wanted
    pinned = set(re.findall(r"^(nvidia\S+)==", (ROOT / lock).read_text(), re.M))
    assert wanted == pinned


@pytest.mark.parametrize("name", ["trainer", "trainer-gpu"])
def test_a_trainer_does_not_run_as_root(name):
    *_, user = [
        words
        for word, words in instructions(DEPLOY / "containers" / f"{name}.Dockerfile")
        if word == "USER"
    ]
    assert user != ["root"] and user != ["0"]


def test_serving_is_of_the_minor_version_that_exports():
    words = dict(instructions(DEPLOY / "containers" / "serving.Dockerfile"))
    minor = locked("tensorflow").rsplit(".", 1)[0]
    assert words["FROM"][0].startswith(f"tensorflow/serving:{minor}.")


def test_the_model_list_is_one_that_the_model_server_reads():
    text = (DEPLOY / "serving" / "models.config").read_text()
    served = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = served.model_config_list.config
    assert (model.name, model.base_path) == ("quern", "/models/quern")


def test_the_largest_batch_is_the_last_size_allowed():
    text = (DEPLOY / "serving" / "batching.config").read_text()
    sizes = [
        int(size) for size in re.findall(r"^allowed_batch_sizes: (\d+)$", text, re.M)
    ]
    (largest,) = re.findall(r"^max_batch_size { value: (\d+) }$", text, re.M)
    assert sizes == sorted(set(sizes)) and sizes[-1] == int(largest)


def test_serving_is_given_the_configurations_that_were_copied():
    words = list(instructions(DEPLOY / "containers" / "serving.Dockerfile"))
    folder = next(line[-1] for word, line in words if word == "COPY")
    command = " ".join(line for word, rest in words if word == "CMD" for line in rest)
    named = set(re.findall(r"=(/etc/\S+?\.config)", command))
    assert named == {
        f"{folder}{path.name}" for path in (DEPLOY / "serving").glob("*.config")
    }


@pytest.mark.slow
def test_the_real_server_is_asked_for_a_release_or_said_to_be_skipped(tmp_path):
    """With stand-ins for Docker and the check; the drill below has the real ones."""
    for name, does in {
        "docker": 'echo "$*" >> "$0.log"; test "$1" = info && exit $INFO; '
        "test $1 = port && echo 127.0.0.1:$PORT; true",
        "check": 'echo "$*" > "$0.log"; exit $CHECK',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": f"{tmp_path}/check"}

    def ended(info, port=0, check=0):
        known = {"INFO": info, "PORT": port, "CHECK": check, "TRIES": 1}
        return subprocess.run(
            [CHECK_IMAGE, tmp_path],
            env=path | {name: str(value) for name, value in known.items()},
            capture_output=True,
            text=True,
        )

    skipped = ended(info=1)
    assert skipped.returncode == 0 and skipped.stdout.startswith("skipped: no Docker")
    with serving(tensorflow_serving(None)) as (server, _):
        port = server.rpartition(":")[2]
        assert ended(0, port).stdout.endswith("answers as the trainer did\n")
        url = f"http://127.0.0.1:{port}/v1/models/quern"
        checked = f"-m trainer.check_release {tmp_path} --server {url}\n"
        assert (tmp_path / "check.log").read_text() == checked
        assert ended(0, port, check=1).returncode == 1
    assert "error: wanted tensorflow/serving" in ended(0, port).stderr
    log = (tmp_path / "docker.log").read_text()
    assert log.count("\nrm --force") == log.count("\nrun ") == 3


@pytest.mark.drill
def test_the_real_server_answers_as_the_trainer_did(tmp_path):
    from tests.datasets import write_dataset
    from tests.releases import release_untrained  # which imports TensorFlow

    docker = shutil.which("docker")
    if (
        docker is None
        or subprocess.run([docker, "info"], capture_output=True).returncode
    ):
        pytest.skip("no Docker runs here, so the real server was not asked")
    release_untrained(write_dataset(tmp_path / "data"), "decoder", tmp_path / "name")
    said = subprocess.run(
        [CHECK_IMAGE, tmp_path / "name"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.slow
def test_a_cluster_line_names_all_workers_and_this_one():
    done = _run(WITH_TF_CONFIG, "1", "host0:12345", "host1:12345", "--", *SHOW)
    assert json.loads(done.stdout) == {
        "cluster": {"worker": ["host0:12345", "host1:12345"]},
        "task": {"type": "worker", "index": 1},
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    ["", "0 a:1", "0 a:1 --", "0 a -- true", "x a:1 -- true", "2 a:1 b:1 -- true"],
)
def test_a_cluster_line_that_cannot_work_is_refused_with_its_usage(arguments):
    done = _run(WITH_TF_CONFIG, *arguments.split())
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: wanted") and "Usage" in last


@pytest.mark.slow
def test_a_cluster_line_passes_the_status_of_its_command_on():
    stop = [sys.executable, "-c", "raise SystemExit(42)"]
    assert _run(WITH_TF_CONFIG, "0", "a:1", "--", *stop).returncode == 42


@pytest.mark.slow
def test_a_slurm_task_becomes_the_worker_its_rank_says(tmp_path):
    _program(tmp_path / "scontrol", 'echo "node7"; echo "node9"')
    slurm = {"SLURM_PROCID": "1", "SLURM_STEP_NODELIST": "node[7,9]"}
    line = [DEPLOY / "slurm" / "slurm-task.sh", "status", *SHOW]
    done = _run(*line, path=tmp_path, SLURM_JOB_ID="123456", **slurm)
    config = json.loads(done.stdout)
    assert config["cluster"]["worker"] == ["node7:23456", "node9:23456"]
    assert config["task"] == {"type": "worker", "index": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trained", "seen", "recorded"),
    [(0, 0, ""), (42, 0, "42\n"), (2, 2, "2\n"), (1, 1, ""), (137, 137, "")],
)
def test_a_slurm_task_that_stopped_is_no_failure_to_slurm(
    tmp_path, trained, seen, recorded
):
    _program(tmp_path / "scontrol", "echo node7")
    record = tmp_path / "record"
    done = _run(*_task(record, f"exit {trained}"), path=tmp_path, **TASK)
    assert done.returncode == seen
    assert (record.read_text() if record.exists() else "") == recorded


@pytest.mark.slow
def test_a_slurm_task_outlives_the_signal_that_its_command_answers(tmp_path):
    _program(tmp_path / "scontrol", "echo node7")
    record = tmp_path / "record"
    # The signal goes to the whole group, as Slurm's does.
    answer = "trap 'exit 42' USR1; kill -USR1 0; sleep 60 & wait"
    done = _run(*_task(record, answer), path=tmp_path, **TASK)
    assert (done.returncode, record.read_text()) == (0, "42\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trained", "ended", "restarts", "status", "requeued"),
    [
        (0, 0, 0, 0, False),
        (2, 2, 0, 2, False),
        (2, 137, 0, 2, False),
        (42, 0, 9, 0, True),
        (1, 137, 0, 0, True),
        (137, 137, 2, 0, True),
        (1, 1, 3, 1, False),
    ],
)
def test_a_slurm_job_goes_on_when_it_can(
    tmp_path, trained, ended, restarts, status, requeued
):
    task = f'"$2" "$3" sh -c "exit {trained}"'
    _program(tmp_path / "srun", f'echo "$@" > {tmp_path}/line\n{task}\nexit {ended}')
    queue = f'[ "$1" = show ] && echo node7 || echo "$@" > {tmp_path}/queued'
    _program(tmp_path / "scontrol", queue)
    slurm = {**TASK, "SLURM_RESTART_COUNT": str(restarts)}
    done = _run(DEPLOY / "slurm" / "train.slurm", "--run", "R", path=tmp_path, **slurm)
    assert done.returncode == status, done.stderr
    line = (tmp_path / "line").read_text()
    task = "deploy/slurm/slurm-task.sh slurm-7.status .venv/bin/quern-train --run R\n"
    assert line.endswith(task)
    assert not (ROOT / "slurm-7.status").exists()
    assert (tmp_path / "queued").exists() == requeued
    if requeued:
        assert (tmp_path / "queued").read_text() == "requeue 7\n"


def _task(record, script):
    return [DEPLOY / "slurm" / "slurm-task.sh", record, "sh", "-c", script]


def _program(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def _run(script, *arguments, path=DEPLOY / "slurm", **environment):
    environment = {"PATH": f"{path}:/usr/bin:/bin", **environment}
    return subprocess.run(
        [str(script), *arguments],
        cwd=ROOT,
        env=environment,
        start_new_session=True,
        capture_output=True,
        text=True,
        check=False,
    )
