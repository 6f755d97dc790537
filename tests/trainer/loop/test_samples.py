# SPDX-License-Identifier: Apache-2.0
"""Text samples: what they begin with, whose weights write them, that they repeat."""

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.tokenizer.tokenizer import Tokenizer
from tests.datasets import texts
from trainer.data.input_pipeline import SubRows
from trainer.loop.samples import Sample, choose_prompts, make_sampler, markdown
from trainer.models.decoder import DecoderConfig
from trainer.models.model import PrecisionConfig, build_model, with_family
from trainer.optimizers.optimizer import OptimizerConfig
from trainer.run.run_directory import restore_tokenizer
from trainer.run.samples_config import SamplesConfig
from trainer.step.guard import GuardConfig
from trainer.step.train_step import make_train_state

SHAPE = DecoderConfig(num_layers=1, d_model=32, num_heads=4)


@pytest.fixture(scope="module")
def rows(dataset, manifest):
    return SubRows(str(dataset), manifest, "validation", 64)


def train_state_of(manifest, family="decoder", **optimizer):
    model = build_model(
        with_family(SHAPE, family),
        manifest.vocab_size,
        PrecisionConfig(),
        seed=1,
    )
    return make_train_state(model, OptimizerConfig(**optimizer), GuardConfig(), 10)


def sampler_of(dataset, manifest, rows, state):
    tokenizer = restore_tokenizer(str(dataset / "tokenizer.json"), manifest)
    config = SamplesConfig(count=3, tokens=8)
    return make_sampler(state.evaluated, tokenizer, rows, config, seed=0)


def test_prompts_are_beginnings_of_validation_documents(dataset, manifest, rows):
    tokenizer = Tokenizer.load(str(dataset / "tokenizer.json"))
    documents = texts(20, 1)
    prompts = choose_prompts(rows, 3, manifest.bos_id)
    assert len(prompts) == 3
    for prompt in prompts:
        text = tokenizer.decode(prompt)
        assert text and any(document.startswith(text) for document in documents)


class Rows:
    """Three rows of a split: a piece of a document, a whole one, and padding."""

    num_rows = 3
    tokens = np.array([[3, 4, 5, 6, 7, 8], [9, 9, 0, 5, 6, 7], [2] * 6])
    segment_lengths = np.array([[6, 0], [2, 4], [0, 0]])

    def read(self, wanted):
        return {
            "tokens": self.tokens[wanted],
            "segment_lengths": self.segment_lengths[wanted],
        }


def test_a_prompt_is_the_first_half_of_the_first_document_from_its_place_on():
    assert choose_prompts(Rows(), 1, bos_id=0) == [[5, 6]]


def test_where_no_document_begins_there_is_a_piece_of_one_or_an_empty_prompt():
    assert choose_prompts(Rows(), 9, bos_id=0) == [[3, 4, 5], [5, 6], []]
    assert choose_prompts(Rows(), 1, bos_id=None) == [[3, 4, 5]]


@pytest.mark.parametrize("family", ["decoder", "recurrent"])
def test_the_same_weights_write_the_same_and_others_something_else(
    dataset, manifest, rows, family
):
    state = train_state_of(manifest, family)
    sample = sampler_of(dataset, manifest, rows, state)
    first = sample()
    assert sample() == first
    # A process that resumed has a sampler of its own.
    assert sampler_of(dataset, manifest, rows, state)() == first
    for variable in state.variables:
        variable.assign(3.0 * variable)
    second = sample()
    assert [s.prompt for s in second] == [s.prompt for s in first]
    assert second != first


def test_the_averages_of_weights_are_what_writes_where_they_are_kept(
    dataset, manifest, rows
):
    state = train_state_of(manifest, ema_decay=0.9)
    sample = sampler_of(dataset, manifest, rows, state)
    first = sample()
    for variable in state.variables:
        variable.assign(tf.zeros_like(variable))
    assert sample() == first


def test_a_text_is_shown_as_it_is_and_not_as_markup():
    shown = markdown(Sample("# a\n<b>", ["", "* c"]))
    lines = ["    # a", "    <b>", "    ", "    * c"]
    assert [line for line in shown.split("\n") if line.startswith("    ")] == lines
