# SPDX-License-Identifier: Apache-2.0
"""Slots continue prompts as `generate` does, whatever stands beside them."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.contracts.signatures import STOP_DIVIDER
from tests.trainer.models.toy_family import Config as ToyConfig
from tests.trainer.serving.test_generate import (
    BOS,
    CONTEXT,
    EOS,
    MODELS,
    PAD,
    VOCAB,
    ragged,
    rows_of,
)
from trainer.models.model import PrecisionConfig, build_model
from trainer.serving.engine.engine import Engine, continue_all
from trainer.serving.engine.ordering import in_order
from trainer.serving.engine.prompts import as_read
from trainer.serving.engine.requests import SlotRequest
from trainer.serving.generate import Decoding, generate
from trainer.serving.sampling import Sampling
from trainer.serving.slot_models import slots_of_model
from trainer.serving.stop_graph import stops_of

CONFIGS = {
    **{name: MODELS[name] for name in ("decoder", "recurrent", "windows and caps")},
    "toy": ToyConfig(family="toy"),
}
_DRAWN = np.random.default_rng(0)
PROMPTS = [
    _DRAWN.integers(3, VOCAB, _DRAWN.integers(0, 40)).tolist() for _ in range(40)
]
PROMPTS[7] = PROMPTS[3] = []
SHARED = [*range(20, 60)]
PROMPTS[30:36] = [[*SHARED[:-1], 3 + i] for i in range(6)]
LIMITS = _DRAWN.integers(0, 25, 40).tolist()
# Of ids that spell two letters, or one: a string begins within an id and ends in one.
TABLE = [b"xyz"[id % 3 :] + b"ab"[: id % 2] for id in range(VOCAB)]
STOPS = [(), (b"zx",), (b"zxy", b"ax"), (), (b"yzyz", b"axyza", b"zay")]


@pytest.fixture(scope="module", params=CONFIGS)
def family(request):
    """A model, what is known of it, and its slots."""
    model = build_model(CONFIGS[request.param], VOCAB, PrecisionConfig(), seed=3)
    for weight in model.trainable_variables:
        weight.assign(weight * 3)
    context = model.context(CONTEXT)
    decoding = Decoding(BOS, EOS, PAD, context)
    return model, decoding, slots_of_model(model, decoding)


def requests_of(decoding, sampled: bool) -> list[SlotRequest]:
    found = []
    for i, (prompt, limit) in enumerate(zip(PROMPTS, LIMITS, strict=True)):
        warm = sampled and i % 3 > 0
        read, most = as_read(prompt, limit, decoding)
        found.append(
            SlotRequest(
                i,
                read,
                most,
                temperature=0.8 if warm else 0.0,
                top_k=5 * (i % 2),
                top_p=0.9 if i % 5 == 1 else 1.0,
                min_p=0.02 * (i % 4) if warm else 0.0,
                repetition_penalty=1.3 if i % 7 == 2 else 1.0,
                stop=STOPS[i % len(STOPS)],
                seed=i,
            )
        )
    return found


def sampling_of(requests) -> Sampling:
    types = {"top_k": tf.int32, "seed": tf.int64}
    fields = {
        name: tf.constant(
            [getattr(each, name) for each in requests], types.get(name, tf.float32)
        )
        for name in Sampling._fields[1:]
    }
    return Sampling(max_new_tokens=tf.constant(LIMITS), **fields)


def logits_after(model, ids) -> np.ndarray:
    tokens = tf.constant([ids], tf.int32)
    positions = tf.range(len(ids))[None]
    return model.logits(model(tokens, tf.ones_like(tokens), positions))[0, -1].numpy()


@pytest.mark.smoke
def test_slots_continue_prompts_as_generate_does(family):
    model, decoding, slots = family
    requests = requests_of(decoding, sampled=True)
    run = tf.function(generate, autograph=False)
    joined = tf.constant([STOP_DIVIDER.encode().join(each.stop) for each in requests])
    stops = stops_of(joined, tf.constant(np.array([*TABLE, b""], dtype=object)))
    sampling = sampling_of(requests)
    wanted = run(model, ragged(PROMPTS), sampling, decoding, stops, True)
    found, engine = {}, Engine(slots, 5, TABLE, steps=7)
    for each in in_order(requests):
        engine.add(each)
    while not engine.idle:
        found.update((each.key, each) for each in engine.step())
    reasons, cut = wanted.finish_reason.numpy(), wanted.num_bytes.numpy()
    whole = np.iinfo(np.int32).max
    assert [found[i].error for i in range(len(PROMPTS))] == [""] * len(PROMPTS)
    differ = [
        i
        for i, ids in enumerate(rows_of(wanted))
        if [*found[i].ids] != ids
        or found[i].reason.encode() != reasons[i]
        or (whole if found[i].num_bytes is None else found[i].num_bytes) != cut[i]
    ]
    assert not differ
    assert np.count_nonzero(cut < whole) > 5
    assert_logprobs(model, requests, wanted)


def assert_logprobs(model, requests, found):
    """Compares with numpy's float64, over the logits of the training forward pass."""
    rows = [*zip(requests, rows_of(found), found.logprobs.numpy(), strict=True)]
    for request, ids, logprobs in rows[::3]:
        assert not logprobs[len(ids) :].any()
        if ids:
            tokens = tf.constant([[*request.ids, *ids]], tf.int32)
            hidden = model(
                tokens, tf.ones_like(tokens), tf.range(tokens.shape[1])[None]
            )
            logits = model.logits(hidden)[0, -len(ids) - 1 : -1].numpy()
            logits = logits.astype(np.float64)
            most = logits.max(-1, keepdims=True)
            total = np.log(np.exp(logits - most).sum(-1, keepdims=True))
            wanted = np.take_along_axis(logits - most - total, np.c_[ids], 1)[:, 0]
            np.testing.assert_allclose(logprobs[: len(ids)], wanted, atol=2e-4)


