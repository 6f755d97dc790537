# SPDX-License-Identifier: Apache-2.0
"""Documents are kept by their language, found with a model that is already here."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.commands import UsageError
from preprocessing.rules.language import (
    Thresholds,
    failures,
    identify,
    judge,
    known_languages,
    shares,
)
from tests.scripts_corpus import SENTENCES

CODES = {
    "english": "en",
    "french": "fr",
    "vietnamese": "vi",
    "russian": "ru",
    "greek": "el",
    "hebrew": "he",
    "arabic": "ar",
    "hindi": "hi",
    "bengali": "bn",
    "tamil": "ta",
}


def strings(texts):
    return pa.array(texts, pa.large_string())


def test_sentences_of_ten_languages_are_told_apart():
    found = identify(strings([SENTENCES[name] for name in CODES]))
    assert found.codes == list(CODES.values())
    assert found.probabilities.dtype == np.float32
    assert (found.probabilities > 0.65).all()
    assert len(known_languages()) == 176


def test_a_long_document_is_what_most_of_it_is_not_what_it_begins_with():
    menu, body = SENTENCES["english"] * 8, SENTENCES["russian"] * 200
    assert len(menu) > 1000
    assert identify(strings([menu + "\n" + body])).codes == ["ru"]


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.text(max_size=40), max_size=4), copies=st.integers(1, 300))
def test_any_text_has_a_language_or_none_whatever_stands_beside_it(texts, copies):
    texts = [text * copies for text in texts]
    found = identify(strings(["", *texts])[1:])
    for place, text in enumerate(texts):
        alone = identify(strings([text]))
        assert found.codes[place] == alone.codes[0]
        assert found.probabilities[place] == alone.probabilities[0]
        assert 0 <= alone.probabilities[0] <= 1
        if not text.strip():
            assert alone.codes == ["und"]


def test_other_languages_and_uncertain_ones_are_rejected():
    texts = strings([SENTENCES["english"], SENTENCES["french"], "", SENTENCES["greek"]])
    judged = judge(texts, Thresholds(("en", "el")))
    assert judged.texts is texts
    assert [(each.place, each.check, each.value) for each in judged.failures] == [
        (1, "languages", "fr"),
        (2, "languages", "und"),
    ]
    assert judged.failures[0].threshold == "en el"
    found = identify(texts)
    assert [each.place for each in failures(found, Thresholds())] == [2]
    highest = float(found.probabilities.max())
    uncertain = failures(found, Thresholds(least=min(1.0, highest + 1e-4)))
    assert {each.check for each in uncertain} == {"least"}
    assert len(uncertain) == 4 or highest == 1


def test_shares_count_every_document_and_byte():
    texts = strings(
        [SENTENCES["english"], SENTENCES["greek"], SENTENCES["english"], ""]
    )
    documents, sizes = shares(texts, identify(texts))
    assert documents == {"en": 2, "el": 1, "und": 1}
    size = {name: len(SENTENCES[name].encode()) for name in CODES}
    assert sizes == {"en": 2 * size["english"], "el": size["greek"], "und": 0}


@pytest.mark.parametrize(
    ("values", "message"),
    [((("english",), 0.65), "found 'english'"), (((), 1.5), "found 1.5")],
)
def test_a_language_the_model_does_not_know_is_refused(values, message):
    with pytest.raises(UsageError, match=message):
        Thresholds(*values)
