# SPDX-License-Identifier: Apache-2.0
"""Near duplicates and repeated lines in whole preparations: what goes, what stays."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from preprocessing.contracts.manifest import read_manifest
from preprocessing.contracts.shards import Shards
from preprocessing.tokenizer.tokenizer import Tokenizer
from tests.pipelines.prepared import fingerprint, prepare, some_text

pytestmark = pytest.mark.slow

FLAGS = ("--deduplicate", "exact", "lines", "near", "--max_reject_fraction", "0.5")
# No document is cut, so that a segment is a document.
WHOLE = ("--sequence_length", "4096")
FOOTER = "all rights of this page are reserved"
COUNT, PLANTED = 120, range(3, 120, 10)


def text_of(number: int) -> str:
    """A document and, where `PLANTED` asks for it, the same with a word more."""
    planted = number in PLANTED
    words = some_text(random.Random(number - planted), 150)
    return f"{words}{' more' * planted}\n{FOOTER}\nend {number % 7}"


@pytest.fixture(scope="module")
def similar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus in three files: similar documents lie in different tasks."""
    directory = tmp_path_factory.mktemp("similar")
    for part in range(3):
        lines = [
            json.dumps({"id": f"n{number}", "text": text_of(number)}) + "\n"
            for number in range(part, COUNT, 3)
        ]
        (directory / f"{part}.jsonl").write_text("".join(lines))
    return directory


@pytest.fixture(scope="module")
def judged(
    similar: Path, tokenizer_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("judged") / "dataset"
    return prepare(similar, tokenizer_file, output, *FLAGS, *WHOLE, "--workers", "1")


def texts_of(dataset: Path, *splits: str) -> list[str]:
    """Decodes every segment of a dataset whose documents are whole."""
    manifest = read_manifest(str(dataset))
    tokenizer = Tokenizer.load(str(dataset / "tokenizer.json"))
    texts = []
    for split in splits or manifest.splits:
        rows = Shards(str(dataset), manifest, split)
        read = rows.read(np.arange(rows.num_rows))
        for ids, lengths in zip(read["tokens"], read["segment_lengths"], strict=True):
            ends = np.cumsum(lengths[lengths > 0])
            texts += [
                tokenizer.decode(part[part != manifest.eos_id].tolist())
                for part in np.split(ids, ends)[: len(ends)]
            ]
    return texts


def test_planted_near_duplicates_and_repeated_lines_go_and_nothing_else(
    judged: Path,
) -> None:
    texts = texts_of(judged)
    stay = {n for n in range(COUNT) if n + 1 not in PLANTED}
    assert sorted(text.split("\n")[0] for text in texts) == sorted(
        text_of(number).split("\n")[0] for number in stay
    )
    assert "\n".join(texts).count(FOOTER) == 1
    # Two words are too few to be looked for elsewhere.
    assert all(text.split("\n")[-1].startswith("end ") for text in texts)
    counts = read_manifest(str(judged)).counts
    assert counts.rejected == {"near_duplicate": len(PLANTED)}
    assert (counts.read, counts.kept) == (COUNT, COUNT - len(PLANTED))


def test_near_duplicates_never_lie_on_both_sides_of_the_split(
    similar: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    def families(dataset: Path, split: str) -> set[str]:
        texts = texts_of(dataset, split)
        return {text.split("\n")[0].removesuffix(" more") for text in texts}

    half = ("--validation_fraction", "0.5", "--workers", "1", *WHOLE)
    for kinds, crossing in (("exact", True), ("near", False)):
        output = tmp_path / kinds
        prepare(similar, tokenizer_file, output, "--deduplicate", kinds, *half)
        both = families(output, "train") & families(output, "validation")
        assert bool(both) == crossing


def test_a_near_duplicates_reject_leads_to_the_document_that_stayed(
    judged: Path, similar: Path
) -> None:
    lines = (judged / "rejects" / "near_duplicate-00000.jsonl").read_text()
    for line in map(json.loads, lines.splitlines()):
        lost, detail = (
            json.loads(at(similar, line["path"], line["offset"])),
            line["detail"],
        )
        path, _, rest = detail.removeprefix("nearly the text of ").partition(" at ")
        kept = json.loads(at(similar, path, int(rest.split()[1].rstrip(";"))))
        assert int(kept["id"][1:]) == int(lost["id"][1:]) + 1 in PLANTED
        assert detail.endswith("of 2 documents")
        assert line["id"] == lost["id"]


def at(corpus: Path, path: str, offset: int) -> bytes:
    return (corpus / path).read_bytes()[offset:].split(b"\n")[0]


@pytest.mark.parametrize(
    "flags",
    [
        ("--workers", "3"),
        ("--runner", "FnApiRunner", "--shuffle", "groupbykey", "--workers", "2"),
    ],
)
def test_any_runner_and_shuffle_write_the_same_bytes(
    flags: tuple[str, ...],
    similar: Path,
    tokenizer_file: Path,
    judged: Path,
    tmp_path: Path,
) -> None:
    other = prepare(similar, tokenizer_file, tmp_path / "out", *FLAGS, *WHOLE, *flags)
    assert fingerprint(other) == fingerprint(judged)


def test_near_duplicates_are_found_without_exact_ones_and_checked_exactly(
    similar: Path, tokenizer_file: Path, tmp_path: Path
) -> None:
    for wanted, found in (("0.9", len(PLANTED)), ("0.9999", 0)):
        flags = ("--deduplicate", "near", "--near_jaccard", wanted, "--workers", "1")
        output = prepare(similar, tokenizer_file, tmp_path / wanted, *flags)
        counts = read_manifest(str(output)).counts
        assert counts.rejected.get("near_duplicate", 0) == found
