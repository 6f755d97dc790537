# SPDX-License-Identifier: Apache-2.0
"""quern-inspect shows what is there and finds what is not as it was written."""

import json
import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import inspect_dataset, prepare_corpus
from pipelines.inspect.estimate import estimate
from preprocessing.contracts.manifest import read_manifest
from preprocessing.foundation.commands import UsageError, WorkError
from tests.pipelines.prepared import SMALL, arguments, prepare, some_text

pytestmark = pytest.mark.slow

LENIENT = ("--max_reject_fraction", "0.5", "--workers", "1")
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dataset, tmp_path / "copy"))


def test_show_prints_the_manifest_as_a_table(dataset: Path, capsys: Capture) -> None:
    inspect_dataset.main(["show", str(dataset)])
    text = capsys.readouterr().out
    manifest = read_manifest(str(dataset))
    assert manifest.dataset_hash in text
    assert f"{manifest.splits['train'].rows:,}" in text and "malformed_json" in text


def test_verify_passes_a_whole_dataset(dataset: Path, capsys: Capture) -> None:
    inspect_dataset.main(["verify", str(dataset)])
    assert "is whole" in capsys.readouterr().out


def test_a_row_is_told_segment_by_segment_with_its_origin(
    corpus: Path, dataset: Path, capsys: Capture
) -> None:
    (place, *_) = (
        line
        for line in pq.read_table(next(dataset.glob("provenance-train-*"))).to_pylist()
        if line["start"] == 0 and line["path"] == "a.jsonl"
    )
    inspect_dataset.main(["row", str(dataset), str(place["row"])])
    text = capsys.readouterr().out
    data = (corpus / "a.jsonl").read_bytes()[place["offset"] :].split(b"\n")[0]
    assert f"{place['document']} (a.jsonl at offset {place['offset']})" in text
    assert json.loads(data)["text"][:20] in text


def found(capsys: Capture, *arguments: object) -> list[str]:
    """The lines that an action prints."""
    capsys.readouterr()
    inspect_dataset.main([str(argument) for argument in arguments])
    return capsys.readouterr().out.splitlines()


def provenance(dataset: Path, split: str = "*") -> pa.Table:
    files = sorted(dataset.glob(f"provenance-{split}-*"))
    return pa.concat_tables(map(pq.read_table, files))


def test_a_long_document_is_found_in_all_its_rows_by_id_key_and_place(
    curated: Path, curated_corpus: Path, capsys: Capture
) -> None:
    segments = [
        line
        for line in provenance(curated, "train").to_pylist()
        if line["path"] == "a.jsonl"
    ]
    last = max(segments, key=lambda line: line["start"])
    mine = [line for line in segments if line["document"] == last["document"]]
    assert len(mine) > 10
    wanted = {
        f"kept: train row {line['row']} segment {line['segment']} holds its ids from "
        f"{line['start']} on (document {last['document']}, a.jsonl at offset "
        f"{last['offset']})"
        for line in mine
    }
    data = (curated_corpus / "a.jsonl").read_bytes()[last["offset"] :]
    name = json.loads(data.split(b"\n")[0])["id"]
    for called in (last["document"], f"a.jsonl:{last['offset']}", name):
        lines = found(capsys, "find", curated, called)
        # An id may have come a second time in the file.
        kept = {line for line in lines if line.startswith("kept")}
        assert kept == wanted
        assert all(line.startswith(("kept", "rejected: repeated")) for line in lines)


def test_a_document_without_an_id_is_found_by_its_place(
    curated: Path, capsys: Capture
) -> None:
    lines = found(capsys, "find", curated, "deep/3.txt:0")
    assert lines and all(line.startswith("kept: ") for line in lines)
    assert all("deep/3.txt at offset 0)" in line for line in lines)


