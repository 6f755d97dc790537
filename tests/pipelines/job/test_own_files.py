# SPDX-License-Identifier: Apache-2.0
"""What Quern writes or reads as something else is no document, whatever matches it."""

import os
import shutil
from pathlib import Path

import pytest

from pipelines import train_tokenizer
from pipelines.job.own_files import without_own
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError, WorkError
from tests.pipelines.prepared import fingerprint, prepare


def write(path: Path, text: str = '{"text": "some words"}\n') -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def kept(pattern: Path, output: Path | None = None, *besides: Path) -> list[str]:
    files = storage.expand([str(pattern)])
    left = without_own(files, output and str(output), [str(each) for each in besides])
    return [file.relative for file in left]


OURS = {
    "dataset/manifest.json": (
        '{"schema_version": 9, "config": {}, "counts": {}, "splits": {}}'
    ),
    "unfinished/_work/job.json": "{}",
    "under way/.claim.json": "{}",
    "release/3/assets/lineage.json": "{}",
}


@pytest.mark.parametrize("mark", OURS)
def test_what_carries_a_mark_of_ours_is_no_input(
    mark: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a.jsonl")
    home = tmp_path / mark.split("/")[0]
    write(tmp_path / mark, OURS[mark])
    deep = write((tmp_path / mark).parent / "rejects" / "x.jsonl")
    assert kept(tmp_path / "**" / "*.jsonl") == ["a.jsonl"]
    assert f"not read: 1 file of {home}" in capsys.readouterr().err
    with pytest.raises(UsageError, match="a directory that Quern wrote"):
        kept(deep)
    with pytest.raises(UsageError, match="a directory that Quern wrote"):
        kept(deep.parent / "*")


def test_files_of_others_stay_though_they_are_called_as_ours(tmp_path: Path) -> None:
    for text in ('{"name": "app", "config": {}}', "[]", "not JSON", ""):
        write(tmp_path / "manifest.json", text)
        write(tmp_path / "job.json", "{}")
        assert kept(tmp_path / "**" / "*") == ["job.json", "manifest.json"]


def test_what_lies_below_the_output_is_no_input_however_it_is_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jsonl", "out/b.jsonl", "out/deep/c.jsonl", "output/d.jsonl"):
        write(tmp_path / name)
    (tmp_path / "link").symlink_to("out")
    monkeypatch.chdir(tmp_path)
    for output in ("out", "./out/", "link", f"{tmp_path}/out", "output/../out"):
        files = without_own(storage.expand(["**/*.jsonl"]), output)
        assert [file.relative for file in files] == ["a.jsonl", "output/d.jsonl"]
    with pytest.raises(UsageError, match="an output apart from them"):
        without_own(storage.expand(["out/*"]), "out")
    assert len(without_own(storage.expand(["**/*.jsonl"]), "elsewhere")) == 4


def test_what_the_command_reads_as_something_else_is_no_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a.txt")
    listed = write(tmp_path / "block.txt")
    os.link(listed, tmp_path / "also.txt")
    assert kept(tmp_path / "*.txt", None, listed, tmp_path / "absent") == ["a.txt"]
    assert "reads as something else" in capsys.readouterr().err


@pytest.mark.slow
def test_the_same_command_goes_on_though_its_output_lies_inside_its_input(
    corpus: Path, tokenizer_file: Path, dataset: Path, tmp_path: Path
) -> None:
    inside = Path(shutil.copytree(corpus, tmp_path / "in"))
    with pytest.raises(WorkError, match="rejected"):
        prepare(inside, tokenizer_file, inside / "1", "--max_reject_fraction", "0")
    tokenizer = shutil.copy(tokenizer_file, inside / "tokenizer.json")
    lenient = ("--max_reject_fraction", "0.5")
    for name in ("1", "2", "1"):
        output = prepare(inside, Path(tokenizer), inside / name, *lenient)
        assert fingerprint(output) == fingerprint(dataset)
    for source, name in ((corpus, "a"), (inside, "b")):
        words = ["--input", f"{source}/**/*.jsonl", "--vocab_size", "400"]
        train_tokenizer.main([*words, "--output", str(tmp_path / name)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
