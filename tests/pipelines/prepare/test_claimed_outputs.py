# SPDX-License-Identifier: Apache-2.0
"""One job at a time writes an output; a second one never advises to remove it."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from pipelines import inspect_dataset, prepare_corpus, train_tokenizer
from pipelines.job.plan import Job, PrepareConfig, TokenizerConfig
from pipelines.job.steps import finished, read_record, write_record
from preprocessing.claims.claims import CLAIM_NAME, Held, claimed
from preprocessing.foundation.commands import WorkError
from tests.pipelines.prepare.test_drills import LENIENT, start, wait_for_work
from tests.pipelines.prepared import SMALL, arguments, fingerprint


@pytest.mark.slow
def test_a_second_job_is_refused_while_the_first_lives_and_then_goes_on(
    corpus: Path, tokenizer_file: Path, dataset: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    first = start(corpus, tokenizer_file, output, *LENIENT)
    wait_for_work(first, output)
    first.send_signal(signal.SIGSTOP)  # it lives on, and does not finish meanwhile
    since = json.loads((output / CLAIM_NAME).read_text())["since"]
    for more in (LENIENT, (*LENIENT, "--seed", "7")):  # another job is none the wiser
        flags = arguments(corpus, tokenizer_file, output, *more)
        said = rf"in use by process {first.pid} on \S+, since {since}"
        with pytest.raises(Held, match=said) as refused:
            prepare_corpus.main(flags, SMALL)
        assert "emove" not in str(refused.value)
    first.send_signal(signal.SIGCONT)
    first.communicate()
    assert first.returncode == 0
    assert fingerprint(output) == fingerprint(dataset)
    assert not [name for name in os.listdir(output) if name[0] == "."]


@pytest.mark.slow
def test_a_job_whose_claim_is_another_s_publishes_nothing_more(
    corpus: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    job = start(corpus, tokenizer_file, output, *LENIENT)
    wait_for_work(job, output)
    job.send_signal(signal.SIGSTOP)
    (output / CLAIM_NAME).unlink()
    with claimed(str(output), "it") as other:
        job.send_signal(signal.SIGCONT)
        _, errors = job.communicate()
        assert job.returncode == 1
        said = errors.splitlines()[-1]
        assert said.startswith(f"error: wanted our claim on --output {output}, found")
        assert not (output / "manifest.json").exists()
        assert (output / "_work" / "job.json").exists()
        other.check()


@pytest.mark.slow
def test_a_finished_dataset_is_read_where_nothing_can_be_written(
    corpus: Path, tokenizer_file: Path, dataset: Path, capsys
) -> None:
    flags = arguments(corpus, tokenizer_file, dataset, *LENIENT)
    before = sorted(os.listdir(dataset)), os.stat(dataset).st_mtime_ns
    prepare_corpus.main(flags, SMALL)
    assert "already the finished dataset" in capsys.readouterr().out
    assert (sorted(os.listdir(dataset)), os.stat(dataset).st_mtime_ns) == before


def test_the_claim_of_a_job_killed_at_its_very_end_is_no_part_of_the_dataset(
    corpus: Path, tokenizer_file: Path, dataset: Path, tmp_path: Path, capsys
) -> None:
    output = tmp_path / "out"
    shutil.copytree(dataset, output)
    left = {"host": "vm", "process": 1, "start": 1, "kernel": "x", "token": "ab"}
    (output / CLAIM_NAME).write_text(json.dumps(left))
    inspect_dataset.main(["verify", str(output)])


def test_a_step_looks_whose_the_output_is_before_it_begins_and_publishes(
    tmp_path: Path,
) -> None:
    config = PrepareConfig(TokenizerConfig("0", 300, None, 1, 2))
    output = tmp_path / "out"
    with claimed(str(output), "it") as claim:
        job = Job(str(output), config, 1, "files", claim=claim.token)
        (output / "_work" / "kind").mkdir(parents=True)
        write_record(job, "kind", 0, {"files": []})
        assert finished(job, "kind", 0) is not None
        (output / CLAIM_NAME).write_text(json.dumps({"token": "other"}))
        with pytest.raises(WorkError, match="taken over"):
            finished(job, "kind", 0)
        with pytest.raises(WorkError, match="taken over"):
            write_record(job, "kind", 1, {"files": []})
        assert read_record(job, "kind", 1) is None


def test_a_tokenizer_that_another_trains_is_not_trained_twice(
    corpus: Path, tmp_path: Path
) -> None:
    output = tmp_path / "made" / "tokenizer.json"
    flags = ["--input", f"{corpus}/*.jsonl", "--output", str(output)]
    flags += ["--vocab_size", "300"]
    with (
        claimed(str(output.parent), "it", f".{output.name}{CLAIM_NAME}"),
        pytest.raises(Held, match=f"in use by process {os.getpid()}"),
    ):
        train_tokenizer.main(flags)
    train_tokenizer.main(flags)
    assert os.listdir(output.parent) == [output.name]