def test_every_reject_is_found_by_its_place_and_its_key_and_says_why(
    curated: Path, capsys: Capture
) -> None:
    firsts = {}
    for file in sorted((curated / "rejects").iterdir()):
        for line in map(json.loads, file.read_text().splitlines()):
            firsts.setdefault(line["reason"], line)
    assert set(firsts) >= {
        *("duplicate", "near_duplicate", "repeated_id", "gopher_quality@1", "empty"),
        *("malformed_json", "missing_field", "wrong_type", "invalid_utf8"),
    }
    for reason, reject in firsts.items():
        told = (
            f"rejected: {reason}: {reject['detail']} ({reject['path']} at offset "
            f"{reject['offset']})"
        )
        place = f"{reject['path']}:{reject['offset']}"
        names = [place, *([reject["document"]] if "document" in reject else [])]
        for name in names:
            assert told in found(capsys, "find", curated, name)
    said = '"#" for each word 0.50, wanted 0.1 or less'
    assert said in found(capsys, "find", curated, "symbols")[0]


def test_a_document_that_was_never_read_is_not_found(dataset: Path) -> None:
    for name in ("doc-999", "a.jsonl:1", "0" * 32, "a.jsonl", ""):
        with pytest.raises(UsageError, match=f"found none called '{name}' among"):
            inspect_dataset.main(["find", str(dataset), name])


def test_equal_datasets_differ_in_nothing(
    corpus: Path, tokenizer_file: Path, dataset: Path, tmp_path: Path, capsys: Capture
) -> None:
    other = prepare(corpus, tokenizer_file, tmp_path / "other", *LENIENT)
    name = read_manifest(str(dataset)).dataset_hash
    assert found(capsys, "diff", dataset, other) == [f"the same dataset: {name}"]


def test_another_seed_changes_shards_and_splits_but_no_document(
    corpus: Path, tokenizer_file: Path, dataset: Path, tmp_path: Path, capsys: Capture
) -> None:
    other = prepare(corpus, tokenizer_file, tmp_path / "o", *LENIENT, "--seed", "3")
    lines = found(capsys, "diff", dataset, other)
    assert lines[0] == "config.seed: 0 | 3"
    assert not any(line.startswith("source ") for line in lines)
    shards = len(read_manifest(str(dataset)).splits["train"].shards)
    assert f"train.shards: 0 the same, {shards} | {shards} of their own" in lines
    names = [set(provenance(path)["document"].to_pylist()) for path in (dataset, other)]
    assert names[0] == names[1]
    assert f"documents: {len(names[0])} in both, 0 | 0 of their own" in lines
    split = [
        set(provenance(path, "validation")["document"].to_pylist())
        for path in (dataset, other)
    ]
    assert lines[-1] == f"documents in another split: {len(split[0] ^ split[1])}"


def test_other_input_changes_sources_counts_and_documents(
    corpus: Path, tokenizer_file: Path, dataset: Path, tmp_path: Path, capsys: Capture
) -> None:
    source = Path(shutil.copytree(corpus, tmp_path / "in"))
    size = (source / "deep" / "4.txt").stat().st_size
    (source / "deep" / "4.txt").rename(source / "deep" / "5.txt")
    with (source / "a.jsonl").open("a") as file:
        file.write('{"id": "new", "text": "a document more"}\n')
    other = prepare(source, tokenizer_file, tmp_path / "other", *LENIENT)
    lines = found(capsys, "diff", dataset, other)
    counts = read_manifest(str(dataset)).counts
    assert f"source deep/4.txt, bytes: {size:,} | nothing" in lines
    assert f"source deep/5.txt, bytes: nothing | {size:,}" in lines
    assert f"counts.read: {counts.read} | {counts.read + 1}" in lines
    assert f"documents: {counts.kept - 1} in both, 1 | 2 of their own" in lines
    assert not any(line.startswith(("config", "tokenizer")) for line in lines)


