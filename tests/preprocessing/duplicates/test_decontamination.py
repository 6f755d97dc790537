# SPDX-License-Identifier: Apache-2.0
"""A document is rejected exactly if it shares a run of 13 words with an evaluation."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.duplicates.decontamination import (
    ContaminationThresholds,
    EvaluationTask,
    Index,
    build_index,
    judge,
)
from preprocessing.foundation.commands import UsageError

WORDS = st.lists(st.sampled_from("abc"), max_size=12).map(" ".join)
TEXTS = st.lists(WORDS, max_size=4)


def large(*texts):
    return pa.array(texts, pa.large_string())


def numbered(start, end):
    return " ".join(f"w{number}" for number in range(start, end))


def runs(text, length):
    words = text.split()
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


@settings(deadline=None)
@given(one=TEXTS, two=TEXTS, documents=TEXTS, length=st.integers(1, 4))
def test_matches_are_the_runs_of_words_that_both_have(one, two, documents, length):
    thresholds = ContaminationThresholds(ngram=length)
    index = build_index({"one": large(*one), "two": large(*two)}, thresholds)
    matches = index.matches(large(*documents))
    files = [set().union(*(runs(text, length) for text in file)) for file in (one, two)]
    held = [runs(text, length) for text in documents]
    wanted = [len(both & (files[0] | files[1])) for both in held]
    found = np.bincount(matches.documents, minlength=len(documents))
    assert found.tolist() == wanted
    owners = [sum(bool(both & file) for both in held) for file in files]
    assert index.documents_by_file(matches).tolist() == owners
    assert index.short.tolist() == [
        sum(not runs(text, length) for text in file) for file in (one, two)
    ]
    report = index.report(np.zeros(2, np.int64), np.unique(matches.ngrams))
    together = set().union(*held)
    assert [task.ngrams for task in report] == [len(file & together) for file in files]
    assert [task.touched for task in report] == [
        sum(bool(runs(text, length) & together) for text in file) for file in (one, two)
    ]


def test_thirteen_words_are_found_in_any_case_and_layout_and_twelve_are_not():
    index = build_index({"quiz": large(numbered(0, 40))}, ContaminationThresholds())
    documents = large(
        f"A page. {numbered(5, 18).upper().replace(' ', ', ')}! And on.",
        f"A page. {numbered(5, 17)} and on.",
        "",
    )
    judged, matches = judge(documents, index, ContaminationThresholds())
    assert judged.texts is documents
    (failure,) = judged.failures
    assert (failure.place, failure.check) == (0, "most_matches")
    assert (failure.value, failure.threshold) == ("1 (quiz)", 0)
    assert matches.documents.tolist() == [0]


def test_a_document_may_hold_as_many_runs_as_the_threshold_says():
    index = build_index({"quiz": large(numbered(0, 40))}, ContaminationThresholds())
    documents = large(*(f"{numbered(0, end)} the end" for end in (14, 15, 16)))
    judged, matches = judge(documents, index, ContaminationThresholds(most_matches=2))
    assert [(f.place, f.value, f.threshold) for f in judged.failures] == [
        (1, "3 (quiz)", 2),
        (2, "4 (quiz)", 2),
    ]
    assert set(matches.documents.tolist()) == {1, 2}


def test_the_report_counts_documents_runs_and_texts_for_each_file():
    files = {
        "maths": large(numbered(0, 14), numbered(100, 120), "two words"),
        "law": large(numbered(0, 13), numbered(300, 320)),
    }
    index = build_index(files, ContaminationThresholds())
    documents = large(numbered(0, 14), numbered(0, 13), numbered(310, 340), "none")
    judged, matches = judge(documents, index, ContaminationThresholds())
    assert [failure.value for failure in judged.failures] == ["2 (law)", "1 (law)"]
    ngrams = np.unique(matches.ngrams)
    assert index.report(index.documents_by_file(matches), ngrams) == [
        EvaluationTask("law", texts=2, short=0, touched=1, ngrams=1, documents=2),
        EvaluationTask("maths", texts=3, short=1, touched=1, ngrams=2, documents=2),
    ]


def test_scripts_without_spaces_are_compared_by_24_characters():
    text = "".join(chr(0x4E00 + 7 * number) for number in range(60))
    index = build_index({"quiz": large(text)}, ContaminationThresholds())
    documents = large("好。" + text[10:34] + "。好", "好。" + text[10:33] + "。好")
    judged, _ = judge(documents, index, ContaminationThresholds())
    assert [failure.place for failure in judged.failures] == [0]


def test_an_index_is_the_same_bytes_whatever_the_order_of_its_files():
    files = {"b": large(numbered(0, 99), numbered(5, 60)), "ä": large(numbered(50, 99))}
    data = build_index(files, ContaminationThresholds()).to_bytes()
    assert (
        build_index(dict(reversed(files.items())), ContaminationThresholds()).to_bytes()
        == data
    )
    read = Index.from_bytes(data)
    assert read.to_bytes() == data
    documents = large(numbered(40, 80))
    assert len(read.matches(documents).ngrams) == 80 - 40 - 12


def test_every_run_of_a_large_index_is_found_and_none_of_another_text():
    rng = np.random.default_rng(0)
    first, second = (
        [" ".join(map(str, row)) for row in rng.integers(0, 10**9, (400, 300))]
        for _ in range(2)
    )
    index = build_index({"quiz": large(*first)}, ContaminationThresholds())
    assert len(index.matches(large(*first)).ngrams) == 400 * (300 - 12)
    assert len(index.matches(large(*second)).ngrams) == 0


def test_files_without_a_text_that_is_long_enough_match_nothing():
    index = build_index(
        {"quiz": large("too short"), "none": large()}, ContaminationThresholds()
    )
    judged, matches = judge(
        large("too short", numbered(0, 50)), index, ContaminationThresholds()
    )
    assert not judged.failures and not len(matches.ngrams)
    assert index.short.tolist() == [0, 1]


@pytest.mark.parametrize("name", ["ngram", "characters", "most_matches"])
def test_thresholds_that_make_no_sense_are_refused(name):
    with pytest.raises(UsageError, match=f"wanted {name} of . or more"):
        ContaminationThresholds(**{name: -1})
