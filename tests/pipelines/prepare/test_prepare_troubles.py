# SPDX-License-Identifier: Apache-2.0
"""What a preparation answers to bad input and flags, a full disk, a taken output."""

import errno
import itertools
import json
import os
import shutil
import signal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipelines import prepare_corpus
from pipelines.job import shuffle
from pipelines.prepare import pack_shard, provenance
from preprocessing.contracts.manifest import read_manifest
from preprocessing.foundation.commands import Interrupted, UsageError, WorkError
from tests.pipelines.prepared import (
    CURATED,
    fingerprint,
    prepare,
)

pytestmark = pytest.mark.slow

LENIENT = ("--max_reject_fraction", "0.5")


def refused(
    tmp_path: Path, tokenizer_file: Path, kind: type[Exception], *more: str
) -> str:
    """Runs the job over `tmp_path`/in and returns the complaint it must make."""
    with pytest.raises(kind) as caught:
        prepare(tmp_path / "in", tokenizer_file, tmp_path / "out", "--workers=1", *more)
    assert not (tmp_path / "out" / "manifest.json").exists()
    return str(caught.value)


def test_missing_and_empty_input_is_refused_before_work_starts(
    tokenizer_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    assert "found none" in refused(tmp_path, tokenizer_file, UsageError)
    (tmp_path / "in" / "empty.jsonl").touch()
    assert "1 empty file" in refused(tmp_path, tokenizer_file, UsageError)
    assert not (tmp_path / "out").exists()


def test_input_of_blank_lines_holds_no_documents(
    tokenizer_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "blank.jsonl").write_text("\n\n  \n")
    assert "found none" in refused(tmp_path, tokenizer_file, UsageError)


def test_too_many_rejects_stop_the_job_with_reasons_and_an_example(
    tokenizer_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text('{"text": "fine"}\n{"txt": "typo"}\n')
    message = refused(tmp_path, tokenizer_file, WorkError)
    assert "missing_field 1" in message and "a.jsonl at offset 17" in message


def test_duplicates_do_not_count_as_lost_input(
    tokenizer_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text('{"text": "same"}\n' * 50)
    output = prepare(
        tmp_path / "in", tokenizer_file, tmp_path / "out", "--workers", "1"
    )
    counts = read_manifest(str(output)).counts
    assert (counts.read, counts.kept, counts.rejected) == (50, 1, {"duplicate": 49})


def test_a_huge_line_and_a_truncated_file_are_counted_rejects(
    corpus: Path,
    tokenizer_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "in").mkdir()
    huge = b'{"text": "' + b"x " * 1_000_000 + b'"}\n'
    (tmp_path / "in" / "a.jsonl").write_bytes(b'{"text": "ok"}\n' + huge)
    whole = (corpus / "deep" / "b.jsonl.gz").read_bytes()
    (tmp_path / "in" / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    flags = ("--workers", "1", "--max_document_bytes", "1000000", *LENIENT)
    flags += ("--max_unread_fraction", "1")
    output = prepare(tmp_path / "in", tokenizer_file, tmp_path / "out", *flags)
    rejected = read_manifest(str(output)).counts.rejected
    assert rejected["too_large"] == 1 and rejected["truncated_input"] == 1
    assert "not read to its end: cut.jsonl.gz" in capsys.readouterr().out


def test_a_tokenizer_that_cannot_be_exported_is_named_before_the_work(
    tokenizer_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text('{"text": "one"}\n')
    tree = json.loads(tokenizer_file.read_text())
    named = tmp_path / "tokenizer.json"
    named.write_text(json.dumps({**tree, "normalizer": {"type": "NFKC"}}))
    for file, told in [(tokenizer_file, False), (named, True)]:
        prepare(tmp_path / "in", file, tmp_path / f"out{told}", "--workers", "1")
        printed = capsys.readouterr().out
        assert ("quern-export will refuse" in printed) == told
        assert ("its normaliser NFKC" in printed.partition("documents:")[0]) == told


def test_what_files_beside_a_tokenizer_name_is_told_and_taken(
    tokenizer_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text('{"text": "one"}\n')
    named = tmp_path / "tokenizer.json"
    named.write_bytes(tokenizer_file.read_bytes().replace(b"<|eos|>", b"<|im_end|>"))
    beside = json.dumps({"eos_token": "<|im_end|>", "bos_token": "<|bos|>"})
    (tmp_path / "tokenizer_config.json").write_text(beside)
    prepare(tmp_path / "in", named, tmp_path / "out", "--workers", "1")
    told = "begins with <|bos|> and ends with <|im_end|>, as "
    assert told in capsys.readouterr().out
    assert read_manifest(str(tmp_path / "out")).eos_id == 1


def test_flags_out_of_range_are_refused(
    corpus: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    shutil.copytree(corpus, tmp_path / "in")
    for flags, complaint in [
        (("--sequence_length", "2"), "between 8 and"),
        (("--validation_fraction", "1"), "below 1"),
        (("--max_reject_fraction", "5"), "between 0 and 1"),
        (("--sequence_lenght", "64"), "Did you mean --sequence_length?"),
        (("--runner", "DirectRunner"), "--runner local"),
        (("--tokenizer", str(tmp_path / "no.json")), "no such file"),
        (("--eos_token", "</s>"), "</s>"),
    ]:
        assert complaint in refused(tmp_path, tokenizer_file, UsageError, *flags)


def test_an_occupied_output_is_refused_and_a_finished_one_says_so(
    corpus: Path,
    tokenizer_file: Path,
    dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = fingerprint(dataset)
    prepare(corpus, tokenizer_file, dataset, *LENIENT, "--workers", "1")
    assert "already the finished dataset" in capsys.readouterr().out
    with pytest.raises(UsageError, match="seed 0 then, 3 now"):
        prepare(corpus, tokenizer_file, dataset, "--seed", "3")
    assert fingerprint(dataset) == before
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.doc").touch()
    with pytest.raises(UsageError, match="holds thesis"):
        prepare(corpus, tokenizer_file, tmp_path / "taken")


def test_an_output_that_cannot_be_written_is_refused(
    corpus: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="wanted to write"):
        prepare(corpus, tokenizer_file, tmp_path / "file" / "out")


def test_a_full_disk_fails_the_job_and_leaves_nothing_that_looks_complete(
    corpus: Path,
    tokenizer_file: Path,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    output = tmp_path / "out"
    flags = (*LENIENT, "--workers", "1")
    with monkeypatch.context() as patch:
        patch.setattr(pack_shard, "write_shard", full)
        with pytest.raises(WorkError, match="disk is full"):
            prepare(corpus, tokenizer_file, output, *flags)
    assert not (output / "manifest.json").exists()
    assert not list(output.glob("*.tfrecord"))
    leftovers = [
        output / f".train-00000-of-00001.tfrecord.{'0' * 32}.tmp",
        output / "rejects" / f".duplicate-00000.jsonl.{'0' * 32}.tmp",
    ]
    for leftover in leftovers:
        leftover.touch()  # as a writer that was killed leaves it
    assert prepare(corpus, tokenizer_file, output, *flags) == output
    assert fingerprint(output) == fingerprint(dataset)
    assert not any(leftover.exists() for leftover in leftovers)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (shuffle.storage, "atomic_file"),
        (provenance.pq, "ParquetWriter"),
    ],
)
def test_a_disk_that_fills_up_on_the_way_is_gone_on_from(
    corpus: Path,
    tokenizer_file: Path,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    name: str,
) -> None:
    output, works = tmp_path / "out", getattr(module, name)

    def full(*args: Any, **flags: Any) -> Any:
        # Of all files that are published atomically, only those of the shuffle fail.
        if name == "atomic_file" and "/shuffle/" not in args[0]:
            return works(*args, **flags)
        raise OSError(errno.ENOSPC, "No space left on device")

    flags = (*LENIENT, "--workers", "1")
    with monkeypatch.context() as patch:
        patch.setattr(module, name, full)
        with pytest.raises(WorkError, match="disk is full"):
            prepare(corpus, tokenizer_file, output, *flags)
    assert not (output / "manifest.json").exists()
    prepare(corpus, tokenizer_file, output, *flags)
    assert fingerprint(output) == fingerprint(dataset)


def test_a_disk_that_fills_up_in_every_stage_is_gone_on_from_each_time(
    curated_corpus: Path,
    tokenizer_file: Path,
    curated: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rules, lines and near duplicates; the disk is full 20 files later each time."""
    output, works = tmp_path / "out", shuffle.storage.atomic_file
    flags, stages = (*CURATED, "--workers", "1"), set()

    def full_after(most: int) -> Any:
        files = iter(range(most))

        def atomic_file(path: str, *more: Any) -> Any:
            if next(files, None) is None:
                stages.add(Path(path).parent.name)
                raise OSError(errno.ENOSPC, "No space left on device")
            return works(path, *more)

        return atomic_file

    for most in itertools.count(20, 20):
        with monkeypatch.context() as patch:
            # The first files are the plan and the tokenizer, before the work starts.
            patch.setattr(shuffle.storage, "atomic_file", full_after(most))
            try:
                prepare(curated_corpus, tokenizer_file, output, *flags)
                break
            except WorkError as error:
                assert "disk is full" in str(error)
                assert not (output / "manifest.json").exists()
    assert len(stages) > 3
    assert fingerprint(output) == fingerprint(curated)


@pytest.mark.parametrize("moment", ["asked_for", "run_pipeline", "collect", "_publish"])
def test_a_job_asked_to_stop_outside_its_graph_is_gone_on_with(
    corpus: Path,
    tokenizer_file: Path,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    def stop(*args: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    flags = (*LENIENT, "--workers", "1")
    with monkeypatch.context() as patch:
        patch.setattr(prepare_corpus, moment, stop)
        with pytest.raises(Interrupted, match="stopped on SIGTERM"):
            prepare(corpus, tokenizer_file, tmp_path / "out", *flags)
    assert not (tmp_path / "out" / "manifest.json").exists()
    output = prepare(corpus, tokenizer_file, tmp_path / "out", *flags)
    assert fingerprint(output) == fingerprint(dataset)


def test_unfinished_work_is_gone_on_with_but_never_under_another_plan(
    corpus: Path,
    tokenizer_file: Path,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = Path(shutil.copytree(corpus, tmp_path / "in"))
    output = tmp_path / "out"
    flags = (*LENIENT, "--workers", "1")

    def stop(*args: object) -> None:
        raise WorkError("stopped here")

    with monkeypatch.context() as patch:
        patch.setattr(pack_shard, "_keep_provenance", stop)
        with pytest.raises(WorkError, match="stopped here"):
            prepare(source, tokenizer_file, output, *flags)
    with pytest.raises(UsageError, match="seed 0 then, 5 now"):
        prepare(source, tokenizer_file, output, *flags, "--seed", "5")
    original, stat = (source / "a.jsonl").read_bytes(), (source / "a.jsonl").stat()
    (source / "a.jsonl").write_bytes(original + b'{"text": "more"}\n')
    with pytest.raises(UsageError, match=r"input a\.jsonl: \d+ bytes then"):
        prepare(source, tokenizer_file, output, *flags)
    (source / "a.jsonl").write_bytes(original)
    with pytest.raises(UsageError, match=r"input a\.jsonl was changed since then"):
        prepare(source, tokenizer_file, output, *flags)
    os.utime(source / "a.jsonl", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    capsys.readouterr()
    prepare(source, tokenizer_file, output, *flags)
    assert "tasks are done" in capsys.readouterr().out
    assert fingerprint(output) == fingerprint(dataset)
