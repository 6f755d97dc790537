# SPDX-License-Identifier: Apache-2.0
"""Whatever stands beside it, a request is answered as it would be alone."""

from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation.commands import WorkError
from tests.trainer.serving.engine.counting_model import (
    VOCAB,
    CountingModel,
    continued,
)
from trainer.serving.engine.engine import Engine, continue_all
from trainer.serving.engine.ordering import in_order
from trainer.serving.engine.requests import SlotRequest
from trainer.serving.engine.sizes import SMALLEST_BUCKET, rounded_up

TABLE = [bytes([97 + id % 3]) * (1 + id % 2) for id in range(VOCAB)]
POISON = VOCAB + 1

ids = st.lists(st.integers(1, VOCAB - 1), min_size=1, max_size=40)
prompts = st.one_of(ids, *(ids.map(lambda each, n=n: [n] * 30 + each) for n in (5, 6)))
# Greedy, warm, and penalised.
CHOICES = (
    {},
    {"temperature": 0.5, "seed": 3},
    {"temperature": 1.0, "seed": 2**62 + 1},
    {"repetition_penalty": 1.5},
)
requests = st.lists(
    st.tuples(prompts, st.integers(0, 20), st.sampled_from(CHOICES)),
    min_size=1,
    max_size=14,
).map(
    lambda drawn: [
        SlotRequest(i, ids, limit, **choice)
        for i, (ids, limit, choice) in enumerate(drawn)
    ]
)


def answered(engine, asked):
    """Returns what became of each request, by its key; each of them once."""
    for each in asked:
        engine.add(each)
    found = []
    while not engine.idle:
        found += engine.step()
    assert sorted(each.key for each in found) == sorted(each.key for each in asked)
    return {each.key: each for each in found}


@settings(deadline=None)
@given(requests, st.integers(1, 9), st.integers(1, 20))
def test_neither_slots_nor_steps_nor_neighbours_change_an_answer(asked, slots, steps):
    engine = Engine(CountingModel(), slots, steps=steps)
    for _ in range(2):  # and an engine that has answered answers the same again
        found = answered(engine, in_order(asked))
        for each in asked:
            wanted = continued(each)
            assert ([*found[each.key].ids], found[each.key].reason) == wanted


def endless(count, limit):
    """Returns requests of so many ids that no id ends."""
    many = (SlotRequest(0, [a, b], limit) for a in range(1, VOCAB) for b in range(40))
    found = islice((e for e in many if continued(e)[1] == "length"), count)
    return [replace(each, key=key) for key, each in enumerate(found)]


def test_prompts_longer_than_a_call_reads_are_read_whole():
    shared = [1 + i % 30 for i in range(520)]
    texts = [[n] * n for n in (5, 600, 1100, 1025)]
    texts += [shared + [2] * n for n in (1, 9, 700)]
    asked = [SlotRequest(key, text, 3) for key, text in enumerate(texts)]
    found = answered(Engine(CountingModel(), 4), in_order(asked))
    for each in asked:
        assert [*found[each.key].ids] == continued(each)[0]


def test_a_call_of_prefill_makes_no_more_scores_than_it_may():
    lengths = [3000, 20, 20, 20, 20, 20, 3000, 3000, 3000, 3000]
    asked = [SlotRequest(key, [3] * n, 1) for key, n in enumerate(lengths)]
    model = CountingModel()
    answered(Engine(model, 10), asked)
    # 16 MB of float32 for a head; where even two rows make more, one is read alone.
    assert model.scores and max(model.scores) <= 1 << 22


@settings(deadline=None)
@given(
    requests, st.integers(1, 9), st.sets(st.integers(0, 13)), st.sampled_from([0, 70])
)
def test_a_poisonous_prompt_costs_its_neighbours_nothing(asked, slots, bad, before):
    asked = [
        replace(each, ids=[POISON] * before + [*each.ids, POISON])
        if each.key in bad
        else each
        for each in asked
    ]
    found = answered(Engine(CountingModel([POISON]), slots), in_order(asked))
    for each in asked:
        if each.key in bad and each.limit:
            error = "generation failed: cannot swallow this"
            assert found[each.key].error == error
        else:
            assert ([*found[each.key].ids], found[each.key].reason) == continued(each)


def test_a_poisonous_prompt_is_found_in_as_many_failures_as_it_can_be_halved():
    for bad in range(16):
        asked = [SlotRequest(i, [3, POISON if i == bad else 4], 40) for i in range(16)]
        model = CountingModel([POISON])
        # Others wait meanwhile, and stand beside no one who is tried again.
        answered(
            Engine(model, 16), asked + [SlotRequest(16 + i, [i], 9) for i in (1, 2)]
        )
        assert model.failures == 5


