# SPDX-License-Identifier: Apache-2.0
"""Damage to a dataset or to unfinished work is found and named, never built upon."""

import functools
import hashlib
import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines import inspect_dataset, prepare_corpus
from pipelines.duplicates import line_duplicates
from pipelines.prepare.results import Results
from preprocessing.foundation.commands import UsageError, WorkError, run
from tests.pipelines.prepared import (
    CURATED,
    SMALL,
    arguments,
    fingerprint,
    prepare,
)

pytestmark = pytest.mark.slow

FLAGS = (*CURATED, "--near_jaccard", "0.7", "--workers", "1")
Damage = Callable[[Path], object]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES: list[Damage] = [flip, shorten, Path.unlink]
KINDS = ("train-*", "validation-*", "provenance-*", "rejects/*", "tokenizer.json")


@pytest.fixture(scope="module")
def pairs(tokenizer_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of an encoder and a decoder, and one reject."""
    directory = tmp_path_factory.mktemp("pairs") / "in"
    directory.mkdir()
    lines = [json.dumps({"text": f"the cat {n}", "target": "sat"}) for n in range(50)]
    (directory / "a.jsonl").write_text("\n".join([*lines, lines[0]]))
    flags = ("--objective", "pairs", "--workers", "1")
    return prepare(directory, tokenizer_file, directory.parent / "out", *flags)


@pytest.fixture(scope="module")
def mixed(corpus: Path, tokenizer_file: Path, tmp_path_factory) -> Path:
    """A mixture that leaves some rows out and repeats others."""
    directory = tmp_path_factory.mktemp("mixed")
    (directory / "mixture.toml").write_text(
        f'[sources.deep]\ninput = "{corpus}/deep/*"\nweight = 1\nepochs = 2\n'
        f'[sources.top]\ninput = "{corpus}/*.jsonl"\nweight = 1\n'
    )
    prepare_corpus.main(
        [
            *("--mixture", str(directory / "mixture.toml"), "--workers", "1"),
            *("--tokenizer", str(tokenizer_file), "--sequence_length", "64"),
            *("--output", str(directory / "out"), "--max_reject_fraction", "0.5"),
        ],
        SMALL,
    )
    return directory / "out"


@pytest.mark.parametrize("kind", ["dataset", "pairs", "mixed"])
def test_whatever_happens_to_a_file_of_a_dataset_verify_names_the_file(
    kind: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(request.getfixturevalue(kind), copy)
    inspect_dataset.main(["verify", str(copy)])
    assert "is whole" in capsys.readouterr().out
    for pattern in KINDS:
        part = max(copy.glob(pattern), key=lambda path: path.stat().st_size)
        whole = part.read_bytes()
        for damage in DAMAGES:
            damage(part)
            with pytest.raises(WorkError, match=part.name):
                inspect_dataset.main(["verify", str(copy)])
            part.write_bytes(whole)
    inspect_dataset.main(["verify", str(copy)])


def test_no_byte_of_a_dataset_can_change_unnoticed(
    dataset: Path, tmp_path: Path
) -> None:
    """Of the small files every 13th byte is tried, of the others every 613th."""
    copy = Path(shutil.copytree(dataset, tmp_path / "copy"))
    for name in ("manifest.json", "SHA256SUMS", "rejects/*0.jsonl", "provenance-*"):
        part = min(copy.glob(name))
        whole = part.read_bytes()
        step = 13 if part.name == "manifest.json" else 613
        for place in range(len(name) % step, len(whole), step):
            part.write_bytes(
                whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
            )
            with pytest.raises((UsageError, WorkError), match=part.name):
                inspect_dataset.main(["verify", str(copy)])
        part.write_bytes(whole)
    inspect_dataset.main(["verify", str(copy)])


def test_the_sums_are_those_that_sha256sum_reads(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (dataset / "SHA256SUMS").read_text().splitlines()
    found = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert found == fingerprint(dataset)
    copy = Path(shutil.copytree(dataset, tmp_path / "copy"))
    (copy / "SHA256SUMS").unlink()
    inspect_dataset.main(["verify", str(copy)])
    assert "no SHA256SUMS" in capsys.readouterr().out


@pytest.fixture(scope="module")
def stopped(curated_corpus: Path, tokenizer_file: Path, tmp_path_factory) -> Path:
    """An output whose steps are all done, by a job that was stopped just then."""
    output = tmp_path_factory.mktemp("stopped") / "out"
    flags = arguments(curated_corpus, tokenizer_file, output, *FLAGS)
    prepare_corpus.prepare(flags, SMALL)
    # What is published when all steps are done.
    for name in ("tokenizer.json", "timings.json", "report.html", "SHA256SUMS"):
        (output / name).unlink()
    (output / "manifest.json").unlink()
    return output


@pytest.fixture(scope="module")
def whole(
    stopped: Path, curated_corpus: Path, tokenizer_file: Path, tmp_path_factory
) -> dict[str, str]:
    """What an undisturbed run writes."""
    output = tmp_path_factory.mktemp("whole") / "out"
    return fingerprint(prepare(curated_corpus, tokenizer_file, output, *FLAGS))


def flip_all(path: Path) -> None:
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


# What a power cut may leave of a file whose name was on the disk before its bytes.
@pytest.mark.parametrize("damage", [flip, Path.unlink, shorten, empty, zero])
def test_a_rerun_makes_again_what_was_damaged_says_so_and_writes_the_same_bytes(
    damage: Damage,
    stopped: Path,
    curated_corpus: Path,
    tokenizer_file: Path,
    whole: dict[str, str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    output = Path(shutil.copytree(stopped, tmp_path / "out"))
    patterns = [
        *("_work/shuffle/lines-*", "_work/shuffle/fingerprints-*"),
        *("_work/shuffle/documents-*", "_work/tasks/*", "_work/shards/*"),
        *("train-*", "provenance-train-*", "rejects/task-*"),
    ]
    damaged = [sorted(output.glob(pattern))[-1] for pattern in patterns]
    for part in damaged:
        damage(part)
    prepare(curated_corpus, tokenizer_file, output, *FLAGS)
    assert fingerprint(output) == whole
    said = capfd.readouterr().err
    # What hangs on a record that is gone as a whole is made again without a look at it.
    assert f"note: wanted {damaged[-2]} as it was written" in said
    assert "_work/shuffle/lines-" in said


# A file that a rerun needs, the records without which it needs it, and the damage.
NEEDED = [
    # Only the shingles of documents that met others are read: all are damaged.
    ("_work/shuffle/shingles-*", "", flip_all),
    ("_work/shuffle/shingles-*", "", Path.unlink),
    ("_work/provenance/train-*", "_work/provenance-records/*", flip),
]


@pytest.mark.parametrize(("pattern", "records", "damage"), NEEDED)
def test_a_rerun_names_what_was_damaged_and_writes_no_dataset(
    pattern: str,
    records: str,
    damage: Damage,
    stopped: Path,
    curated_corpus: Path,
    tokenizer_file: Path,
    tmp_path: Path,
) -> None:
    output = Path(shutil.copytree(stopped, tmp_path / "out"))
    for record in output.glob(records) if records else ():
        record.unlink()
    parts = sorted(output.glob(pattern))
    parts = parts if "shingles" in pattern else parts[:1]
    for part in parts:
        damage(part)
    with pytest.raises(WorkError, match="|".join(part.name for part in parts)):
        prepare(curated_corpus, tokenizer_file, output, *FLAGS)
    assert not (output / "manifest.json").exists()


def test_what_says_whose_the_output_is_is_named_when_it_is_damaged(
    stopped: Path,
    curated_corpus: Path,
    tokenizer_file: Path,
    tmp_path: Path,
) -> None:
    output = Path(shutil.copytree(stopped, tmp_path / "out"))
    record = output / "_work" / "job.json"
    flip(record)
    with pytest.raises(WorkError, match=record.name):
        prepare(curated_corpus, tokenizer_file, output, *FLAGS)
    assert not (output / "manifest.json").exists()


def test_an_undamaged_rerun_has_nothing_to_do_but_finish(
    stopped: Path,
    curated_corpus: Path,
    tokenizer_file: Path,
    whole: dict[str, str],
    tmp_path: Path,
) -> None:
    output = Path(shutil.copytree(stopped, tmp_path / "out"))
    shards = {path: path.stat().st_mtime_ns for path in output.glob("train-*")}
    prepare(curated_corpus, tokenizer_file, output, *FLAGS)
    assert shards == {path: path.stat().st_mtime_ns for path in shards}
    assert fingerprint(output) == whole


@pytest.mark.drill
def test_damage_anywhere_in_unfinished_work_never_makes_another_dataset(
    stopped: Path,
    curated_corpus: Path,
    tokenizer_file: Path,
    whole: dict[str, str],
    tmp_path: Path,
) -> None:
    """One file of each kind, in each way: named by the rerun, or made again."""
    kinds: dict[str, Path] = {}
    for path in sorted(stopped.rglob("*")):
        if path.is_file():
            name = str(path.relative_to(stopped))
            kinds.setdefault(re.sub(r"\d+", "", name), path.relative_to(stopped))
    assert len(kinds) > 30
    named = 0
    for number, part in enumerate(kinds.values()):
        for damage in DAMAGES:
            output = tmp_path / f"{number}-{damage.__name__}"
            shutil.copytree(stopped, output)
            damage(output / part)
            try:
                prepare(curated_corpus, tokenizer_file, output, *FLAGS)
            except (UsageError, WorkError) as error:
                # Without job.json the output is taken, by whomever.
                assert part.name in str(error) or part.name == "job.json"
                assert not (output / "manifest.json").exists()
                named += 1
            else:
                assert fingerprint(output) == whole, (part, damage)
            shutil.rmtree(output)
    assert named > len(kinds) // 2


@pytest.mark.parametrize("pattern", ["train-*", "provenance-*", "rejects/*"])
@pytest.mark.parametrize("damage", [shorten, Path.unlink])
def test_what_was_finished_and_is_gone_before_the_manifest_is_named(
    pattern: str,
    damage: Damage,
    stopped: Path,
    curated_corpus: Path,
    tokenizer_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = Path(shutil.copytree(stopped, tmp_path / "out"))
    part, collect = max(output.glob(pattern)), prepare_corpus.collect

    def damage_after(*args) -> Results:
        results = collect(*args)
        damage(part)
        return results

    monkeypatch.setattr(prepare_corpus, "collect", damage_after)
    with pytest.raises(WorkError, match=part.name):
        prepare(curated_corpus, tokenizer_file, output, *FLAGS)
    assert not (output / "manifest.json").exists()


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b'{"text": "more"}\n')


def edit(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"cat", b"dog"))


@pytest.mark.parametrize("change", [grow, edit, Path.unlink])
def test_an_input_file_that_changes_between_two_stages_is_named(
    change: Damage,
    curated_corpus: Path,
    tokenizer_file: Path,
    whole: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Path(shutil.copytree(curated_corpus, tmp_path / "in"))
    file, judge = source / "c.jsonl", line_duplicates.judge
    original, stat = file.read_bytes(), file.stat()

    def change_first(*args):
        if file.exists() and hashlib.sha256(file.read_bytes()).digest() == before:
            change(file)
        return judge(*args)

    before = hashlib.sha256(original).digest()
    with monkeypatch.context() as patch:
        # Tasks have been read once, for their lines, and are read again.
        patch.setattr(line_duplicates, "judge", change_first)
        with pytest.raises(WorkError, match=r"in/c\.jsonl as it was.*(since|vanished)"):
            prepare(source, tokenizer_file, tmp_path / "out", *FLAGS)
    assert not (tmp_path / "out" / "manifest.json").exists()
    told = "absent now" if change is Path.unlink else r"bytes now|was changed since"
    with pytest.raises(UsageError, match=rf"input c\.jsonl.*({told})"):
        prepare(source, tokenizer_file, tmp_path / "out", *FLAGS)
    file.write_bytes(original)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    output = prepare(source, tokenizer_file, tmp_path / "out", *FLAGS)
    assert fingerprint(output) == whole


def test_the_error_of_a_damaged_rerun_is_one_line_and_its_status_1(
    stopped: Path,
    curated_corpus: Path,
    tokenizer_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    output = Path(shutil.copytree(stopped, tmp_path / "out"))
    shard = output / "_work" / "job.json"
    flip(shard)
    flags = arguments(curated_corpus, tokenizer_file, output, *FLAGS)
    statuses: list[int] = []

    def end(status: int) -> None:
        statuses.append(status)
        raise SystemExit

    monkeypatch.setattr("sys.argv", ["quern-prepare", *flags])
    monkeypatch.setattr(os, "_exit", end)
    # An ending command silences its threads and all logs, of this process here.
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(logging, "disable", lambda level=0: None)
    with pytest.raises(SystemExit):
        run(functools.partial(prepare_corpus.main, sizes=SMALL))
    assert statuses == [1]
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: wanted {shard} as it was written")
