# SPDX-License-Identifier: Apache-2.0
"""Texts in, texts out: order, errors and counts, over a model of whole numbers."""

from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.contracts.generation_config import GenerationConfig
from preprocessing.foundation.bisection import bisected
from tests.trainer.serving.engine.counting_model import CountingModel, continued
from trainer.serving.answering import answer_texts
from trainer.serving.engine.prompts import as_read
from trainer.serving.engine.requests import SlotRequest

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEF"
POISON = "F"  # beyond the ids that the model makes


class Letters:
    """A tokenizer with an id a letter, 3 and on."""

    def token_bytes(self):
        return [b""] * 3 + [letter.encode() for letter in LETTERS]

    def encode_batch(self, texts):
        if any("uncountable" in text for text in texts):
            raise ValueError("cannot encode this")
        ids = [3 + LETTERS.index(letter) for text in texts for letter in text]
        return np.array(ids, np.uint32), np.array([len(text) for text in texts])

    def decode(self, ids, num_bytes=None):
        table = self.token_bytes()
        text = b"".join(table[id] for id in ids if id < len(table))
        return text[:num_bytes].decode()


LINEAGE = SimpleNamespace(context=20, bos_id=1, eos_id=7)


def run(texts, poison=(), **settings):
    model = SimpleNamespace(
        lineage=LINEAGE, tokenizer=Letters(), slots=CountingModel(poison)
    )
    config = GenerationConfig(**{"max_new_tokens": 4, "batch_size": 3} | settings)
    told = []
    seeds = range(len(texts))
    report = lambda *done: told.append(done)  # noqa: E731
    return *answer_texts(texts, seeds, model, config, report), told


def wanted(text, most=4):
    ids = [3 + LETTERS.index(letter) for letter in text]
    made, reason = continued(SlotRequest(0, *as_read(ids, most, LINEAGE)))
    told = {"text": Letters().decode(made), "num_tokens": len(made)}
    return told | {"finish_reason": reason}


def test_prompts_at_fault_cost_their_neighbours_nothing():
    texts = ["a", "bb", "F", "ccc", "uncountable", "dddd", "Fa", "eeeee", "f"]
    found, _, told = run(texts, poison=[3 + LETTERS.index(POISON)])
    for text, answer in zip(texts, found, strict=True):
        if POISON in text:
            error = "generation failed: cannot swallow this"
        elif text == "uncountable":
            error = "encoding failed: cannot encode this"
        else:
            assert answer == wanted(text)
            continue
        assert answer == {"error": error}
    made = sum(answer.get("num_tokens", 0) for answer in found)
    assert told[-1] == (len(texts), made)
    assert told == sorted(told)


def test_a_prompt_that_loses_ids_is_told():
    # A context of 20 less 4 new ids and BOS leaves 15.
    texts = ["b" * 15, "b" * 16, "b" * 25, ""]
    found, shortened, _ = run(texts)
    assert shortened == 2
    assert [each.pop("shortened", False) for each in found] == [0, 1, 1, 0]
    assert found == [wanted(text) for text in texts]


def test_what_follows_a_stop_string_is_cut_and_not_counted():
    free = next(text for text in LETTERS if len(wanted(text, 12)["text"]) == 12)
    whole = wanted(free, 12)["text"]
    stop = whole[5:7]
    found, _, told = run([free], max_new_tokens=12, stop=(stop, "no such"))
    at = whole.index(stop)
    assert found == [{"text": whole[:at], "num_tokens": at, "finish_reason": "stop"}]
    assert told == [(1, at)]


@given(st.sets(st.integers(0, 30), max_size=31), st.sets(st.integers(0, 30)))
def test_bisection_finds_exactly_the_rows_that_fail_alone(rows, bad):
    def run_rows(batch):
        if bad & set(batch):
            raise RuntimeError("")
        return [{"text": str(row)} for row in batch]

    found = bisected(sorted(rows), run_rows) if rows else {}
    assert set(found) == rows
    assert {row for row, result in found.items() if "error" in result} == rows & bad
