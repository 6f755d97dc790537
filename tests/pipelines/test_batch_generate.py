# SPDX-License-Identifier: Apache-2.0
"""The job as a user runs it, over a small untrained release."""

import json
import os
import shutil

import boto3
import pyarrow.parquet as pq
import pytest
from cloudpathlib import S3Client
from moto.server import ThreadedMotoServer
from tensorflow.core.protobuf import saved_model_pb2

from pipelines import batch_generate
from preprocessing.claims.claims import CLAIM_NAME, Held, claimed
from preprocessing.contracts.releases import SAVED_MODEL_NAME, copy_tree
from preprocessing.contracts.tf_records import decode_example, read_frames
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from tests.pipelines.generated import COUNT, SEEDED, answers, shards

pytestmark = pytest.mark.slow


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
    assert first.startswith("not JSON: ") and first.endswith("at prompts[1].jsonl:11")
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
    generate(finished, *SEEDED)
    assert "already complete" in capsys.readouterr().out
    assert os.stat(finished).st_mtime_ns == before


@pytest.mark.parametrize("name", ["parquet", "tfrecord"])
def test_other_formats_hold_the_same_answers(generate, finished, tmp_path, name):
    flags = (*SEEDED, "--output_format", name)
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


def test_a_complete_job_is_not_done_again(generate, finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.iterdir()}
    generate(finished, *SEEDED)
    assert "already complete: 70 prompts" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in finished.iterdir()}


def test_another_job_in_the_same_place_is_refused(generate, finished, tmp_path):
    with pytest.raises(UsageError, match="another generation"):
        generate(finished, "--temperature", "0.9", "--seed", "5")
    with pytest.raises(UsageError, match="another threads"):
        generate(finished, *SEEDED, "--threads", "7")
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


def test_a_release_that_cannot_answer_is_refused_before_anything_is_written(
    generate, models, tmp_path
):
    older = shutil.copytree(models / "1", tmp_path / "older" / "1")
    graph = older / SAVED_MODEL_NAME
    told = saved_model_pb2.SavedModel.FromString(graph.read_bytes())
    inputs = told.meta_graphs[0].signature_def["decode"].inputs
    inputs["token"].CopyFrom(inputs.pop("token_ids"))
    renamed = told.SerializeToString()
    del told.meta_graphs[0].signature_def["decode"]
    for data, message in (
        (renamed, "found no decode with all its inputs: it is of an older Quern"),
        (told.SerializeToString(), "found no decode with all its inputs"),
        (b"not one", f"wanted a SavedModel in {graph}, found something else"),
    ):
        graph.write_bytes(data)
        with pytest.raises(UsageError, match=message):
            generate(tmp_path / "out", "--model", str(older.parent))
    assert not (tmp_path / "out").exists()


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
    generate(f"{bucket}/out", *SEEDED, *words)
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