def test_the_first_prompt_that_cannot_be_continued_is_told():
    asked = [SlotRequest(0, [3, 4], 3), SlotRequest(1, [POISON], 3)]
    with pytest.raises(WorkError, match="cannot swallow this"):
        continue_all(CountingModel([POISON]), asked, 2)


@settings(deadline=None)
@given(
    requests, st.integers(1, 9), st.integers(200, 4000), st.sampled_from([0, 24, 300])
)
def test_states_never_take_more_than_the_memory_they_may(asked, slots, memory, fixed):
    model = CountingModel(fixed=fixed)
    engine = Engine(model, slots, cache_memory=memory)
    model.largest = 0
    found = answered(engine, in_order(asked))
    # A call holds a state twice, and a prefix is one row more.
    assert 2 * model.largest <= memory
    for each in asked:
        room = rounded_up(each.room, SMALLEST_BUCKET)
        fits = 2 * (fixed + 8 * room) <= memory
        if fits or not each.limit:
            assert ([*found[each.key].ids], found[each.key].reason) == continued(each)
        else:
            assert "--cache_memory" in found[each.key].error


def test_a_machine_with_less_memory_than_asked_for_answers_with_fewer_rows():
    asked = [SlotRequest(i, [1 + i], 30) for i in range(12)]
    found = answered(Engine(CountingModel(most_bytes=8 * 33 * 3), 8), asked)
    for each in asked:
        assert ([*found[each.key].ids], found[each.key].reason) == continued(each)


def test_a_slot_that_ends_is_refilled_at_once():
    long, *short = endless(1, 96) + endless(6, 16)
    model = CountingModel()
    asked = [replace(each, key=key) for key, each in enumerate([long, *short])]
    answered(Engine(model, 2, steps=16), asked)
    assert model.calls == 6  # what the long one takes by itself
    model = CountingModel()
    answered(Engine(model, 6, steps=16), endless(6, 16))
    assert model.calls == 1


def test_prompts_that_begin_together_are_read_by_the_call_that_continues_them():
    model = CountingModel()
    asked = [SlotRequest(i, [1 + i] * (9 * i + 1), 3) for i in range(4)]
    found = answered(Engine(model, 5), asked)
    assert all([*found[each.key].ids] == continued(each)[0] for each in asked)
    assert (model.prefills, model.calls) == (0, 1)


@settings(deadline=None)
@given(
    requests, st.lists(st.text("abc", min_size=1, max_size=3), min_size=1), st.data()
)
def test_the_first_stop_string_to_be_whole_ends_a_text(asked, stops, data):
    """However many ids a call makes: of "c" and "bca" the first, which stands later."""
    asked = [replace(e, stop=tuple(s.encode() for s in stops)) for e in asked]
    steps = data.draw(st.integers(1, 9))
    found = answered(Engine(CountingModel(), 3, TABLE, steps=steps), asked)
    for each in asked:
        made, reason = continued(each)
        texts = (b"".join(TABLE[id] for id in made[:n]) for n in range(len(made) + 1))
        text = next((t for t in texts if any(s in t for s in each.stop)), b"")
        places = [text.find(stop) for stop in each.stop if stop in text]
        end = found[each.key]
        spelled = b"".join(TABLE[id] for id in end.ids)
        if places:
            assert (
                end.reason == "stop" and spelled[: end.num_bytes] == text[: min(places)]
            )
            without_last = b"".join(TABLE[id] for id in end.ids[:-1])
            assert not end.ids or len(without_last) < end.num_bytes
        else:
            assert ([*end.ids], end.reason, end.num_bytes) == (made, reason, None)


def test_a_prompt_out_of_time_ends_with_what_was_made():
    [long] = endless(1, 40)
    soon, late = replace(long, time_limit=1e-9), replace(long, time_limit=3000.0)
    found = answered(
        Engine(CountingModel(), 4, steps=4),
        [soon, replace(late, key=1), replace(long, key=2)],
    )
    assert (found[0].reason, [*found[0].ids]) == ("time", continued(long)[0][:4])
    for key in (1, 2):
        assert (found[key].reason, [*found[key].ids]) == ("length", continued(long)[0])
    done = answered(Engine(CountingModel(), 1, steps=4), [replace(soon, limit=4)])
    assert done[0].reason == "length"  # of two reasons the one that repeats


@settings(deadline=None)
@given(requests)
def test_a_prefix_that_many_share_is_read_once(asked):
    model = CountingModel()
    answered(Engine(model, 3), in_order(asked))
    alone = sum(len(each.ids) - 1 for each in asked if each.limit)
    assert model.read <= alone
    for n in (5, 6):
        begin = [e for e in asked if [*e.ids[:30]] == [n] * 30 and e.limit]
        if len(begin) > 3:
            alone -= (len(begin) - 1) * 29 - 64
    assert model.read <= alone
