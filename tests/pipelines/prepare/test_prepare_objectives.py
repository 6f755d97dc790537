# SPDX-License-Identifier: Apache-2.0
"""Whole preparations for every objective: counters, rows and origins hold together."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import inspect_dataset, train_tokenizer
from preprocessing.contracts.manifest import read_manifest
from preprocessing.contracts.row_segments import row_segments
from preprocessing.contracts.shards import Shards
from preprocessing.foundation.commands import UsageError
from preprocessing.objectives.objectives import (
    ObjectiveConfig,
    original_ids,
    special_ids,
)
from preprocessing.tokenizer import tokenizer
from preprocessing.tokenizer.tokenizer import Tokenizer
from tests.pipelines import prepared

pytestmark = pytest.mark.slow

OBJECTIVES = [
    ("prefix",),
    ("fill_in_middle",),
    ("span_corruption",),
    ("span_corruption", "--layout", "decoder"),
]
PAIRS = [("pairs",), ("pairs", "--layout", "decoder")]
FEATURES = {
    ("prefix", "decoder"): {"tokens", "segment_lengths", "prefix_lengths"},
    ("fill_in_middle", "decoder"): {"tokens", "segment_lengths"},
    ("span_corruption", "decoder"): {"tokens", "segment_lengths", "loss_mask"},
    ("pairs", "decoder"): {"tokens", "segment_lengths", "loss_mask"},
}
BOTH_SIDES = {
    "inputs",
    "inputs_segment_lengths",
    "targets",
    "targets_segment_lengths",
}


@pytest.fixture(scope="module")
def objective_tokenizer(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tok") / "tokenizer.json"
    train_tokenizer.main(
        [
            *("--input", f"{corpus}/**/*", "--output", str(path)),
            *("--vocab_size", "400", "--objective", "fill_in_middle"),
            "span_corruption",
        ]
    )
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions and answers in two formats, one of them too long for any row."""
    directory = tmp_path_factory.mktemp("pairs")
    lines = [
        {"id": f"q{n}", "text": f"how many are {n} and {n} ?", "target": f"{2 * n} !"}
        for n in range(200)
    ]
    lines.append({"id": "long", "text": "why ?", "target": "so it is, " * 400})
    text = "\n".join(json.dumps(line) for line in lines[50:])
    (directory / "pairs.jsonl").write_text(text)
    pq.write_table(pa.Table.from_pylist(lines[:50]), directory / "pairs.parquet")
    return directory


def restored_texts(dataset: Path) -> dict[tuple[str, int], bytes]:
    """Returns the text of every document, put together from the rows, by place."""
    manifest = read_manifest(str(dataset))
    own = Tokenizer.restore(
        str(dataset / "tokenizer.json"),
        bos_id=manifest.bos_id,
        eos_id=manifest.eos_id,
        pad_id=manifest.pad_id,
    )
    config = ObjectiveConfig(**manifest.config["objective"])
    special, table = special_ids(config, own), own.token_bytes()
    found: dict[tuple[str, int], list[tuple[int, bytes]]] = {}
    for split, line in manifest.splits.items():
        origins = []
        for path in sorted(dataset.glob(f"provenance-{split}-*.parquet")):
            origins += pq.read_table(path).to_pylist()
        shards = Shards(str(dataset), manifest, split)
        rows = shards.read(np.arange(line.rows))
        place = 0
        for row in range(line.rows):
            for segment in row_segments({n: x[row] for n, x in rows.items()}):
                origin = origins[place]
                place += 1
                assert origin["row"] == row
                ids = original_ids(config, special, segment.ids, len(segment.inputs))
                # A causal piece after the first repeats an id.
                again = int(config.name == "causal" and origin["start"] > 0)
                text = b"".join(table[id] for id in ids[again:].tolist())
                parts = found.setdefault((origin["path"], origin["offset"]), [])
                parts.append((origin["start"], text))
        assert place == len(origins)
    return {key: b"".join(t for _, t in sorted(parts)) for key, parts in found.items()}


