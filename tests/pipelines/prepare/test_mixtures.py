# SPDX-License-Identifier: Apache-2.0
"""Whole preparations of a mixture: exact rows, every source's own, and counters."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import prepare_corpus
from pipelines.inspect.verify import verify
from pipelines.job.steps import record_path
from pipelines.prepare import mix_shards, pack_shard
from preprocessing.contracts.manifest import Manifest, read_manifest
from preprocessing.contracts.shards import Shards
from preprocessing.foundation.commands import UsageError, WorkError
from tests.pipelines.prepared import (
    COMMAND,
    SMALL,
    fingerprint,
    some_text,
)

pytestmark = pytest.mark.slow

# Documents of each source; some of them long enough for several rows of 64.
DOCUMENTS = {"books": 40, "code": 150, "web": 120}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("mixture") / "input"
    rng = random.Random(5)
    for name, count in DOCUMENTS.items():
        (directory / name).mkdir(parents=True)
        lines = [
            json.dumps({"id": f"{n}", "text": some_text(rng, rng.choice([4, 30, 200]))})
            for n in range(count)
        ]
        half = count // 2
        (directory / name / "a.jsonl").write_text("\n".join(lines[:half]))
        (directory / name / "b.jsonl").write_text("\n".join(lines[half:]))
    return directory


def mixture_file(sources: Path, path: Path, shares: dict[str, str], top: str) -> Path:
    tables = [
        f'[sources.{name}]\ninput = "{sources}/{name}/*"\n{share}\n'
        for name, share in shares.items()
    ]
    path.write_text("\n".join([top, *tables]))
    return path


def arguments(mixture: Path, tokenizer_file: Path, output: Path) -> list[str]:
    return [
        *("--mixture", str(mixture), "--tokenizer", str(tokenizer_file)),
        *("--output", str(output), "--sequence_length", "64"),
        *("--validation_fraction", "0.1"),
    ]


def prepare(mixture: Path, tokenizer_file: Path, output: Path, *more: str) -> Path:
    prepare_corpus.main([*arguments(mixture, tokenizer_file, output), *more], SMALL)
    return output


WEIGHED = {"books": "weight = 3\nepochs = 2", "code": "weight = 1", "web": "weight = 4"}


@pytest.fixture(scope="module")
def weighed(sources: Path) -> Path:
    return mixture_file(sources, sources.parent / "weighed.toml", WEIGHED, "")


@pytest.fixture(scope="module")
def mixed(weighed: Path, tokenizer_file: Path) -> Path:
    """Books come twice at most, code in part."""
    output = weighed.parent / "mixed"
    return prepare(weighed, tokenizer_file, output, "--workers", "1")


class Rows:
    """All rows of a split: source, ids and where their segments come from."""

    def __init__(self, dataset: Path, manifest: Manifest, split: str) -> None:
        shards = Shards(str(dataset), manifest, split)
        read = shards.read(np.arange(shards.num_rows))
        lengths = read["segment_lengths"]
        self.sources = read["sources"][:, 0].tolist()
        for row, length in zip(read["sources"], lengths, strict=True):
            assert set(row[length > 0].tolist()) == {row[0]}
            assert not row[length == 0].any()
        self.ids = [row.tobytes() for row in read["tokens"]]
        self.tokens = lengths.sum(axis=1).tolist()
        tables = sorted(dataset.glob(f"provenance-{split}-*.parquet"))
        lines = pa.concat_tables(map(pq.read_table, tables)).to_pylist()
        self.segments: list[list[tuple[str, int]]] = [[] for _ in self.ids]
        self.paths: list[set[str]] = [set() for _ in self.ids]
        for line in lines:
            self.segments[line["row"]].append((line["document"], line["start"]))
            self.paths[line["row"]].add(line["path"])

    def of(self, source: int) -> list[int]:
        return [row for row, other in enumerate(self.sources) if other == source]


def reject_lines(dataset: Path) -> list[dict[str, object]]:
    files = sorted((dataset / "rejects").glob("*.jsonl"))
    return [
        json.loads(line) for file in files for line in file.read_text().splitlines()
    ]


def test_each_source_gives_its_exact_share_of_the_rows(mixed: Path) -> None:
    train = read_manifest(str(mixed)).splits["train"]
    rows = {name: line["rows"] for name, line in train.sources.items()}
    for name, weight in {"books": 3, "code": 1, "web": 4}.items():
        assert abs(rows[name] - train.rows * weight / 8) < 1
    sizes = [shard.rows for shard in train.shards]
    assert len(sizes) > 2
    assert max(sizes) - min(sizes) <= 1


def test_a_row_has_one_source_and_the_manifest_counts_them(mixed: Path) -> None:
    manifest = read_manifest(str(mixed))
    firsts = Counter(source.path.split("/")[0] for source in manifest.sources)
    assert firsts == {"books": 2, "code": 2, "web": 2}
    for name, split in manifest.splits.items():
        rows = Rows(mixed, manifest, name)
        for number, (source, line) in enumerate(sorted(split.sources.items())):
            mine = rows.of(number)
            assert len(mine) == line["rows"]
            assert sum(rows.tokens[row] for row in mine) == line["tokens"]
            for row in mine:
                assert {path.split("/")[0] for path in rows.paths[row]} == {source}
        for total in ("rows", "tokens", "text_bytes"):
            parts = sum(line[total] for line in split.sources.values())
            assert parts == getattr(split, total)


def test_a_source_repeats_its_rows_in_order_once_it_has_run_through(
    mixed: Path,
) -> None:
    rows = Rows(mixed, read_manifest(str(mixed)), "train")
    books = [rows.segments[row] for row in rows.of(0)]
    epoch = books.index(books[0], 1)
    assert len(books) <= 2 * epoch
    assert books[epoch:] == books[: len(books) - epoch]
    ids = [rows.ids[row] for row in rows.of(0)]
    assert ids[epoch:] == ids[: len(ids) - epoch]
    for source in (1, 2):
        starts = [s for row in rows.of(source) for s in rows.segments[row]]
        assert len(starts) == len(set(starts))


def test_validation_has_every_row_of_every_source_once(mixed: Path) -> None:
    rows = Rows(mixed, read_manifest(str(mixed)), "validation")
    starts = [segment for row in rows.segments for segment in row]
    assert len(starts) == len(set(starts))
    assert set(rows.sources) == {0, 1, 2}


def test_documents_without_a_drawn_row_are_rejects_and_the_rest_is_kept(
    mixed: Path,
) -> None:
    manifest, lines = read_manifest(str(mixed)), reject_lines(mixed)
    kept = set()
    for split in manifest.splits:
        rows = Rows(mixed, manifest, split)
        kept |= {document for row in rows.segments for document, _ in row}
    undrawn = [str(line["document"]) for line in lines if line["reason"] == "not_drawn"]
    assert len(kept) == manifest.counts.kept
    assert len(undrawn) == len(set(undrawn)) == manifest.counts.rejected["not_drawn"]
    assert undrawn and not kept & set(undrawn)
    assert manifest.counts.read == len(kept) + len(lines) == sum(DOCUMENTS.values())


def test_a_document_that_is_not_drawn_is_named_by_its_own_id(
    mixed: Path, sources: Path
) -> None:
    undrawn = [line for line in reject_lines(mixed) if line["reason"] == "not_drawn"]
    assert undrawn
    for line in undrawn:
        content = (sources / str(line["path"])).read_bytes()
        at = int(str(line["offset"]))
        assert line["id"] == json.loads(content[at:].split(b"\n")[0])["id"]


def test_ids_are_written_once_again_or_dropped(mixed: Path) -> None:
    """Counted from the rows: every id is of one piece, which is written or is not."""
    manifest = read_manifest(str(mixed))
    counts, seen, again, written = manifest.counts, set(), 0, 0
    for split in manifest.splits:
        rows = Rows(mixed, manifest, split)
        for segments, tokens in zip(rows.segments, rows.tokens, strict=True):
            written += tokens
            if segments[0] in seen:
                again += tokens
            else:
                again += sum(start > 0 for _, start in segments)
            seen.update(segments)
    assert (counts.tokens_written, counts.overlap_tokens) == (written, again)
    assert counts.dropped_tokens == counts.tokens_encoded - (written - again) > 0


def test_the_mixture_is_verified_whole(mixed: Path) -> None:
    *_, last = verify(str(mixed), read_manifest(str(mixed)))
    assert "documents read" in last


@pytest.mark.parametrize("flags", [("3",), ("1", "--shuffle", "groupbykey")])
def test_more_workers_and_another_shuffle_write_the_same_bytes(
    weighed: Path,
    mixed: Path,
    tokenizer_file: Path,
    tmp_path: Path,
    flags: tuple[str, ...],
) -> None:
    output = tmp_path / "out"
    other = prepare(weighed, tokenizer_file, output, "--workers", *flags)
    assert fingerprint(other) == fingerprint(mixed)


def test_the_files_order_and_place_change_nothing(
    sources: Path, mixed: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(sources, tmp_path / "far" / "away"))
    shares = dict(reversed(WEIGHED.items()))
    path = mixture_file(moved, tmp_path / "mixture.toml", shares, "epochs = 1")
    other = prepare(path, tokenizer_file, tmp_path / "out", "--workers", "1")
    assert fingerprint(other) == fingerprint(mixed)


def test_temperature_one_uses_every_row_once_and_drops_no_document(
    sources: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    shares = dict.fromkeys(DOCUMENTS, "")
    path = mixture_file(sources, tmp_path / "m.toml", shares, "temperature = 1")
    output = prepare(path, tokenizer_file, tmp_path / "out", "--workers", "1")
    manifest = read_manifest(str(output))
    counts = manifest.counts
    assert (counts.rejected, counts.dropped_tokens) == ({}, 0)
    assert counts.kept == sum(DOCUMENTS.values())
    texts = [
        json.loads(line)["text"]
        for file in sources.rglob("*.jsonl")
        for line in file.read_text().splitlines()
    ]
    written = sum(split.text_bytes for split in manifest.splits.values())
    assert written == sum(len(text.encode()) for text in texts)
    list(verify(str(output), manifest))


def test_rows_that_are_asked_for_are_written_at_a_temperature(
    sources: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    shares = dict.fromkeys(DOCUMENTS, "")
    top = "temperature = 1000000\nrows = 90\nepochs = 3"
    path = mixture_file(sources, tmp_path / "m.toml", shares, top)
    output = prepare(path, tokenizer_file, tmp_path / "out", "--workers", "1")
    train = read_manifest(str(output)).splits["train"]
    assert [line["rows"] for line in train.sources.values()] == [30, 30, 30]
    list(verify(str(output), read_manifest(str(output))))


def test_too_few_rows_of_a_source_end_the_job(
    sources: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    path = mixture_file(sources, tmp_path / "m.toml", WEIGHED, "rows = 100000")
    with pytest.raises(WorkError, match=r"wanted 100000 rows of the mixture, \w+ has"):
        prepare(path, tokenizer_file, tmp_path / "out", "--workers", "1")


def test_another_mixture_does_not_go_on_with_the_output(
    sources: Path, mixed: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    shares = {**WEIGHED, "web": "weight = 5"}
    path = mixture_file(sources, tmp_path / "m.toml", shares, "")
    with pytest.raises(UsageError, match=r"mixture.*begun with another|begun with ano"):
        prepare(path, tokenizer_file, mixed, "--workers", "1")


def test_a_packed_row_that_is_damaged_is_named(
    weighed: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    flags = [*arguments(weighed, tokenizer_file, tmp_path / "out"), "--workers", "1"]
    job = prepare_corpus.prepare(flags, SMALL)
    assert job is not None
    for index in range(job.shards):
        path = Path(pack_shard.packed_path(job, "train", index))
        data = bytearray(path.read_bytes())
        data[200] ^= 1
        path.write_bytes(data)
    Path(record_path(job, mix_shards.KIND, 0)).unlink()
    with pytest.raises(WorkError, match=r"wanted rows 0 to .* as they were packed"):
        mix_shards.mix_shard(job, 0)


def test_a_job_killed_while_it_mixes_and_run_again_writes_the_same_bytes(
    weighed: Path, mixed: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    flags = [*arguments(weighed, tokenizer_file, output), "--workers", "2"]
    job = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *flags], cwd=Path(__file__).parents[3]
    )
    while not (output / "_work" / "mixture-train").exists():
        assert job.poll() is None
        time.sleep(0.005)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    prepare(weighed, tokenizer_file, output, "--workers", "1")
    assert fingerprint(output) == fingerprint(mixed)
    assert not (output / "_work").exists()


@pytest.mark.parametrize("flags", [("--objective", "prefix"), ("--packing", "concat")])
def test_other_objectives_and_packing_mix_as_well(
    sources: Path, tokenizer_file: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    path = mixture_file(sources, tmp_path / "m.toml", WEIGHED, "")
    output = prepare(path, tokenizer_file, tmp_path / "out", "--workers", "1", *flags)
    manifest = read_manifest(str(output))
    list(verify(str(output), manifest))
    assert manifest.counts.rejected["not_drawn"] > 0
    assert manifest.counts.dropped_tokens > 0
