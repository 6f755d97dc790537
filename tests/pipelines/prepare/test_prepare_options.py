# SPDX-License-Identifier: Apache-2.0
"""Counters agree and every byte is accounted for, whatever is asked for together."""

import json
import random
from pathlib import Path

import pytest

from pipelines import inspect_dataset, prepare_corpus
from preprocessing.contracts.manifest import read_manifest
from preprocessing.tokenizer import tokenizer
from preprocessing.tokenizer.special_tokens import OBJECTIVE_TOKENS
from tests.pipelines.prepared import SMALL, some_text

pytestmark = pytest.mark.slow

MIXTURE = """
[sources.one]
input = "{corpus}/one.jsonl"
weight = 3
epochs = 2

[sources.two]
input = "{corpus}/two.jsonl"
weight = 1
"""
RULES = [
    *("--rules", "personal_data@1", "gopher_quality@1:min_words=4,min_stop_words=0"),
    "c4@tfds:min_sentences=1",
]
CASES = {
    "nothing": ["--deduplicate", "none"],
    "rules and every duplicate": [*RULES, "--deduplicate", "exact", "lines", "near"],
    "near alone, compared": ["--deduplicate", "near", "--near_jaccard", "0.5"],
    "a mixture of pairs": ["--mixture", "--objective", "pairs", *RULES],
    "a mixture of holes": ["--mixture", "--objective", "span_corruption"],
    "a mixture to fill in": [
        *(
            "--mixture",
            "--objective",
            "fill_in_middle",
            "--deduplicate",
            "exact",
            "near",
        )
    ],
    "prefixes, concatenated lines": [
        *("--objective", "prefix", "--deduplicate", "exact", "lines")
    ],
    "full rows": ["--packing", "concat", "--validation_fraction", "0"],
    "pairs for a decoder": [
        *("--objective", "pairs", "--layout", "decoder", "--deduplicate", "near")
    ],
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of documents with targets; texts, targets and lines are repeated."""
    corpus = tmp_path_factory.mktemp("options")
    rng = random.Random(3)
    texts = [some_text(rng, rng.choice([0, 1, 30, 90, 200])) for _ in range(60)]
    for name in ("one", "two"):
        with (corpus / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for number in range(150):
                text = (
                    rng.choice(texts) + f".\nThe same line, everywhere.\n{number % 40}"
                )
                line = {"id": f"{number}", "text": text, "target": text[:60] or "none"}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    special = [token for tokens in OBJECTIVE_TOKENS.values() for token in tokens]
    (corpus / "tokenizer.json").write_bytes(tokenizer.train(texts, 500, special))
    (corpus / "mixture.toml").write_text(MIXTURE.format(corpus=corpus))
    return corpus


@pytest.mark.smoke
@pytest.mark.parametrize("flags", CASES.values(), ids=CASES)
def test_a_preparation_with_these_flags_is_whole(
    pairs: Path, tmp_path: Path, flags: list[str]
) -> None:
    source = ["--input", f"{pairs}/*.jsonl"]
    if flags[0] == "--mixture":
        source, flags = ["--mixture", f"{pairs}/mixture.toml"], flags[1:]
    dataset = str(tmp_path / "out")
    prepare_corpus.main(
        [
            *source,
            *("--tokenizer", f"{pairs}/tokenizer.json", "--output", dataset),
            *("--sequence_length", "128", "--validation_fraction", "0.1"),
            *("--max_reject_fraction", "1", "--workers", "1"),
            *flags,
        ],
        SMALL,
    )
    inspect_dataset.main(["verify", dataset])
    counts = read_manifest(dataset).counts
    assert counts.read == 300 == counts.kept + sum(counts.rejected.values())
    assert counts.kept > 0
    made = counts.tokens_encoded + counts.overlap_tokens
    assert made == counts.tokens_written + counts.dropped_tokens
