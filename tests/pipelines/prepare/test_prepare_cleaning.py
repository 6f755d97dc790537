# SPDX-License-Identifier: Apache-2.0
"""What is tidied in texts can be said, and stands in the dataset's configuration."""

import dataclasses
import json
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pipelines import train_tokenizer
from pipelines.curation.curation import compared_by
from pipelines.job.plan import PrepareConfig
from pipelines.prepare import prepare_flags
from pipelines.prepare.input_flags import cleaning_config
from preprocessing.contracts.manifest import read_manifest
from preprocessing.contracts.row_segments import row_segments
from preprocessing.contracts.shards import Shards
from preprocessing.foundation.commands import UsageError
from preprocessing.reading.documents import Documents
from preprocessing.rules.normalize import CleaningConfig
from tests.pipelines.prepared import prepare

RAW = [
    "the cat  \nsat\t\n\n\n\n\n\non\r\na mat\r",
    "e\u0301te\u0301 \x07bell\x85 \u2028 and \ufeffmark\n\n",
    "  indented\n\n\n\tmore \n",
    "plain",
    "\n \n",
]
LIGHT = [
    "the cat\nsat\n\n\non\na mat\n",
    "e\u0301te\u0301 bell \u2028 and \ufeffmark\n\n",
    "  indented\n\n\n\tmore\n",
    "plain",
]
ONE_BLANK = [
    "the cat\nsat\n\non\na mat\n",
    "e\u0301te\u0301 bell \u2028 and \ufeffmark\n\n",
    "  indented\n\n\tmore\n",
    "plain",
]
COMPOSED = [unicodedata.normalize("NFC", text) for text in LIGHT]
CASES = {
    "": LIGHT,
    "--cleaning none": RAW[:4],
    "--cleaning light --compose_nfc": COMPOSED,
    "--max_blank_lines 1": ONE_BLANK,
}


def texts_of(dataset: Path) -> list[str]:
    """Returns the texts of a dataset's segments, sorted, by the reference decoder."""
    manifest = read_manifest(str(dataset))
    tokenizer = Tokenizer.from_file(str(dataset / "tokenizer.json"))
    found = []
    for split in manifest.splits:
        shards = Shards(str(dataset), manifest, split)
        rows = shards.read(np.arange(shards.num_rows))
        for number in range(shards.num_rows):
            row = {name: values[number] for name, values in rows.items()}
            found += [segment.ids.tolist() for segment in row_segments(row)]
    return sorted(tokenizer.decode(ids) for ids in found)


@pytest.mark.slow
@pytest.mark.parametrize("flags", CASES)
def test_texts_come_out_as_the_flags_say(
    flags: str, tokenizer_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    lines = "".join(json.dumps({"text": text}) + "\n" for text in RAW)
    (tmp_path / "in" / "a.jsonl").write_text(lines)
    more = (*flags.split(), "--max_reject_fraction", "1", "--sequence_length", "256")
    dataset = prepare(tmp_path / "in", tokenizer_file, tmp_path / "out", *more)
    assert texts_of(dataset) == sorted(CASES[flags])
    manifest = read_manifest(str(dataset))
    assert manifest.counts.rejected == {"empty": 1}
    values = prepare_flags.parser().parse_args(["--tokenizer", "x", *flags.split()])
    config = cleaning_config(values)
    assert manifest.config["cleaning"] == (config and dataclasses.asdict(config))
    with pytest.raises(UsageError, match="cleaning"):
        other = "--compose_nfc" if "none" in flags else "--cleaning none"
        again = ("--cleaning", "light", *other.split())
        prepare(tmp_path / "in", tokenizer_file, tmp_path / "out", *more, *again)


@pytest.mark.slow
def test_a_text_of_nothing_that_has_ids_is_no_row_and_no_error(
    tokenizer_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    lines = ['{"text": "\\u0000\\u0000"}', '{"text": "a\\u0000b"}', '{"text": "cat"}']
    (tmp_path / "in" / "a.jsonl").write_text("\n".join(lines))
    more = ("--cleaning", "none", "--max_reject_fraction", "1")
    dataset = prepare(tmp_path / "in", tokenizer_file, tmp_path / "out", *more)
    assert set(texts_of(dataset)) - {""} == {"ab", "cat"}


def test_flags_are_the_configuration_and_contradictions_are_refused() -> None:
    def asked(*flags: str) -> CleaningConfig | None:
        made = prepare_flags.parser()
        return cleaning_config(made.parse_args(["--tokenizer", "x", *flags]))

    assert asked() == PrepareConfig.__dataclass_fields__["cleaning"].default_factory()
    assert asked("--cleaning", "none") is None
    assert asked("--max_blank_lines", "0") == CleaningConfig(max_blank_lines=0)
    assert asked("--compose_nfc") == CleaningConfig(compose=True)
    for more in (("--compose_nfc",), ("--max_blank_lines", "2")):
        with pytest.raises(UsageError, match=f"wanted {more[0]} with --cleaning light"):
            asked("--cleaning", "none", *more)
    with pytest.raises(UsageError, match="--max_blank_lines of 0 or more"):
        asked("--max_blank_lines", "-1")


def test_a_tokenizer_is_trained_on_texts_as_the_flags_say(tmp_path: Path) -> None:
    text = "word    \n\n\n\n\n\n\n\ne\u0301e\u0301" * 60
    source = tmp_path / "a.jsonl"
    source.write_text(json.dumps({"text": text}))

    def vocabulary(*flags: str) -> set[str]:
        output = tmp_path / f"{len(flags)}{flags[-1:]}.json"
        words = ["--input", str(source), "--output", str(output)]
        train_tokenizer.main([*words, "--vocab_size", "300", *flags])
        return set(Tokenizer.from_file(str(output)).get_vocab())

    # A blank and a line feed are written so; the last of a run goes to what follows.
    blanks, feeds, composed = "\u0120\u0120", "\u010a", "\u00c3\u00a9"

    def has(words: set[str], part: str) -> bool:
        return any(part in word for word in words)

    light, raw = vocabulary(), vocabulary("--cleaning", "none")
    assert has(raw, blanks) and not has(light, blanks)
    assert has(raw, feeds * 7) and has(light, feeds * 2) and not has(light, feeds * 3)
    fewer = vocabulary("--max_blank_lines", "4")
    assert has(fewer, feeds * 4) and not has(fewer, feeds * 5)
    assert has(vocabulary("--compose_nfc"), composed) and not has(light, composed)


TEXTS = st.text("\0\1\2a", max_size=4)


@given(one=st.tuples(TEXTS, TEXTS), other=st.tuples(TEXTS, TEXTS))
def test_pairs_that_were_not_cleaned_are_equal_where_both_parts_are(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    texts, targets = zip(one, other, strict=True)
    documents = Documents(
        "a",
        pa.array(texts, pa.large_string()),
        np.zeros((2, 16), np.uint8),
        np.zeros(2, np.int64),
        targets=pa.array(targets, pa.large_string()),
    )
    first, second = compared_by(documents, cleaned=False).to_pylist()
    assert (first == second) == (one == other)
