# SPDX-License-Identifier: Apache-2.0
"""Laws of the whole preparation, on a small corpus with every kind of trouble."""

import io
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import prepare_corpus
from pipelines.beam import runners
from preprocessing.contracts.manifest import Split, read_manifest
from preprocessing.contracts.shards import Shards
from preprocessing.foundation import storage
from preprocessing.foundation.commands import WorkError
from preprocessing.reading.extents import ReaderConfig, plan_extents
from preprocessing.reading.readers import read_extent
from preprocessing.rules.normalize import CleaningConfig, clean, is_empty
from preprocessing.tokenizer.tokenizer import Tokenizer
from tests.pipelines.prepared import fingerprint, prepare

pytestmark = pytest.mark.slow

LENIENT = ("--max_reject_fraction", "0.5")


def expected_documents(corpus: Path) -> dict[tuple[str, int], tuple[str, str]]:
    """The survivors, worked out one by one: (path, offset) -> (key in hex, text)."""
    found = []
    files = storage.expand([f"{corpus}/**/*"])
    for extent in plan_extents(files, ReaderConfig()):
        for batch in read_extent(extent, ReaderConfig()):
            texts = clean(batch.texts, CleaningConfig())
            for at in np.flatnonzero(~is_empty(texts)).tolist():
                place = (batch.relative, int(batch.offsets[at]))
                found.append((bytes(batch.keys[at]), place, texts[at].as_py()))
    by_key, by_text = {}, {}
    for key, place, text in sorted(found, key=lambda entry: (entry[0], entry[1][1])):
        by_key.setdefault(key, (place, text))
    for key in sorted(by_key):
        place, text = by_key[key]
        by_text.setdefault(text, (place, key.hex()))
    return {place: (key, text) for text, (place, key) in by_text.items()}


def rebuilt_documents(dataset: Path) -> dict[tuple[str, int], tuple[str, list[int]]]:
    """Documents put together from rows through provenance: place -> (key, ids)."""
    manifest = read_manifest(str(dataset))
    pieces: dict[tuple[str, int], list[tuple[int, list[int]]]] = {}
    keys = {}
    for split in manifest.splits:
        rows = Shards(str(dataset), manifest, split)
        read = rows.read(np.arange(rows.num_rows))
        tokens, lengths = read["tokens"], read["segment_lengths"]
        tables = sorted(dataset.glob(f"provenance-{split}-*.parquet"))
        for line in pa.concat_tables(map(pq.read_table, tables)).to_pylist():
            row, segment = line["row"], line["segment"]
            first = int(lengths[row, :segment].sum())
            ids = tokens[row, first : first + int(lengths[row, segment])].tolist()
            place = (line["path"], line["offset"])
            pieces.setdefault(place, []).append((line["start"], ids))
            keys[place] = line["document"]
    documents = {}
    for place, parts in pieces.items():
        ids: list[int] = []
        for start, part in sorted(parts):
            assert start == max(0, len(ids) - 1)
            assert ids[-1:] == part[:1] or not ids
            ids += part if not ids else part[1:]
        documents[place] = (keys[place], ids)
    return documents


def test_each_document_can_be_rebuilt_with_the_ids_of_its_encoding(
    corpus: Path, tokenizer_file: Path, dataset: Path
) -> None:
    tokenizer = Tokenizer.load(str(tokenizer_file))
    wanted = expected_documents(corpus)
    found = rebuilt_documents(dataset)
    assert found.keys() == wanted.keys()
    for place, (key, text) in wanted.items():
        ids, _ = tokenizer.encode_documents([text])
        assert found[place] == (key, ids.tolist()), place


def test_three_workers_write_the_bytes_of_one(
    corpus: Path, tokenizer_file: Path, dataset: Path, tmp_path: Path
) -> None:
    other = prepare(corpus, tokenizer_file, tmp_path / "3", *LENIENT, "--workers", "3")
    assert fingerprint(other) == fingerprint(dataset)
    assert len(list(dataset.glob("train-*.tfrecord"))) > 2


def test_a_stock_runner_that_shuffles_itself_writes_the_same_bytes(
    corpus: Path, tokenizer_file: Path, dataset: Path, tmp_path: Path
) -> None:
    flags = ("--runner", "FnApiRunner", "--shuffle", "groupbykey", "--workers", "2")
    other = prepare(corpus, tokenizer_file, tmp_path / "gbk", *LENIENT, *flags)
    assert fingerprint(other) == fingerprint(dataset)


