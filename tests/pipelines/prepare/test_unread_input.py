# SPDX-License-Identifier: Apache-2.0
"""A lost file is not a lost document: what was not read is weighed and named."""

import dataclasses
import gzip
import json
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pipelines import prepare_corpus, train_tokenizer
from pipelines.inspect.compare_datasets import compare_datasets
from pipelines.inspect.estimate import estimate
from pipelines.inspect.verify import verify
from preprocessing.contracts.dataset_files import INPUTS
from preprocessing.contracts.manifest import InputTotals, Manifest, read_manifest
from preprocessing.foundation.commands import UsageError, WorkError
from tests.pipelines.prepared import SMALL, arguments, fingerprint, prepare

pytestmark = pytest.mark.slow


def lines(name: str, count: int) -> bytes:
    texts = (f"document {number} of {name} " * 9 for number in range(count))
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One large whole file, and three small ones that cannot be read to their end."""
    directory = tmp_path_factory.mktemp("spoiled") / "in"
    (directory / "more").mkdir(parents=True)
    (directory / "whole.jsonl").write_bytes(lines("whole", 900))
    packed = gzip.compress(lines("cut", 40), mtime=0)
    (directory / "more" / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    (directory / "more" / "tail.jsonl.gz").write_bytes(packed + b"not gzip")
    frames = zstandard.ZstdCompressor().compress(lines("frames", 40))
    (directory / "frames.jsonl.zst").write_bytes(frames + b"\0" * 50 + frames)
    return directory


NAMES = ("frames.jsonl.zst", "more/cut.jsonl.gz", "more/tail.jsonl.gz")
LINES = ("--deduplicate", "none")


def conserved(output: Path, source: Path, prefix: str = "") -> Manifest:
    """Checks what a dataset says of its input's bytes against the files themselves."""
    manifest = read_manifest(str(output))
    assert manifest.schema_version == 3
    table = pq.read_table(output / "inputs.parquet").to_pylist()
    sizes = {
        prefix + str(path.relative_to(source)): path.stat().st_size
        for path in source.rglob("*")
        if path.is_file()
    }
    assert {row["path"]: row["bytes"] for row in table} == sizes
    assert manifest.input is not None
    totals = manifest.input
    assert totals.size == totals.read + totals.not_read == sum(sizes.values())
    assert totals.read == sum(row["bytes_read"] for row in table)
    assert manifest.counts.read == sum(row["documents"] for row in table)
    assert subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=output, check=False
    ).returncode in (0, 127)
    assert "  inputs.parquet\n" in (output / "SHA256SUMS").read_text()
    said = list(verify(str(output), manifest))
    assert any(f"{totals.size:,} bytes of input = " in line for line in said)
    return manifest


def test_files_not_read_to_their_end_stop_the_job_and_a_flag_goes_on(
    spoiled: Path,
    tokenizer_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"
    with pytest.raises(WorkError, match="wanted every input file read to") as caught:
        prepare(spoiled, tokenizer_file, output, *LINES)
    assert all(name in str(caught.value) for name in NAMES)
    assert not (output / "manifest.json").exists()
    with pytest.raises(WorkError, match="bytes not read"):
        prepare(spoiled, tokenizer_file, output, "--max_unread_fraction=1e-5", *LINES)
    capsys.readouterr()
    prepare(spoiled, tokenizer_file, output, "--max_unread_fraction=0.5", *LINES)
    printed = capsys.readouterr().out
    assert "tasks are done" in printed  # the work of the first attempt was used
    for name in NAMES:
        assert f"not read to its end: {name} (" in printed
    manifest = conserved(output, spoiled)
    assert manifest.input is not None
    assert (manifest.input.files, manifest.input.not_to_end) == (4, 3)
    rows = {
        row["path"]: row for row in pq.read_table(output / "inputs.parquet").to_pylist()
    }
    assert rows["whole.jsonl"]["reason"] is None
    assert rows["whole.jsonl"]["documents"] == 900
    assert rows["more/cut.jsonl.gz"]["reason"].startswith("truncated_input: gzip")
    tail = rows["more/tail.jsonl.gz"]
    assert tail["bytes"] - tail["bytes_read"] == len(b"not gzip")
    assert tail["documents"] == 41  # the damage itself stands for one
    report = (output / "report.html").read_text()
    assert all(name in report for name in NAMES) and "What was not read" in report
    # The same from two workers, and through Beam's own shuffle.
    for more in (("--workers", "2"), ("--shuffle", "groupbykey")):
        again = tmp_path / more[0]
        flags = ("--max_unread_fraction", "0.5", *LINES, *more)
        prepare(spoiled, tokenizer_file, again, *flags)
        assert fingerprint(again) == fingerprint(output)
    all_read = InputTotals(4, manifest.input.size, manifest.input.size, 0, 0)
    other = dataclasses.replace(manifest, input=all_read)
    told = list(compare_datasets(str(output), manifest, str(again), other))
    assert f"input.not_read: {manifest.input.not_read:,} | 0" in told
    # Without SHA256SUMS the table is still held against the manifest.
    (output / "SHA256SUMS").unlink()
    columns = pq.read_table(output / "inputs.parquet").to_pydict()
    columns["bytes_read"][0] += 1
    pq.write_table(pa.table(columns, schema=INPUTS), output / "inputs.parquet")
    with pytest.raises(WorkError, match="bytes of input read"):
        list(verify(str(output), manifest))


def test_a_dry_run_names_them_and_fails_as_the_job_would(
    spoiled: Path,
    tokenizer_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = arguments(spoiled, tokenizer_file, tmp_path / "out", *LINES, "--dry_run")
    with pytest.raises(WorkError, match=r"more/cut\.jsonl\.gz"):
        prepare_corpus.main(flags)
    assert f"not read to its end: {NAMES[0]} (" in capsys.readouterr().out
    prepare_corpus.main([*flags, "--max_unread_fraction", "1"])
    printed = capsys.readouterr().out
    assert all(f"not read to its end: {name} (" in printed for name in NAMES)
    assert "not all read: more/cut.jsonl.gz (truncated" in estimate(flags)


def test_extents_of_one_file_and_sources_of_a_mixture_add_up(
    spoiled: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    mixture = tmp_path / "mixture.toml"
    mixture.write_text(f'[sources.one]\ninput = ["{spoiled}/**/*"]\nweight = 1\n')
    flags = arguments(spoiled, tokenizer_file, tmp_path / "out", *LINES)[2:]
    flags += ["--mixture", str(mixture), "--max_unread_fraction", "1"]
    prepare_corpus.main(flags, SMALL)
    conserved(tmp_path / "out", spoiled, "one/")


def test_a_tokenizer_is_not_trained_on_less_than_it_was_given(
    spoiled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "tokenizer.json"
    flags = ["--input", f"{spoiled}/**/*", "--output", str(output)]
    flags += ["--vocab_size", "300"]
    with pytest.raises(WorkError, match=r"frames\.jsonl\.zst"):
        train_tokenizer.main(flags)
    assert not output.exists()
    train_tokenizer.main([*flags, "--max_unread_fraction", "0.5"])
    assert output.exists()
    assert "not read to its end: more/cut.jsonl.gz" in capsys.readouterr().out
    with pytest.raises(UsageError, match="between 0 and 1"):
        train_tokenizer.main([*flags, "--max_unread_fraction", "2"])