def test_an_estimate_from_a_part_is_within_a_few_percent_of_the_real_run(
    tokenizer_file: Path, tmp_path: Path
) -> None:
    rng = random.Random(1)
    lines = [json.dumps({"text": some_text(rng, 60)}) + "\n" for _ in range(2000)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("".join(lines))
    flags = arguments(tmp_path / "in", tokenizer_file, tmp_path / "out", *LENIENT)
    table = estimate(flags, SMALL, least_bytes=30_000).splitlines()
    assert not (tmp_path / "out").exists()
    prepare_corpus.main(flags, SMALL)
    told = {line[:22].strip(): line[22:] for line in table[:-1]}
    assert list(told) == [
        *("input", "sample", "documents", "kept by the rules", "tokens", "rows"),
        *("dataset on disk", "disk while it runs", "time, 1 worker"),
    ]
    manifest = read_manifest(str(tmp_path / "out"))
    size = (tmp_path / "in" / "a.jsonl").stat().st_size
    sample = float(told["sample"].split(" MB")[0])
    assert told["input"] == f"{size / 1e6:.1f} MB" and sample < size / 5e6
    rows = sum(split.rows for split in manifest.splits.values())
    for name, real in (
        ("documents", manifest.counts.read),
        ("kept by the rules", manifest.counts.kept),
        ("tokens", manifest.counts.tokens_encoded),
        ("rows", rows),
    ):
        assert int(told[name].replace(",", "")) == pytest.approx(real, rel=0.04)
    assert "before duplicates are dropped" in table[-1]


@pytest.mark.parametrize(
    "wrong",
    [
        ("--sequence_length", "2"),
        ("--sequence_lenght", "64"),
        ("--rules", "gopher@9"),
        ("--deduplicate", "fuzzy"),
        ("--eos_token", "</s>"),
        ("--tokenizer", "none.json"),
        ("--input", "nowhere/*"),
    ],
)
def test_an_estimate_refuses_flags_in_the_words_of_the_job(
    corpus: Path, tokenizer_file: Path, tmp_path: Path, wrong: tuple[str, str]
) -> None:
    flags = [*arguments(corpus, tokenizer_file, tmp_path / "out"), *wrong]
    with pytest.raises(UsageError) as by_job:
        prepare_corpus.main(flags)
    with pytest.raises(UsageError) as by_estimate:
        inspect_dataset.main(["estimate", *flags])
    assert str(by_estimate.value) == str(by_job.value)


def test_what_is_missing_or_damaged_is_named_by_every_action(
    dataset: Path, copy: Path
) -> None:
    part = min(copy.glob("provenance-train-*"))
    data = part.read_bytes()
    (copy / "manifest.json").write_bytes(
        read_manifest(str(dataset)).to_bytes().replace(b'"seed": 0', b'"seed": 1')
    )
    for damaged in (data[:-9], None):
        part.unlink() if damaged is None else part.write_bytes(damaged)
        for action, more in (("find", "x"), ("row", "0"), ("diff", str(dataset))):
            with pytest.raises(WorkError, match=part.name):
                inspect_dataset.main([action, str(copy), more])
        with pytest.raises(WorkError, match=r"manifest\.json"):
            inspect_dataset.main(["verify", str(copy)])


def test_provenance_that_belongs_to_other_rows_is_found(copy: Path) -> None:
    first, second = sorted(copy.glob("provenance-train-*"))[:2]
    shutil.copy(first, second)
    with pytest.raises(WorkError, match=second.name):
        inspect_dataset.main(["verify", str(copy)])


def test_what_cannot_be_inspected_is_refused(dataset: Path, tmp_path: Path) -> None:
    for flags, complaint in [
        (["show", str(tmp_path / "nowhere")], "found nothing"),
        (["show", str(tmp_path)], "manifest.json"),
        (["row", str(dataset)], "row DATASET N"),
        (["row", str(dataset), "999999"], "Name one from 0 to"),
        (["row", str(dataset), "0", "--split", "test"], "train"),
        (["verify", str(dataset), "--split=x", "--fast"], "--fast"),
        (["find", str(dataset)], "find DATASET DOCUMENT_ID"),
        (["find", str(dataset), "doc-1", "doc-2"], "find DATASET DOCUMENT_ID"),
        (["diff", str(dataset)], "diff DATASET OTHER"),
        (["diff", str(dataset), str(tmp_path / "nowhere")], "found nothing"),
    ]:
        with pytest.raises(UsageError, match=complaint):
            inspect_dataset.main(flags)
