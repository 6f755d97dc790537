# SPDX-License-Identifier: Apache-2.0
"""Rules are found by name and version, and every threshold can be set."""

import sys

import pyarrow as pa
import pytest

from preprocessing.foundation.commands import UsageError
from preprocessing.rules.named import PRESETS, build, parse_rules, with_languages

OWN = """
def digits(texts, *, most=3):
    counts = [sum(letter.isdigit() for letter in text) for text in texts]
    return [count if count > most else None for count in counts]


def too_few(texts):
    return []
"""


@pytest.fixture
def own_rules(tmp_path, monkeypatch):
    (tmp_path / "rules_of_my_own.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("rules_of_my_own", None)


def test_the_published_thresholds_hold_where_none_is_given():
    (rule,) = parse_rules(["gopher_quality@1"])
    published = {"min_words": 50, "max_words": 100_000, "min_letter_words": 0.8}
    assert published.items() <= rule.thresholds.items()


def test_a_changed_threshold_is_the_only_one_that_changes():
    (before,) = parse_rules(["gopher_quality@1"])
    (after,) = parse_rules(["gopher_quality@1:min_words=20,max_hashes=0.2"])
    changed = {"min_words": 20, "max_hashes": 0.2}
    assert after.thresholds == {**before.thresholds, **changed}


def test_the_two_c4_rules_have_each_others_numbers_reversed():
    tfds, datatrove = parse_rules(["c4@tfds", "c4@datatrove"])
    assert (tfds.thresholds["min_words"], tfds.thresholds["min_sentences"]) == (5, 3)
    found = datatrove.thresholds["min_words"], datatrove.thresholds["min_sentences"]
    assert found == (3, 5)


def test_web_en_is_finewebs_order():
    names = [rule.name for rule in parse_rules(["web_en"])]
    assert names == [
        "language@1",
        "gopher_repetition@1",
        "gopher_quality@1",
        "c4@datatrove",
        "fineweb@1",
        "personal_data@1",
    ]
    assert len(names) == len(PRESETS["web_en"])


def test_languages_replace_those_of_a_preset_or_come_first():
    changed = with_languages(parse_rules(["web_en"]), ["de", "fr"])
    assert changed[0].thresholds["languages"] == ["de", "fr"]
    assert len(changed) == len(PRESETS["web_en"])
    put_first = with_languages(parse_rules(["fineweb@1"]), ["ja"])
    assert [rule.name for rule in put_first] == ["language@1", "fineweb@1"]


@pytest.mark.parametrize(
    ("argument", "found"),
    [
        ("gopher_qualty@1", "Did you mean gopher_quality@1?"),
        ("gopher_quality", "Did you mean gopher_quality@1?"),
        ("gopher_quality@1:min_word=3", "Did you mean min_words?"),
        ("gopher_quality@1:min_words=few", "found 'few'"),
        ("no_such_module_at_all:rule", "no_such_module_at_all"),
    ],
)
def test_what_is_unknown_is_refused_with_a_suggestion(argument, found):
    with pytest.raises(UsageError, match="wanted") as error:
        parse_rules([argument])
    assert found in str(error.value)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999"])
def test_a_threshold_that_json_cannot_hold_is_refused(text):
    with pytest.raises(UsageError, match="finite number for max_hashes"):
        parse_rules([f"gopher_quality@1:max_hashes={text}"])


def test_a_rule_named_twice_is_refused():
    with pytest.raises(UsageError, match="fineweb@1 twice"):
        parse_rules(["web_en", "fineweb@1"])


def test_a_rule_of_ones_own_rejects_what_it_measures(own_rules):
    (config,) = parse_rules(["rules_of_my_own:digits:most=1"])
    texts = pa.array(["a1", "a12", "b", "c345"], pa.large_string())
    judged = build(config)(texts)
    assert judged.texts is texts
    found = [(failure.place, failure.value) for failure in judged.failures]
    assert found == [(1, 2), (3, 3)]
    assert judged.failures[0].check == "digits"
    assert judged.failures[0].threshold == "most=1"
    assert len(config.code) == 64


def test_a_rule_that_forgets_texts_is_named(own_rules):
    (config,) = parse_rules(["rules_of_my_own:too_few"])
    with pytest.raises(UsageError, match="rules_of_my_own:too_few, found 0 for 2"):
        build(config)(pa.array(["a", "b"], pa.large_string()))
