# SPDX-License-Identifier: Apache-2.0
"""The job as a user runs it, over a small untrained release."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import boto3
import pyarrow.parquet as pq
import pytest
from cloudpathlib import S3Client
from moto.server import ThreadedMotoServer

from pipelines import batch_generate
from preprocessing.claims.claims import CLAIM_NAME, Held, claimed
from preprocessing.contracts.releases import copy_tree
from preprocessing.contracts.tf_records import decode_example, read_frames
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError, WorkError
from tests.datasets import write_dataset
from tests.releases import release_untrained
from trainer.serving import answering
from trainer.serving.loaded_release import LoadedRelease

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
    # What has no id of its own, or another's, has its file and line.
    wanted[10], wanted[33] = "prompts[1].jsonl:11", "prompts[1].jsonl:34"
    wanted[40] = 40
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
    first = summary.pop("first_error")
    assert first.startswith("not JSON at prompts[1].jsonl:11: ")
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


def test_neither_batch_size_nor_workers_change_an_answer(
    generate, finished, tmp_path, capfd
):
    flags = ("--temperature", "0.9", "--seed", "4")
    generate(tmp_path / "batch", *flags, "--batch_size", "5")
    assert len(shards(tmp_path / "batch")) == 7
    assert answers(tmp_path / "batch") == answers(finished)
    capfd.readouterr()
    generate(tmp_path / "workers", *flags, workers=3)
    assert shards(tmp_path / "workers") == shards(finished)
    # Nor do workers say anything when they end.
    said = capfd.readouterr().err.splitlines()
    assert [line for line in said if not line.startswith("generate: ")] == [
        "note: 4 errors. The first: "
        + json.loads((finished / "summary.json").read_text())["first_error"]
    ]


@pytest.mark.parametrize("name", ["parquet", "tfrecord"])
def test_other_formats_hold_the_same_answers(generate, finished, tmp_path, name):
    flags = ("--temperature", "0.9", "--seed", "4", "--output_format", name)
    generate(tmp_path / "out", *flags)
    paths = sorted((tmp_path / "out").glob(f"generations-*-of-00003.{name}"))
    rows = []
    for path in paths:
        if name == "parquet":
            rows += pq.read_table(path).to_pylist()
        else:
            frames = read_frames([path.read_bytes()], 10**6)
            rows += [decode_example(frame.payload) for frame in frames]
    assert len(rows) == COUNT
    for row, line in zip(rows, answers(finished), strict=True):
        wanted = {"shortened": False} | line | {"id": str(line["id"])}
        if name == "tfrecord":
            wanted = {
                k: [v.encode() if isinstance(v, str) else v] for k, v in wanted.items()
            }
        assert {k: v for k, v in row.items() if v is not None} == wanted


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


def test_a_first_try_needs_no_more_than_lines_of_text(models, tmp_path, capsys):
    (tmp_path / "p.txt").write_text("Once upon a time\nThe cat\n")
    words = ["--model", str(models), "--input", str(tmp_path / "p.txt")]
    words += ["--output", str(tmp_path / "out"), "--workers", "1"]
    batch_generate.main([*words, "--max_new_tokens", "6"])
    assert [line["id"] for line in answers(tmp_path / "out")] == ["p.txt:1", "p.txt:2"]
    assert all("text" in line for line in answers(tmp_path / "out"))
    assert capsys.readouterr().out.startswith("2 prompts, 12 tokens, 0 errors, ")


def test_an_input_of_no_prompts_is_refused_before_work_with_the_reason(
    generate, tmp_path
):
    for text, message in [
        ("\n \n", "found only blank lines"),
        ('{"id": 1}\n{}', r"2 records of which none is one\. The first: no field prom"),
    ]:
        (tmp_path / "in.jsonl").write_text(text)
        with pytest.raises(UsageError, match=message):
            generate(tmp_path / "out", "--input", str(tmp_path / "in.jsonl"))
    assert not (tmp_path / "out").exists()


def test_a_prompt_longer_than_the_context_is_shortened_and_says_so(
    generate, tmp_path, capsys
):
    rows = [{"prompt": "river " * 99, "text": "not this"}, {"text": "the river"}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    flags = ("--input", str(tmp_path / "in.jsonl"), "--keep_fields", "prompt")
    generate(tmp_path / "out", *flags)
    found = answers(tmp_path / "out")
    assert [line.get("shortened") for line in found] == [True, None]
    assert [line["id"] for line in found] == ["in.jsonl:1", "in.jsonl:2"]
    said = capsys.readouterr()
    assert "1 prompt shortened to fit" in said.out
    assert "note: 1 record with both prompt and text: prompt is taken." in said.err


def test_an_input_that_changes_while_the_job_runs_is_told_and_nothing_lost(
    generate, prompts, finished, tmp_path, monkeypatch
):
    own, begun = tmp_path / prompts.name, batch_generate.GenerationOutput.open

    def changed(self, job):
        begun(self, job)
        own.write_text(own.read_text().replace("the river", "the other river"))

    flags = ("--temperature", "0.9", "--seed", "4", "--input", str(own))
    own.write_bytes(prompts.read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(batch_generate.GenerationOutput, "open", changed)
        with pytest.raises(WorkError, match=f"{re.escape(str(own))} .*has changed sin"):
            generate(tmp_path / "out", *flags)
    with pytest.raises(UsageError, match="found another input_sha256"):
        generate(tmp_path / "out", *flags)
    own.write_bytes(prompts.read_bytes())
    generate(tmp_path / "out", *flags)
    assert shards(tmp_path / "out") == shards(finished)


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


def test_a_process_holds_one_release_and_asks_it_one_chunk_at_a_time(
    generate, finished, tmp_path, monkeypatch
):
    """However many threads of Beam's it has: here three workers in one process."""
    loads, inside, most = [], [], []
    load, answer = LoadedRelease.__init__, answering.answer_texts

    def counted(self, *args):
        loads.append(args)
        load(self, *args)

    def watched(*args):
        inside.append(args)
        most.append(len(inside))
        found = answer(*args)
        inside.pop()
        return found

    monkeypatch.setattr(LoadedRelease, "__init__", counted)
    monkeypatch.setattr(answering, "answer_texts", watched)
    threads = ("--runner", "FnApiRunner", "--direct_running_mode", "multi_threading")
    flags = ("--temperature", "0.9", "--seed", "4", *threads)
    generate(tmp_path / "out", *flags, workers=3)
    assert shards(tmp_path / "out") == shards(finished)
    assert len(loads) == 1 and most == [1, 1, 1]


