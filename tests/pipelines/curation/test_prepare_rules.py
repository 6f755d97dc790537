# SPDX-License-Identifier: Apache-2.0
"""Rules, lists, evaluation files and users' own code in whole preparations."""

import json
import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines import inspect_dataset, prepare_corpus
from preprocessing.contracts.manifest import read_manifest
from preprocessing.contracts.shards import Shards
from preprocessing.tokenizer.tokenizer import Tokenizer
from tests.pipelines.prepared import fingerprint, prepare, some_text

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PROSE = (
    "The harbour master wrote down the name of every ship that came in with the tide, "
    "and that list is why we know who was there on the day of the great storm. "
)
TEST_QUESTION = (
    "which of the seven bridges of the old town was built before the river was moved "
    "to its present bed"
)


def write_pages(directory: Path) -> Path:
    """Pages of every kind that a rule or a list is there to judge."""
    directory.mkdir()
    short, shop = "Too short.", "buy now " * 200
    pages = [
        {"id": f"good-{n}", "text": f"{PROSE * 3}Chapter {n} ends here, reader."}
        for n in range(40)
    ]
    pages += [
        {"id": "short", "text": short, "url": "https://a.example/short"},
        {"id": "shop", "text": shop, "url": "https://shop.example/x"},
        {"id": "blocked", "text": PROSE * 4, "url": "https://www.bad.example/page"},
        {"id": "mail", "text": PROSE * 5 + "Write to jane.doe@some-company.org now."},
        {"id": "leak", "text": f"{PROSE * 3}They asked {TEST_QUESTION}, again."},
        {"id": "german", "text": "Der Hafenmeister schrieb jedes Schiff auf. " * 20},
    ]
    lines = [json.dumps(page, ensure_ascii=False) for page in pages]
    (directory / "pages.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pages(tmp_path_factory.mktemp("rules") / "pages")


def rejects(dataset: Path) -> dict[str, dict[str, object]]:
    files = (dataset / "rejects").glob("*.jsonl")
    lines = [
        json.loads(line)
        for file in files
        for line in file.read_text().split("\n")
        if line
    ]
    return {f"{line['reason']} {line.get('check', '')}".strip(): line for line in lines}


def test_what_a_rule_rejects_says_rule_value_and_threshold(
    pages: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    dataset = prepare(
        pages,
        tokenizer_file,
        tmp_path / "out",
        "--rules",
        "gopher_quality@1:min_words=10",
    )
    found = rejects(dataset)["gopher_quality@1 min_words"]
    assert (found["value"], found["threshold"], found["id"]) == (2, 10, "short")
    assert found["detail"] == "words 2, wanted 10 or more"
    counts = read_manifest(str(dataset)).counts
    assert counts.read == counts.kept + sum(counts.rejected.values())


def test_lists_and_evaluation_files_reject_by_name(
    pages: Path,
    tokenizer_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    blocked, tasks = tmp_path / "blocked.txt", tmp_path / "bridges.jsonl"
    blocked.write_text("bad.example  # spam\n")
    tasks.write_text(json.dumps({"question": TEST_QUESTION, "choices": ["one"]}) + "\n")
    flags = ["--block_addresses", str(blocked), "--decontaminate", str(tasks)]
    dataset = prepare(pages, tokenizer_file, tmp_path / "out", *flags)
    found = rejects(dataset)
    assert found["addresses block"]["threshold"] == "bad.example"
    assert "bridges.jsonl" in str(found["contaminated most_matches"]["value"])
    inspect_dataset.main(["find", str(dataset), "leak"])
    assert "rejected: contaminated" in capsys.readouterr().out
    inspect_dataset.main(["find", str(dataset), "good-7"])
    assert "kept: " in capsys.readouterr().out


def test_personal_data_is_replaced_after_duplicates_are_found(
    pages: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    flags = ["--rules", "personal_data@1", "--sequence_length", "1024"]
    dataset = prepare(pages, tokenizer_file, tmp_path / "out", *flags)
    text = text_of(dataset)
    assert "Write to email@example.com now." in text and "jane.doe" not in text


def text_of(dataset: Path) -> str:
    """All text of the training split, as it is stored."""
    manifest = read_manifest(str(dataset))
    shards = Shards(str(dataset), manifest, "train")
    tokens = shards.read(np.arange(shards.num_rows))["tokens"]
    tokenizer = Tokenizer.restore(
        str(dataset / "tokenizer.json"),
        bos_id=manifest.bos_id,
        eos_id=manifest.eos_id,
        pad_id=manifest.pad_id,
    )
    return tokenizer.decode(tokens.ravel().tolist())


@pytest.mark.drill
def test_the_same_bytes_come_from_one_worker_and_three_with_every_rule(
    pages: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    flags = ["--rules", "web_en", "--deduplicate", "exact", "lines", "near"]
    one, three = (
        prepare(pages, tokenizer_file, tmp_path / n, *flags, "--workers", n)
        for n in ("1", "3")
    )
    assert fingerprint(one) == fingerprint(three)
    inspect_dataset.main(["verify", str(one)])


def test_a_dry_run_counts_what_a_run_does_and_writes_nothing(
    pages: Path,
    tokenizer_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--rules", "gopher_quality@1", "--deduplicate", "exact", "near"]
    dataset = prepare(pages, tokenizer_file, tmp_path / "out", *flags)
    kept = read_manifest(str(dataset)).counts.kept
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    arguments = ["--input", f"{pages}/*", "--tokenizer", str(tokenizer_file)]
    prepare_corpus.main([*arguments, "--dry_run", *flags])
    printed = capsys.readouterr().out
    assert re.search(rf"^kept +{kept} ", printed, re.M)
    assert "gopher_quality@1 min_words" in printed
    assert sorted(tmp_path.rglob("*")) == before


def test_the_guides_own_rule_and_reader_work_as_printed(
    tokenizer_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = (ROOT / "docs" / "preparing.md").read_text()
    source = re.search(r"```python\n# my_rules\.py\n(.*?)```", guide, re.S)
    assert source
    (tmp_path / "my_rules.py").write_text(source[1])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # for the workers
    recipes = tmp_path / "input" / "a.recipes"
    recipes.parent.mkdir()
    texts = [some_text_of(n) for n in range(20)] + ["LOUD AND LOUDER STILL"]
    recipes.write_text("\n%%\n".join(texts))
    dataset = prepare(
        *(recipes.parent, tokenizer_file, tmp_path / "out"),
        *("--format", "my_rules:read_recipes"),
        *("--rules", "my_rules:shouting:most=0.4"),
    )
    sys.modules.pop("my_rules")
    counts = read_manifest(str(dataset)).counts
    assert (counts.read, counts.kept) == (21, 20)
    found = rejects(dataset)["my_rules:shouting shouting"]
    assert (found["value"], found["threshold"]) == (1.0, "most=0.4")


def some_text_of(seed: int) -> str:
    return some_text(random.Random(seed), 30).lower()