def test_the_same_list_has_the_same_answers_whatever_was_answered_before(family):
    _, decoding, slots = family
    requests = requests_of(decoding, sampled=True)
    first = continue_all(slots, requests, 8)
    continue_all(slots, [replace(each, seed=9) for each in requests[::-3]], 3)
    assert continue_all(slots, requests, 8) == first


def test_a_slot_out_of_range_is_nowhere_and_of_two_of_one_name_the_first_stays(family):
    _, _, slots = family
    count = np.full(4, 3, np.int32)
    fresh = slots.prefill(
        {
            "token_ids": np.arange(3, 15, dtype=np.int32).reshape(4, 3),
            "position": np.zeros(4, np.int32),
            "num_tokens": count,
            "source": np.zeros(4, np.int32),
        },
        slots.empty(1),
    )
    where = {"slot": np.array([1, -1, 1, 3], np.int32), "capacity": count}
    state = slots.insert(where, slots.empty(3), fresh)
    alone = {"slot": np.array([1], np.int32), "capacity": count[:1]}
    wanted = slots.insert(alone, slots.empty(3), [each[:1] for each in fresh])
    for got, wish in zip(state, wanted, strict=True):
        np.testing.assert_array_equal(got.numpy(), wish.numpy())


def test_a_repetition_penalty_looks_at_the_prompt_and_what_was_made(family):
    model, _, slots = family
    ids, penalties = [5, 9, 33, 9], (1.0, 1.3, 0.8)
    asked = [
        SlotRequest(i, ids, 8, repetition_penalty=p) for i, p in enumerate(penalties)
    ]
    for penalty, found in zip(penalties, continue_all(slots, asked, 2), strict=True):
        wanted = [*ids]
        while len(wanted) < len(ids) + 8:
            logits = logits_after(model, wanted)
            seen = np.unique(wanted)
            old = logits[seen]
            logits[seen] = np.where(old < 0, old * penalty, old / penalty)
            if int(logits.argmax()) == EOS:
                break
            wanted.append(int(logits.argmax()))
        assert found == wanted[4:]