def kill_at(command: list[str], moment: Callable[[], bool]) -> int:
    """Starts a job and kills it, and its workers, as soon as `moment` has come.

    Returns the exit status: the job may have ended before that.
    """
    job = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    while job.poll() is None and not moment():
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(job.pid, signal.SIGKILL)
    return job.wait()


def job_of(models: Path, prompts: Path, output: Path, workers: int) -> list[str]:
    words = ["--model", str(models), "--input", str(prompts), "--output", str(output)]
    words += ["--max_new_tokens", "6", "--temperature", "0.9", "--seed", "4"]
    module = "pipelines.batch_generate"
    return [sys.executable, "-m", module, *words, "--workers", str(workers)]


def test_a_job_killed_at_three_moments_ends_with_the_same_answers(
    generate, models, prompts, finished, tmp_path
):
    output = tmp_path / "out"
    command = job_of(models, prompts, output, 1)
    for pattern in ("job.json", ".work/chunk-00001", "generations-*"):
        assert kill_at(command, lambda p=pattern: any(output.glob(p))) == -9
    generate(output, "--temperature", "0.9", "--seed", "4")
    assert shards(output) == shards(finished)
    assert not any(name.startswith(".") for name in os.listdir(output))


@pytest.mark.drill
@pytest.mark.parametrize("workers", [1, 3])
def test_a_job_killed_at_twenty_moments_ends_with_the_same_answers(
    models, prompts, finished, tmp_path, workers
):
    output, chooser, statuses = tmp_path / "out", random.Random(workers), []
    command = job_of(models, prompts, output, workers)
    while len(statuses) < 20:
        end = time.monotonic() + chooser.uniform(0.2, 14)
        statuses.append(kill_at(command, lambda end=end: time.monotonic() > end))
        for name, data in shards(output).items():
            assert data == shards(finished)[name]
        if statuses[-1] == 0:  # done: another one begins
            assert shards(output) == shards(finished)
            shutil.rmtree(output)
    assert statuses.count(-9) > 10
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert shards(output) == shards(finished)


@pytest.mark.drill
def test_memory_does_not_grow_with_the_number_of_prompts(models, tmp_path):
    """The peak of a job of 10,000 prompts is the same in its second half."""
    lines = (json.dumps({"text": "the river " * (i % 9)}) for i in range(10_000))
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    output = tmp_path / "out"
    command = job_of(models, tmp_path / "in.jsonl", output, 1)
    job, halves = subprocess.Popen(command, stderr=subprocess.DEVNULL), [[], []]
    while job.poll() is None:
        done = len(list(output.glob("generations-*")))
        status = Path(f"/proc/{job.pid}/status").read_text()
        resident = re.search(r"VmRSS:\s+(\d+) kB", status)
        if resident and done > 2:
            halves[done > 20].append(int(resident[1]) / 1024)
        time.sleep(0.05)
    assert job.returncode == 0 and len(shards(output)) == 40
    first, second = (max(half) for half in halves)
    print(f"peak of the first half {first:.0f} MB, of the second {second:.0f} MB")
    assert second < first + 30  # MB; prompts and answers are 2 MB together
