# SPDX-License-Identifier: Apache-2.0
"""The job as a user runs it, over a small untrained release."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
from cloudpathlib import S3Client
from moto.server import ThreadedMotoServer

from pipelines import batch_generate
from preprocessing.claims.claims import CLAIM_NAME, Held, claimed
from preprocessing.contracts.releases import copy_tree
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError, WorkError
from tests.datasets import write_dataset
from tests.releases import release_untrained

pytestmark = pytest.mark.slow

COUNT = 70  # three shards


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("models")
    dataset = write_dataset(root / "dataset")
    # TensorFlow takes the path of a SavedModel for a glob; we do not.
    release_untrained(dataset, "decoder", root / "na[m]e*")
    return root / "na[m]e*"


@pytest.fixture(scope="module")
def prompts(tmp_path_factory) -> Path:
    """Good prompts of all lengths, and one of each kind of bad one among them."""
    lines = [
        json.dumps({"id": f"p{i}", "prompt": "the river " * (i % 9) + "é"})
        for i in range(COUNT)
    ]
    lines[10] = "not json"
    lines[33] = json.dumps({"id": "p3", "prompt": "again"})
    lines[40] = json.dumps({"id": 40, "prompt": "half \ud800"})
    lines[69] = json.dumps({"id": "p69"})
    path = tmp_path_factory.mktemp("prompts") / "prompts[1].jsonl"
    path.with_name("prompts1.jsonl").write_text("another file")
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def generate(models, prompts):
    """Runs the command on `prompts` in this process unless told otherwise."""

    def run(output: Path | str, *flags: str, workers: int = 1) -> None:
        words = ["--model", str(models), "--input", str(prompts)]
        words += ["--output", str(output), "--workers", str(workers)]
        batch_generate.main([*words, "--max_new_tokens", "6", *flags])

    return run


@pytest.fixture(scope="module")
def finished(generate, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("finished") / "out"
    generate(output, "--temperature", "0.9", "--seed", "4")
    return output


def shards(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.glob("*.jsonl")}


def answers(output: Path) -> list[dict]:
    data = b"".join(shards(output)[name] for name in sorted(shards(output)))
    return [json.loads(line) for line in data.splitlines()]


@pytest.mark.smoke
def test_every_prompt_comes_out_once_in_order_as_an_answer_or_an_error(finished):
    wanted = [f"p{i}" for i in range(COUNT)]
    wanted[10], wanted[33], wanted[40] = None, "p3", 40
    found = answers(finished)
    assert [line["id"] for line in found] == wanted
    errors = [i for i, line in enumerate(found) if "error" in line]
    assert errors == [10, 33, 40, 69]
    for i, line in enumerate(found):
        keys = ["id", "error"]
        if i not in errors:
            keys = ["id", "text", "num_tokens", "finish_reason"]
            assert 0 <= line["num_tokens"] <= 6
            assert line["finish_reason"] in ("stop", "length")
        assert list(line) == keys


def test_nothing_else_in_the_output_looks_like_answers(finished):
    names = sorted(os.listdir(finished))
    numbered = [f"generations-{i:05d}-of-00003.jsonl" for i in range(3)]
    assert names == [*numbered, "job.json", "summary.json"]
    summary = json.loads((finished / "summary.json").read_text())
    tokens = sum(line.get("num_tokens", 0) for line in answers(finished))
    assert summary == {"prompts": 70, "errors": 4, "truncated": 0, "tokens": tokens}


def test_a_second_job_is_refused_while_the_first_lives(generate, tmp_path):
    output = tmp_path / "out"
    with claimed(str(output), "it"):
        with pytest.raises(Held, match=f"--output {output} .*process {os.getpid()} on"):
            generate(output)
        assert os.listdir(output) == [CLAIM_NAME]


def test_what_is_finished_may_be_asked_for_where_nothing_can_be_written(
    generate, finished, capsys
):
    before = os.stat(finished).st_mtime_ns
    generate(finished, "--temperature", "0.9", "--seed", "4")
    assert "already complete" in capsys.readouterr().out
    assert os.stat(finished).st_mtime_ns == before


def test_neither_batch_size_nor_workers_change_an_answer(generate, finished, tmp_path):
    flags = ("--temperature", "0.9", "--seed", "4")
    generate(tmp_path / "batch", *flags, "--batch_size", "5")
    assert shards(tmp_path / "batch") == shards(finished)
    generate(tmp_path / "workers", *flags, workers=2)
    assert shards(tmp_path / "workers") == shards(finished)


def test_a_job_goes_on_with_the_shards_that_are_missing(
    generate, finished, tmp_path, monkeypatch
):
    output, calls = tmp_path / "out", []

    def stop_after_two(self, index, *args):
        calls.append(index)
        if len(calls) == 3:
            raise WorkError("killed")
        return write_shard(self, index, *args)

    write_shard = batch_generate.GenerationOutput.write_shard
    monkeypatch.setattr(batch_generate.GenerationOutput, "write_shard", stop_after_two)
    with pytest.raises(WorkError, match="killed"):
        generate(output, "--temperature", "0.9", "--seed", "4")
    kept = {path: path.stat().st_mtime_ns for path in output.glob("*.jsonl")}
    assert len(kept) == 2
    monkeypatch.undo()
    generate(output, "--temperature", "0.9", "--seed", "4")
    assert shards(output) == shards(finished)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())


def test_a_complete_job_is_not_done_again(generate, finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.iterdir()}
    generate(finished, "--temperature", "0.9", "--seed", "4")
    assert "already complete: 70 prompts" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in finished.iterdir()}


def test_another_job_in_the_same_place_is_refused(generate, finished, tmp_path):
    with pytest.raises(UsageError, match="another generation"):
        generate(finished, "--temperature", "0.9", "--seed", "5")
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(UsageError, match=r"found files and no job\.json"):
        generate(tmp_path)


def test_what_is_wrong_with_the_flags_is_said_before_work(generate, models, tmp_path):
    out = tmp_path / "out"
    for flags, message in [
        (["--top_p", "1.5"], "--top_p"),
        (["--temperature", "-1"], "--temperature"),
        (["--max_new_tokens", "0"], "--max_new_tokens"),
        (["--batch_size", "0"], "--batch_size"),
        (["--temprature", "0"], "Did you mean --temperature"),
        (["--input", str(tmp_path / "*.jsonl")], "found none"),
        (["--model", str(models.parent / "dataset")], "wanted a release"),
    ]:
        with pytest.raises(UsageError, match=message):
            generate(out, *flags)
    assert not out.exists()


def test_a_job_without_a_single_answer_fails(models, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"id": 1}\n')
    words = ["--model", str(models), "--input", str(tmp_path / "in.jsonl")]
    output = tmp_path / "out"
    with pytest.raises(WorkError, match="at least one answer, found 1 error"):
        batch_generate.main([*words, "--output", str(output), "--workers", "1"])
    assert answers(output) == [{"id": 1, "error": "no field prompt at in.jsonl line 1"}]


def test_answers_below_the_prompts_are_no_prompts(generate, tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"id": 1, "prompt": "the river"}')
    for said in ("1 prompt,", "already complete: 1 prompt,"):
        generate(tmp_path / "out", "--input", f"{tmp_path}/**/*.jsonl")
        assert capsys.readouterr().out.startswith(said)
    assert [answer["id"] for answer in answers(tmp_path / "out")] == [1]


def test_model_prompts_and_answers_may_lie_in_a_bucket(
    generate, models, prompts, finished, bucket
):
    copy_tree(str(models / "1"), f"{bucket}/models/name/1")
    remote = f"{bucket}/in/{prompts.name}"
    storage.write_atomically(remote, prompts.read_bytes())
    words = ["--model", f"{bucket}/models/name", "--input", remote]
    flags = ("--temperature", "0.9", "--seed", "4")
    generate(f"{bucket}/out", *flags, *words)
    found = {
        name: storage.read_bytes(f"{bucket}/out/{name}")
        for name in storage.list_names(f"{bucket}/out")
        if name.endswith(".jsonl")
    }
    assert found == shards(finished)


@pytest.fixture
def bucket(monkeypatch):
    """An S3 bucket served on the loopback; yields its URI."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setattr(S3Client, "_default_client", None)
    boto3.client("s3").create_bucket(Bucket="served")
    yield "s3://served"
    server.stop()


@pytest.mark.drill
@pytest.mark.parametrize("seed", range(5))
def test_a_job_killed_at_random_moments_ends_with_the_same_answers(
    models, prompts, finished, tmp_path, seed
):
    words = ["--model", str(models), "--input", str(prompts), "--workers", "1"]
    words += ["--output", str(tmp_path / "out"), "--max_new_tokens", "6"]
    words += ["--temperature", "0.9", "--seed", "4"]
    command = [sys.executable, "-m", "pipelines.batch_generate", *words]
    chooser = random.Random(seed)
    for _ in range(4):
        job = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(chooser.uniform(1, 12))
        job.send_signal(signal.SIGKILL)
        job.wait()
        for name, data in shards(tmp_path / "out").items():
            assert data == shards(finished)[name]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert shards(tmp_path / "out") == shards(finished)
