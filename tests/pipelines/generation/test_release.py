# SPDX-License-Identifier: Apache-2.0
"""The handler's own logic, with a stand-in for the model; see test_batch_generate."""

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from pipelines.generation.prompts import Prompt
from pipelines.generation.release import Chunk, answer
from preprocessing.contracts.generation_config import GenerationConfig
from trainer.serving.answering import bisected


class Echo:
    """Answers with the prompt in capitals; fails on any batch that holds a poison."""

    lineage = SimpleNamespace(context=20, bos_id=1)

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def count_tokens(self, texts):
        if any("uncountable" in text for text in texts):
            raise ValueError("cannot count this")
        return [len(text) for text in texts]

    def generate(self, requests):
        texts = requests["prompt"]
        assert {len(values) for values in requests.values()} == {len(texts)}
        self.batches.append(texts)
        if any("poison" in text for text in texts):
            raise ValueError("cannot swallow this\nand a long explanation")
        return [{"text": text.upper(), "num_tokens": len(text)} for text in texts]


def run(prompts: list[Prompt], batch_size: int = 4):
    model, done = Echo(), []
    config = GenerationConfig(max_new_tokens=4, batch_size=batch_size)
    found = answer(Chunk(3, prompts), model, config, lambda _, n: done.append(n))
    return found, model, done


def test_a_poison_prompt_costs_its_neighbours_nothing():
    texts = ["a", "bb", "poison", "ccc", "dddd", "poison pill", "eeeee", "f"]
    found, _, _ = run([Prompt(i, text) for i, text in enumerate(texts)])
    for i, text in enumerate(texts):
        wanted = {"id": i, "text": text.upper(), "num_tokens": len(text)}
        if "poison" in text:
            wanted = {"id": i, "error": "generation failed: cannot swallow this"}
        assert found.lines[i] == wanted


def test_a_prompt_that_cannot_be_tokenized_costs_its_neighbours_nothing():
    texts = ["a", "bb", "uncountable", "ccc", "dddd", "uncountable too", "eeeee"]
    found, _, done = run([Prompt(i, text) for i, text in enumerate(texts)])
    for i, text in enumerate(texts):
        wanted = {"id": i, "text": text.upper(), "num_tokens": len(text)}
        if "uncountable" in text:
            wanted = {"id": i, "error": "generation failed: cannot count this"}
        assert found.lines[i] == wanted
    assert done == [6, 7]


def test_answers_keep_the_inputs_order_and_errors_their_place():
    prompts = [Prompt(1, "long one"), Prompt(2, None, "no field"), Prompt(3, "s")]
    found, model, done = run(prompts)
    assert [line["id"] for line in found.lines] == [1, 2, 3]
    assert found.lines[1] == {"id": 2, "error": "no field"}
    assert model.batches == [["s", "long one", "", ""]]
    assert done == [3]


def test_every_batch_has_the_same_size_and_holds_like_lengths():
    prompts = [Prompt(i, "x" * (i * 7 % 11)) for i in range(10)]
    _, model, done = run(prompts)
    assert [len(batch) for batch in model.batches] == [4, 4, 4]
    lengths = [len(text) for batch in model.batches for text in batch][:10]
    assert lengths == sorted(lengths)
    assert done == [4, 8, 10]


def test_prompts_that_lose_ids_are_counted():
    # A context of 20 less 4 new ids and BOS leaves 15.
    found, _, _ = run([Prompt(0, "x" * 15), Prompt(1, "x" * 16), Prompt(2, "x" * 99)])
    assert found.truncated == 2


@given(st.sets(st.integers(0, 30), max_size=31), st.sets(st.integers(0, 30)))
def test_bisection_finds_exactly_the_rows_that_fail_alone(rows, bad):
    def run_rows(batch):
        if bad & set(batch):
            raise RuntimeError("")
        return [{"text": str(row)} for row in batch]

    found = bisected(sorted(rows), run_rows) if rows else {}
    assert set(found) == rows
    assert {row for row, result in found.items() if "error" in result} == rows & bad
