# SPDX-License-Identifier: Apache-2.0
"""A release's README.md is a model card that Hugging Face's own reader takes."""

import dataclasses
import json
import re

import pytest
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.contracts.manifest import read_manifest
from preprocessing.contracts.releases import LINEAGE_NAME, Lineage, read_lineage
from tests.datasets import write_dataset
from tests.trainer.labels.trees import lineage
from trainer.release.card import model_card
from trainer.release.run_facts import dataset_facts

EVALUATION = {
    "step": 5,
    "validation_loss": 2.0,
    "bits_per_byte": 1.25,
    "sources": {"books": {"loss": 2.5, "bits_per_byte": None, "tokens": 7}},
}
LATER = ("run", "checkpoint_sha256", "parameters", "dataset", "training", "evaluation")
LATER = (*LATER, "files")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Lineage:
    """A lineage with every fact, of a mixture that was filtered."""
    directory = tmp_path_factory.mktemp("card") / "dataset"
    facts = dataset_facts(
        read_manifest(str(write_dataset(directory, sources=("books", "web"))))
    )
    facts["config"] = {
        "rules": [{"name": "gopher_quality", "version": 1}],
        "deduplicate": ["exact"],
        "mixture": {"sources": [{"name": "books", "weight": 0.7, "epochs": 4}]},
    }
    facts["counts"] |= {"read": 190, "rejected": {"rule.too_short": 10}}
    return lineage(
        run="first",
        checkpoint_sha256="c" * 64,
        parameters=1234567,
        dataset=facts,
        training={"rows": 40, "seconds": 61.0},
        evaluation=EVALUATION,
        files={"saved_model.pb": 2_000_000},
    )


def sections(card: str) -> dict[str, str]:
    parts = re.split(r"^## (.*)\n", card, flags=re.M)
    return dict(zip(parts[1::2], map(str.strip, parts[2::2]), strict=True))


def test_hugging_faces_reader_finds_licence_tags_and_results(whole):
    card = ModelCard(model_card(whole))
    assert card.data.license == "unknown" and "tensorflow" in card.data.tags
    assert card.data.pipeline_tag == "text-generation"
    assert card.data.model_name == "first, step 5"
    results = {each.metric_type: each.metric_value for each in card.data.eval_results}
    assert results == {"loss": 2.0, "perplexity": 7.3891, "bits_per_byte": 1.25}
    again = ModelCard(str(card))
    assert again.text == card.text and again.data.to_dict() == card.data.to_dict()


def test_a_card_leads_from_the_release_to_all_it_is_made_of(whole):
    told = sections(model_card(whole))
    assert "1,234,567" in told["Model"] and "2.0 MB" in told["Model"]
    for fact in (
        "run | first",
        "step 5",
        "c" * 64,
        "d" * 64,
        "e" * 64,
        "quern | 0.1.0",
    ):
        assert fact in told["Where it is from"]
    assert "| train |" in told["Data"] and "| validation |" in told["Data"]
    assert re.search(r"\| books \|.*%.*\| 0.7 \| 4 \|", told["Mixture"])
    assert "gopher_quality" in told["Filters and counts"]
    assert "Of 190 documents read, 180 stayed" in told["Filters and counts"]
    assert "| rule.too_short | 10 |" in told["Filters and counts"]
    assert "40 rows" in told["Training"] and "seed = 0" in told["Training"]
    assert "| books | 2.5000 | - |" in told["Evaluation"]
    assert "64 tokens" in told["Limits"]
    for part in ("weights", "data of source books", "data of source web"):
        assert f"| {part} | *to be filled in* |" in told["Licence"]


def test_a_release_of_an_earlier_quern_loads_and_its_card_says_what_it_lacks(
    whole, tmp_path
):
    fields = {k: v for k, v in dataclasses.asdict(whole).items() if k not in LATER}
    (tmp_path / "assets").mkdir()
    (tmp_path / LINEAGE_NAME).write_text(json.dumps(fields))
    old = read_lineage(str(tmp_path))
    assert old == dataclasses.replace(lineage())
    card = model_card(old)
    assert ModelCard(card).data.eval_results is None
    assert sections(card)["Data"].startswith("not known: the Quern that exported")
    assert "Not measured at this checkpoint" in card and "e" * 64 in card


def test_published_weights_are_named_by_their_digest():
    config = {"model": {"family": "decoder"}, "published": {"digest": "p" * 64}}
    weights = dataclasses.replace(lineage(0), config=config, dataset_hash=None)
    told = sections(model_card(weights))
    assert "p" * 64 in told["Where it is from"]
    assert "published by others" in told["Data"] and "Filters and counts" not in told


@settings(deadline=None)
@given(st.text(max_size=12), st.text(max_size=12))
def test_no_name_breaks_the_head_or_a_table(run, source):
    split = {"rows": 1, "tokens": 1, "text_bytes": 1}
    kinds = ("read", "kept", "tokens_encoded", "tokens_written", "dropped_tokens")
    dataset = {
        "splits": {"train": {**split, "sources": {source: split}}},
        "config": {},
        "counts": {**dict.fromkeys(kinds, 0), "rejected": {source: 1}},
        "input_files": 1,
        "objective": "causal",
        "sequence_length": 1,
        "seed": 0,
    }
    text = model_card(lineage(run=run, dataset=dataset, evaluation=EVALUATION))
    card = ModelCard(text)
    assert card.data.model_name == (f"{run}, step 5" if run else "A model of step 5")
    tables = [line for line in text.split("\n") if line.startswith("|")]
    assert all(line.endswith(" |") for line in tables)
    (row,) = [x for x in tables if x.endswith("| 100.0% | - | - |")]
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == 7
