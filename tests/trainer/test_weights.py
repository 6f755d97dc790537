# SPDX-License-Identifier: Apache-2.0
"""One call opens published weights, a run and a release, and they answer alike."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.foundation.commands import UsageError
from tests.releases import untrained_run
from tests.trainer.published.parity import DECODERS
from tests.trainer.small_runs import small_run
from trainer import task
from trainer.models.functional import weight_places
from trainer.run.checkpoints import open_run
from trainer.serving.loaded_release import LoadedRelease
from trainer.weights import load_model

# `test_parity.py` has every family; these are opened by the one call.
NAMES = ("gpt2", "qwen3_moe")


@pytest.mark.parametrize("name", NAMES)
def test_published_weights_give_the_logits_and_continuations_of_transformers(
    name: str,
) -> None:
    model = load_model(str(DECODERS / name))
    golden = np.load(DECODERS / name / "golden.npz")
    found = model.logits(input_ids=golden["input_ids"])
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, golden["logits"], atol=1e-4)
    greedy = np.load(DECODERS / name / "greedy.npz")["tokens"][0].tolist()
    prompt, wanted = greedy[:7], greedy[7:]
    assert prompt == golden["input_ids"][0, :7].tolist()
    assert model.generate([prompt], max_new_tokens=len(wanted)) == [wanted]


def test_text_without_a_tokenizer_is_refused_and_says_why() -> None:
    model = load_model(str(DECODERS / "llama"))
    with pytest.raises(UsageError, match=r"wanted tokenizer\.json .* to serve text"):
        model.generate("Once")


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ([1, 2], "shape"),
        ([[0.5]], "integers"),
        ([[1, 320]], "found 320"),
        ([[-1]], "-1"),
    ],
)
def test_ids_that_are_none_are_refused(ids: object, said: str) -> None:
    model = load_model(str(DECODERS / "llama"))
    with pytest.raises(UsageError, match=said):
        model.logits(input_ids=ids)


def test_a_path_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="wanted a run, a release, or published"):
        load_model(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("family", ["decoder", "recurrent"])
def test_a_release_gives_its_model_back_and_answers_as_its_graphs_do(
    shared_release: Callable[[str], Path], family: str
) -> None:
    release = shared_release(family)
    run = untrained_run(release.parents[1] / "dataset", family)
    model = load_model(str(release.parent))
    ids = np.arange(3, 19).reshape([2, 8])
    positions = tf.zeros_like(ids, tf.int32) + tf.range(8)
    tokens = tf.constant(ids, tf.int32)
    wanted = run.model.logits(run.model(tokens, tf.ones_like(tokens), positions))
    np.testing.assert_allclose(model.logits(input_ids=ids), wanted, rtol=0, atol=1e-4)
    prompts = ["def main", "", "x = "]
    served = LoadedRelease(str(release), 2).generate(
        {
            "prompt": prompts,
            "max_new_tokens": [9] * 3,
            "temperature": [0.8] * 3,
            "top_k": [20] * 3,
            "top_p": [0.9] * 3,
            "min_p": [0.0] * 3,
            "repetition_penalty": [1.0] * 3,
            "stop": [""] * 3,
            "seed": [4, 5, 6],
        }
    )
    found = model.generate(
        prompts, max_new_tokens=9, temperature=0.8, top_k=20, top_p=0.9, seed=4
    )
    assert found == [row["text"] for row in served]


@pytest.mark.slow
def test_a_run_is_opened_at_its_last_checkpoint(dataset: Path, tmp_path: Path) -> None:
    flags = small_run(dataset, tmp_path / "run", "loop.total_steps=2")
    task.main(flags)
    model = load_model(str(tmp_path / "run"))
    opened = open_run(str(tmp_path / "run"))
    for one, two in zip(
        weight_places(model.model), weight_places(opened.model), strict=True
    ):
        np.testing.assert_array_equal(one.variable, two.variable)
    assert isinstance(model.generate("def", max_new_tokens=4), str)
