# SPDX-License-Identifier: Apache-2.0
"""Generation equals the training forward pass, and ends where it should."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.models.decoder import DecoderConfig
from trainer.models.model import PrecisionConfig, build_model, with_family
from trainer.serving.engine.sizes import buckets
from trainer.serving.generate import Decoding, generate, right_pad
from trainer.serving.sampling import Sampling

VOCAB = 120
CONTEXT = 48
BOS, EOS, PAD = 1, 2, 0
PROMPTS = [[5, 9, 33], [], list(range(10, 27)), [7] * 30, [100, 3]]
LIMITS = [9, 12, 1, 16, 0]


_DECODER = DecoderConfig(num_layers=2, d_model=32, num_heads=4, num_kv_heads=2)
MODELS = {
    "decoder": _DECODER,
    "recurrent": with_family(_DECODER, "recurrent"),
    "windows and caps": dataclasses.replace(
        _DECODER, layer_pattern="wf", window=6, attention_cap=9.0, logit_cap=20.0
    ),
    "experts": dataclasses.replace(_DECODER, num_experts=4, expert_dim=24),
    "learned positions": dataclasses.replace(
        _DECODER, position="learned", max_positions=CONTEXT
    ),
}


@pytest.fixture(scope="module", params=MODELS)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(name):
    """A model with weights large enough that its choices are clear-cut."""
    model = build_model(MODELS[name], VOCAB, PrecisionConfig(), seed=3)
    for weight in model.trainable_variables:
        weight.assign(weight * 3)
    return model


@pytest.fixture(scope="module")
def decoding(name) -> Decoding:
    return Decoding(BOS, EOS, PAD, None if name == "recurrent" else CONTEXT)


@pytest.fixture(scope="module")
def compiled():
    return tf.function(generate, autograph=False)


def ragged(rows: list[list[int]]) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_row_lengths(
        tf.constant([i for row in rows for i in row], tf.int32),
        tf.constant([len(row) for row in rows], tf.int64),
    )


def greedy(limits: list[int]) -> Sampling:
    rows = len(limits)
    return Sampling(
        tf.constant(limits, tf.int32),
        tf.zeros([rows]),
        tf.zeros([rows], tf.int32),
        tf.ones([rows]),
        tf.zeros([rows], tf.int64),
    )


def rows_of(generation) -> list[list[int]]:
    lengths = generation.num_tokens.numpy()
    return [
        row[:length].tolist()
        for row, length in zip(generation.token_ids.numpy(), lengths, strict=True)
    ]


def continue_naively(model, ids: list[int], limit: int) -> tuple[list[int], bytes]:
    """Runs the training forward pass over everything again for each new id."""
    ids, new = [BOS, *ids], []
    while len(new) < limit:
        tokens = tf.constant([ids], tf.int32)
        positions = tf.range(len(ids))[None]
        hidden = model(tokens, tf.ones_like(tokens), positions)
        best = int(tf.argmax(model.logits(hidden)[0, -1]))
        if best == EOS:
            return new, b"stop"
        new.append(best)
        ids.append(best)
    return new, b"length"


@pytest.mark.smoke
def test_greedy_continuations_equal_a_forward_pass_over_everything_for_each_id(
    model, decoding, compiled
):
    found = compiled(model, ragged(PROMPTS), greedy(LIMITS), decoding)
    wanted = [
        continue_naively(model, prompt, limit)
        for prompt, limit in zip(PROMPTS, LIMITS, strict=True)
    ]
    assert rows_of(found) == [ids for ids, _ in wanted]
    assert found.finish_reason.numpy().tolist() == [reason for _, reason in wanted]


def endless(model, decoding) -> list[int]:
    """Returns nine ids that nothing stops."""
    free = dataclasses.replace(decoding, eos_id=-1)
    return rows_of(generate(model, ragged([[5, 9]]), greedy([9]), free))[0]


def test_a_row_ends_with_stop_before_its_eos_and_with_length_at_its_limit(
    model, decoding
):
    free = endless(model, decoding)
    ending = dataclasses.replace(decoding, eos_id=free[4])
    found = generate(model, ragged([[5, 9], [5, 9]]), greedy([9, 3]), ending)
    before = free[: free.index(free[4])]
    assert rows_of(found) == [before, before[:3]]
    assert found.num_tokens.numpy().tolist() == [len(before), len(before[:3])]
    reasons = [b"stop", b"length" if len(before) >= 3 else b"stop"]
    assert found.finish_reason.numpy().tolist() == reasons
    assert (found.token_ids.numpy()[1][len(before[:3]) :] == PAD).all()


def test_another_id_that_ends_a_turn_stops_a_row_as_eos_does(model, decoding):
    free = endless(model, decoding)
    ending = dataclasses.replace(decoding, eos_id=-1, stop_ids=(VOCAB, free[4]))
    found = generate(model, ragged([[5, 9]]), greedy([9]), ending)
    assert rows_of(found) == [free[: free.index(free[4])]]
    assert found.finish_reason.numpy().tolist() == [b"stop"]


def test_a_sampled_row_is_the_same_alone_as_in_a_batch(model, decoding, compiled):
    sampling = Sampling(
        tf.constant([9, 4, 12, 7, 9]),
        tf.constant([0.8, 1.0, 0.0, 1.4, 0.6]),
        tf.constant([0, 5, 0, 20, 0]),
        tf.constant([1.0, 1.0, 1.0, 0.9, 0.7]),
        tf.constant([1, 2, 3, 4, 5], tf.int64),
    )
    together = rows_of(compiled(model, ragged(PROMPTS), sampling, decoding))
    for row, prompt in enumerate(PROMPTS):
        one = Sampling(*(field[row : row + 1] for field in sampling[:5]))
        assert (
            rows_of(compiled(model, ragged([prompt]), one, decoding))[0]
            == (together[row])
        )


def test_seeds_choose_the_sample(model, decoding, compiled):
    def run(seed: int) -> list[int]:
        sampling = greedy([12])._replace(
            temperature=tf.constant([1.5]), seed=tf.constant([seed], tf.int64)
        )
        return rows_of(compiled(model, ragged([[5]]), sampling, decoding))[0]

    assert run(1) == run(1)
    assert len({tuple(run(seed)) for seed in range(6)}) == 6


def test_prompt_and_continuation_stay_within_the_trained_context(model, decoding):
    long = [3 + i % 90 for i in range(200)]
    free = dataclasses.replace(decoding, eos_id=-1, unbounded=70)
    found = generate(model, ragged([long, [4]]), greedy([10_000, 60]), free)
    if decoding.context is None:
        assert found.num_tokens.numpy().tolist() == [70, 60]
    else:
        assert found.num_tokens.numpy().tolist() == [CONTEXT // 2, CONTEXT - 2]
    assert found.finish_reason.numpy().tolist() == [b"length", b"length"]


def test_a_prompt_too_long_keeps_its_last_ids():
    config = DecoderConfig(num_layers=1, d_model=32, num_heads=2)
    model = build_model(config, VOCAB, PrecisionConfig(), seed=0)
    decoding = Decoding(None, EOS, PAD, CONTEXT)
    long = [3 + i % 90 for i in range(200)]
    whole = generate(model, ragged([long]), greedy([8]), decoding)
    tail = generate(model, ragged([long[-(CONTEXT - 8) :]]), greedy([8]), decoding)
    assert rows_of(whole) == rows_of(tail)


def test_an_empty_prompt_without_bos_starts_where_documents_start(model):
    decoding = Decoding(None, EOS, PAD, CONTEXT)
    found = generate(model, ragged([[], [EOS]]), greedy([6, 6]), decoding)
    assert rows_of(found)[0] == rows_of(found)[1]


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(3, 99), min_size=1, max_size=40), min_size=1),
    keep=st.integers(1, 50),
)
def test_right_padding_begins_every_row_in_the_first_column(rows, keep):
    lengths = [min(len(row), keep) for row in rows]
    ids = right_pad(ragged(rows), tf.constant(lengths), Decoding(None, EOS, PAD, 64))
    width = ids.shape[1]
    assert width in (16, 24, 32, 48, 64)
    assert width == 16 or 2 * width < 3 * max(lengths)
    for row, length, found in zip(rows, lengths, ids.numpy(), strict=True):
        assert found.tolist() == row[len(row) - length :] + [PAD] * (width - length)


@pytest.mark.parametrize(
    ("context", "wanted"),
    [(16, [16]), (40, [16, 24, 32, 40]), (64, [16, 24, 32, 48, 64]), (5, [5])],
)
def test_buckets_are_powers_of_two_and_halves_between_up_to_the_context(
    context, wanted
):
    assert buckets(context) == wanted
    assert np.log2(buckets(None)[::2]).tolist() == list(range(4, 21))