def test_a_job_may_go_on_with_the_other_shuffle(
    corpus: Path, tokenizer_file: Path, dataset: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    strict = ("--max_reject_fraction", "0", "--workers", "1")
    with pytest.raises(WorkError, match="rejected"):
        prepare(corpus, tokenizer_file, output, *strict, "--shuffle", "groupbykey")
    # As if killed after the tasks: their blobs were Beam's, and went with it.
    shutil.rmtree(output / "_work" / "shards")
    prepare(corpus, tokenizer_file, output, *LENIENT, "--workers", "1")
    assert fingerprint(output) == fingerprint(dataset)


def test_where_the_input_lies_changes_nothing(
    corpus: Path, tokenizer_file: Path, dataset: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(corpus, tmp_path / "elsewhere" / "far"))
    flags = (*LENIENT, "--workers", "1")
    other = prepare(moved, tokenizer_file, tmp_path / "out", *flags)
    assert fingerprint(other) == fingerprint(dataset)


def test_another_seed_gives_another_order_of_the_same_documents(
    corpus: Path, tokenizer_file: Path, dataset: Path, tmp_path: Path
) -> None:
    flags = (*LENIENT, "--workers", "1", "--seed", "7", "--packing", "concat")
    other = prepare(corpus, tokenizer_file, tmp_path / "out", *flags)
    assert rebuilt_documents(other) == rebuilt_documents(dataset)
    assert fingerprint(other).keys() == fingerprint(dataset).keys()
    first = "train-00000-of"
    assert {v for k, v in fingerprint(other).items() if first in k}.isdisjoint(
        v for k, v in fingerprint(dataset).items() if first in k
    )


def test_the_counters_of_the_manifest_agree_and_every_reject_has_a_line(
    corpus: Path, dataset: Path
) -> None:
    counts = read_manifest(str(dataset)).counts
    files = dataset.glob("rejects/*.jsonl")
    lines = [json.loads(line) for file in files for line in file.open()]
    assert counts.read == counts.kept + len(lines)
    assert counts.kept == len(expected_documents(corpus))
    assert Counter(line["reason"] for line in lines) == Counter(counts.rejected)
    assert counts.rejected["malformed_json"] == 1
    assert counts.rejected["missing_field"] == 1
    assert counts.rejected["wrong_type"] == 1
    assert counts.rejected["invalid_utf8"] == 1
    assert counts.rejected["empty"] == 1
    assert counts.rejected["repeated_id"] > 5
    assert counts.rejected["duplicate"] > 5
    assert counts.dropped_tokens == 0


def test_a_reject_line_leads_to_the_bytes_it_is_about(
    corpus: Path, dataset: Path
) -> None:
    files = dataset.glob("rejects/*.jsonl")
    lines = [json.loads(line) for file in files for line in file.open()]
    (line,) = [line for line in lines if line["reason"] == "malformed_json"]
    data = (corpus / line["path"]).read_bytes()
    assert data[line["offset"] :].startswith(b'{"text": "cut\n')


def test_the_manifest_names_nothing_of_this_machine(dataset: Path) -> None:
    text = (dataset / "manifest.json").read_text()
    assert str(dataset.parent) not in text
    assert "worker" not in text and "runner" not in text and "shuffle" not in text


def test_the_finished_directory_holds_what_is_promised_and_nothing_else(
    dataset: Path,
) -> None:
    names = {path.name for path in dataset.iterdir()}
    beside = {
        name for name in names if name.split("-")[0] not in ("train", "validation")
    }
    assert {name for name in beside if not name.startswith("provenance-")} == {
        "SHA256SUMS",
        "inputs.parquet",
        "manifest.json",
        "rejects",
        "report.html",
        "timings.json",
        "tokenizer.json",
    }


def test_validation_gets_a_document_when_hashing_chooses_none(
    tokenizer_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "two.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    flags = ("--workers", "1", "--validation_fraction", "0.000001")
    output = prepare(tmp_path / "in", tokenizer_file, tmp_path / "out", *flags)
    splits = read_manifest(str(output)).splits
    assert (splits["train"].rows, splits["validation"].rows) == (1, 1)


def test_the_validation_split_is_empty_without_a_fraction(
    tokenizer_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "one.txt").write_text("only one document")
    flags = ("--workers", "1", "--validation_fraction", "0")
    output = prepare(tmp_path / "in", tokenizer_file, tmp_path / "out", *flags)
    splits = read_manifest(str(output)).splits
    assert splits["train"].rows == 1
    assert splits["validation"] == Split(rows=0, tokens=0, text_bytes=0, shards=())
    assert not list(output.glob("*validation*"))


def test_the_report_is_one_file_that_fetches_nothing(dataset: Path) -> None:
    page = (dataset / "report.html").read_text()
    assert "malformed_json" in page and "a.jsonl" in page
    assert "src=" not in page and "href=" not in page and "http" not in page


def test_progress_comes_as_plain_lines_when_nobody_watches(
    tokenizer_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "one.txt").write_text("only one document")
    prepare(tmp_path / "in", tokenizer_file, tmp_path / "out", "--workers", "1")
    written = capsys.readouterr()
    assert "packing: 0.0 MB of 0.0 MB (100%)" in written.err
    assert "documents: 1 read, 1 kept; rejected: none" in written.out


def test_help_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        prepare_corpus.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "what rules reject do not count" in text and "default: 0.01" in text
    assert runners.LOCAL in text


def test_arrow_tables_are_read_as_documents_too(
    tokenizer_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    buffer = io.BytesIO()
    pq.write_table(pa.table({"id": ["x", "y"], "text": ["one", "two"]}), buffer)
    (tmp_path / "in" / "t.parquet").write_bytes(buffer.getvalue())
    output = prepare(
        tmp_path / "in", tokenizer_file, tmp_path / "out", "--workers", "1"
    )
    assert {place for place, _ in rebuilt_documents(output).items()} == {
        ("t.parquet", 0),
        ("t.parquet", 1),
    }
