# SPDX-License-Identifier: Apache-2.0
"""What the handler adds to answers: their ids, and prompts that were refused."""

from types import SimpleNamespace

from pipelines.generation.modes import Wanted
from pipelines.generation.prompts import Prompt
from pipelines.generation.release import Chunk, answer
from preprocessing.contracts.generation_config import GenerationConfig
from tests.trainer.serving.engine.counting_model import CountingModel
from tests.trainer.serving.test_answering import LINEAGE, Letters, wanted


def test_answers_keep_the_inputs_order_and_errors_their_place():
    model = SimpleNamespace(lineage=LINEAGE, tokenizer=Letters(), slots=CountingModel())
    config = GenerationConfig(max_new_tokens=4, batch_size=2)
    prompts = [Prompt(1, "long1"), Prompt(2, None, "no field"), Prompt(3, "s" * 30)]
    done = []
    found = answer(
        Chunk(3, prompts), model, Wanted(config=config), lambda *at: done.append(at[1])
    )
    assert found.lines == [
        {"id": 1, **wanted("long1")},
        {"id": 2, "error": "no field"},
        {"id": 3, **wanted("s" * 30), "shortened": True},
    ]
    assert (found.index, found.truncated, done[-1]) == (3, 1, 3)