@pytest.mark.parametrize("flags", OBJECTIVES, ids=" ".join)
def test_the_documents_of_a_causal_dataset_are_in_every_other(
    flags: tuple[str, ...],
    corpus: Path,
    dataset: Path,
    objective_tokenizer: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = prepared.prepare(
        corpus,
        objective_tokenizer,
        tmp_path / "dataset",
        *("--objective", *flags, "--workers", "1", "--max_reject_fraction", "0.5"),
    )
    assert restored_texts(output) == restored_texts(dataset)
    manifest, causal = read_manifest(str(output)), read_manifest(str(dataset))
    assert manifest.objective == flags[0]
    assert manifest.schema_version == 3
    layout = manifest.config["objective"]["layout"]
    assert set(manifest.features) == FEATURES.get((flags[0], layout), BOTH_SIDES)
    assert manifest.counts.kept == causal.counts.kept
    assert manifest.counts.rejected == causal.counts.rejected
    assert manifest.counts.overlap_tokens == 0
    assert manifest.counts.tokens_written == manifest.counts.tokens_encoded
    texts = [split.text_bytes for split in manifest.splits.values()]
    assert texts == [split.text_bytes for split in causal.splits.values()]
    inspect_dataset.main(["verify", str(output)])
    capsys.readouterr()
    inspect_dataset.main(["row", str(output), "0"])
    shown = capsys.readouterr().out
    assert ("of targets" in shown) == (flags[0] in ("prefix", "span_corruption"))
    assert ("--- made from" in shown) == (flags[0] != "prefix")


@pytest.mark.parametrize("flags", PAIRS, ids=" ".join)
def test_pairs_keep_their_sides_and_one_that_does_not_fit_is_a_reject(
    flags: tuple[str, ...], pairs: Path, objective_tokenizer: Path, tmp_path: Path
) -> None:
    output = prepared.prepare(
        pairs,
        objective_tokenizer,
        tmp_path / "dataset",
        *("--objective", *flags, "--target_field", "target", "--workers", "1"),
    )
    manifest = read_manifest(str(output))
    assert manifest.counts.read == 201
    assert manifest.counts.rejected == {"too_long": 1}
    found = set(restored_texts(output).values())
    wanted = {f"how many are {n} and {n} ?{2 * n} !".encode() for n in range(200)}
    assert found == wanted
    inspect_dataset.main(["verify", str(output)])


@pytest.mark.parametrize("objective", ["span_corruption", "prefix"])
def test_drawn_examples_are_the_same_from_any_number_of_workers(
    objective: str, corpus: Path, objective_tokenizer: Path, tmp_path: Path
) -> None:
    outputs = [
        prepared.prepare(
            corpus,
            objective_tokenizer,
            tmp_path / f"{workers}-{shuffle}",
            *("--objective", objective, "--max_reject_fraction", "0.5"),
            *("--workers", workers, "--shuffle", shuffle),
        )
        for workers, shuffle in (("1", "files"), ("3", "groupbykey"))
    ]
    assert prepared.fingerprint(outputs[0]) == prepared.fingerprint(outputs[1])


def test_a_tokenizer_without_the_objectives_tokens_is_refused_before_any_work(
    corpus: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    output = tmp_path / "dataset"
    with pytest.raises(UsageError, match="--objective fill_in_middle"):
        prepared.prepare(
            corpus, tokenizer_file, output, "--objective", "fill_in_middle"
        )
    assert not output.exists()


def test_without_objectives_the_tokenizer_is_what_it_was(
    corpus: Path, objective_tokenizer: Path, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    flags = ["--input", f"{corpus}/**/*", "--output", str(path), "--vocab_size", "297"]
    train_tokenizer.main(flags)
    plain, more = Tokenizer.load(str(path)), Tokenizer.load(str(objective_tokenizer))
    assert (plain.vocab_size, more.vocab_size) == (297, 400)
    assert plain.bpe.merges == more.bpe.merges
    assert len(more.bpe.added) - len(plain.bpe.added) == 103
    assert tokenizer.SMALLEST_VOCABULARY == 259
