# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import pytest

from pipelines.train_tokenizer import main
from preprocessing.foundation.commands import UsageError
from preprocessing.tokenizer.tokenizer import Tokenizer
from tests.scripts_corpus import documents


def write_corpus(path: Path, texts: list[str]) -> str:
    path.mkdir()
    half = len(texts) // 2
    for name, part in (("a.jsonl", texts[:half]), ("b.jsonl", texts[half:])):
        lines = [json.dumps({"text": text}) + "\n" for text in part]
        (path / name).write_text("".join(lines))
    return str(path / "*.jsonl")


def run(source: str, output: Path, *more: str) -> bytes:
    flags = ["--input", source, "--output", str(output), "--vocab_size", "500"]
    main([*flags, *more])
    return output.read_bytes()


def test_the_command_writes_a_tokenizer_that_knows_the_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_corpus(tmp_path / "corpus", documents(seed=1, count=40))
    run(source, tmp_path / "new" / "tokenizer.json")
    tokenizer = Tokenizer.load(str(tmp_path / "new" / "tokenizer.json"))
    assert tokenizer.vocab_size == 500
    assert "500 entries" in capsys.readouterr().out
    text = documents(seed=1, count=40)[0]
    ids, _ = tokenizer.encode_batch([text])
    assert len(ids) < 0.7 * len(text.encode())


def test_the_same_input_gives_the_same_bytes_wherever_it_lies(tmp_path: Path) -> None:
    texts = documents(seed=2, count=60)
    for name in ("one", "two"):
        source = write_corpus(tmp_path / name, texts)
        run(source, tmp_path / f"{name}.json", "--sample_bytes", "8000")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_the_seed_chooses_the_sample(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "corpus", documents(seed=3, count=60))
    few = ("--sample_bytes", "3000")
    first = run(source, tmp_path / "0.json", *few, "--seed", "0")
    assert run(source, tmp_path / "1.json", *few, "--seed", "1") != first


def test_a_bad_line_is_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "some words here"}\n{"text": \n{"text": "and there"}\n')
    run(str(path), tmp_path / "tokenizer.json")
    out = capsys.readouterr().out
    assert "left out 1 malformed_json" in out
    assert "on 2 documents" in out
    assert "wanted 500 entries" in out


def test_an_occupied_output_is_refused_and_kept(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "corpus", ["a", "b"])
    output = tmp_path / "tokenizer.json"
    output.write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        run(source, output)
    assert output.read_text() == "mine"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--vocab_size", "100"), "259 or more"),
        (("--sample_bytes", "0"), "sample_bytes of 1 or more"),
        (("--text_field", "body"), "rejected: 2 missing_field"),
        (("--vocab_sise", "300"), "Did you mean --vocab_size"),
    ],
)
def test_what_is_known_before_work_is_refused_and_nothing_written(
    flags: tuple[str, str], message: str, tmp_path: Path
) -> None:
    source = write_corpus(tmp_path / "corpus", ["a", "b"])
    with pytest.raises(UsageError, match=message):
        run(source, tmp_path / "tokenizer.json", *flags)
    assert not (tmp_path / "tokenizer.json").exists()


def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    source = write_corpus(tmp_path / "corpus", ["a", "b"])
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be made"):
        run(source, tmp_path / "file" / "tokenizer.json")
