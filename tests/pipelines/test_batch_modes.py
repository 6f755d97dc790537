# SPDX-License-Identifier: Apache-2.0
"""Scores, vectors and servers as a user asks for them, over a small release."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import batch_generate
from preprocessing.foundation.commands import UsageError, WorkError
from tests.pipelines.generation.model_servers import serving, tensorflow_serving
from trainer import check_release
from trainer.serving.loaded_release import LoadedRelease

pytestmark = pytest.mark.slow

COUNT = 70  # three shards


@pytest.fixture(scope="module")
def release(models) -> Path:
    return models / "1"


@pytest.fixture(scope="module")
def loaded(release) -> LoadedRelease:
    return LoadedRelease(str(release), 2)


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    """Documents and pairs of all lengths, and one of each kind of bad one."""
    lines = [{"id": i, "text": "the river " * (i % 9) + "é"} for i in range(COUNT)]
    for i in range(0, COUNT, 2):
        behind = " there was" * (i % 13)
        lines[i] = {"id": i, "prompt": "a b " * (i % 7), "continuation": behind}
    lines[10]["continuation"] = 3
    lines[41]["text"] = None
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def run(output: Path, release: Path, texts: Path, *flags: str) -> list[dict]:
    words = ["--model", str(release), "--input", str(texts), "--output", str(output)]
    batch_generate.main([*words, "--batch_size", "8", "--workers", "1", *flags])
    return answers(output)


def answers(output: Path) -> list[dict]:
    shards = sorted(output.glob("*.jsonl"))
    return [json.loads(x) for shard in shards for x in shard.read_text().splitlines()]


def data(output: Path) -> list[bytes]:
    return [shard.read_bytes() for shard in sorted(output.glob("*.jsonl"))]


@pytest.mark.parametrize("mode", ["score", "embed"])
def test_modes_answer_every_record_once_in_order(
    mode, release, texts, loaded, tmp_path
):
    found = run(tmp_path / "one", release, texts, "--mode", mode)
    assert [line["id"] for line in found] == list(range(COUNT))
    bad = [i for i, line in enumerate(found) if "error" in line]
    # Where nothing follows, what does is not looked at.
    assert bad == ([10, 41] if mode == "score" else [41])
    records = [json.loads(line) for line in texts.read_text().splitlines()]
    for i in (0, 1, 2, 12, 69):
        text = records[i].get("prompt", records[i].get("text"))
        if mode == "embed":
            wanted = loaded.embed([text], "mean")[0]
            wanted["embedding"] = pytest.approx(wanted["embedding"], abs=1e-4)
        elif i % 2:
            wanted = loaded.score([text])[0]
        else:
            pair = text, records[i]["continuation"]
            wanted = loaded.score_continuations([pair])[0]
        if mode == "score":
            wanted["log_likelihood"] = pytest.approx(wanted["log_likelihood"], rel=1e-4)
        assert found[i] == {"id": i, **wanted} | (
            {"shortened": True} if "shortened" in found[i] else {}
        )


@pytest.mark.drill
@pytest.mark.parametrize("mode", ["score", "embed"])
def test_modes_give_the_same_bytes_from_any_number_of_workers(
    mode, release, texts, tmp_path
):
    for workers in ("1", "3"):
        flags = ("--mode", mode, "--threads", "1", "--workers", workers)
        run(tmp_path / workers, release, texts, *flags)
    assert data(tmp_path / "1") == data(tmp_path / "3")


@pytest.fixture
def served(loaded):
    """The release behind a stand-in for TensorFlow Serving."""

    def compute(signature, columns):
        found = loaded.answer(signature, columns)
        return {name: value.numpy().tolist() for name, value in found.items()}

    with serving(tensorflow_serving(compute)) as (server, asked):
        yield f"{server}/v1/models/quern", asked


def test_a_served_release_is_checked_as_one_in_a_directory_is(release, served, capsys):
    url, _ = served
    check_release.main([str(release), "--server", url])
    printed = capsys.readouterr().out
    assert "answers 31 of 31 requests as the trainer did" in printed
    assert re.search(r"encodes \d+ texts as `tokenizers` does", printed)
    with pytest.raises(WorkError, match="any versions of model"):
        check_release.main([str(release), "--server", f"{url}s"])


def test_a_server_of_the_same_release_gives_the_same_answers(
    release, texts, served, tmp_path
):
    flags = ("--max_new_tokens", "6", "--temperature", "0.9", "--seed", "4")
    run(tmp_path / "local", release, texts, *flags)
    url, asked = served
    words = ["--input", str(texts), "--batch_size", "8", "--remote", url, *flags]
    # As a user's machine without TensorFlow, and with two workers.
    code = (
        "import sys; sys.modules['tensorflow'] = None; "
        "from pipelines.batch_generate import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, *words, "--output", str(tmp_path / "far")]
    subprocess.run(command, check=True, env={**os.environ, "OPENAI_API_KEY": "secret"})
    assert data(tmp_path / "far") == data(tmp_path / "local")
    job = json.loads((tmp_path / "far" / "job.json").read_text())
    assert job["lineage_sha256"] is None and "secret" not in json.dumps(job)
    assert job["remote"]["url"] == f"{url}/versions/1"
    assert not any("Authorization" in headers for headers in asked.headers)
    with serving(tensorflow_serving(None)) as (other, _):
        words[words.index(url)] = f"{other}/v1/models/quern"
        with pytest.raises(UsageError, match="another remote"):
            batch_generate.main([*words, "--output", str(tmp_path / "far")])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--mode", "score", "--temperature", "1"],
            "--temperature, which is of --mode",
        ),
        (["--mode", "embed", "--continuation_field", "x"], "with --mode score"),
        (["--pooling", "last"], "with --mode embed"),
        (["--remote", "nowhere"], "wanted --remote http"),
        (["--remote", "http://h/v1", "--concurrency", "0"], "--concurrency of 1"),
        (["--remote", "http://h/v1", "--request_seconds", "0"], "--request_seconds"),
        (["--mode", "scores"], "--mode"),
    ],
)
def test_what_is_wrong_with_the_flags_is_said_before_work(
    flags, message, release, texts, tmp_path
):
    with pytest.raises(UsageError, match=message):
        run(tmp_path / "out", release, texts, *flags)
    assert not (tmp_path / "out").exists()
