# SPDX-License-Identifier: Apache-2.0
"""Whatever stands beside it, a request is answered as it would be alone."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.serving.engine.counting_model import (
    EOS,
    VOCAB,
    CountingModel,
    continued,
)
from trainer.serving.engine.engine import Engine
from trainer.serving.engine.ordering import in_order
from trainer.serving.engine.requests import SlotRequest
from trainer.serving.engine.sizes import SMALLEST_BUCKET, rounded_up

TABLE = [bytes([97 + id % 3]) * (1 + id % 2) for id in range(VOCAB)]
POISON = VOCAB + 1

ids = st.lists(st.integers(1, VOCAB - 1), min_size=1, max_size=40)
prompts = st.one_of(ids, ids.map(lambda each: [5] * 30 + each))
requests = st.lists(
    st.tuples(prompts, st.integers(0, 20)), min_size=1, max_size=14
).map(
    lambda drawn: [SlotRequest(i, ids, limit) for i, (ids, limit) in enumerate(drawn)]
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


@settings(deadline=None)
@given(requests, st.integers(1, 9), st.sets(st.integers(0, 13)))
def test_a_poisonous_prompt_costs_its_neighbours_nothing(asked, slots, bad):
    asked = [
        replace(each, ids=[*each.ids, POISON]) if each.key in bad else each
        for each in asked
    ]
    found = answered(Engine(CountingModel([POISON]), slots), in_order(asked))
    for each in asked:
        if each.key in bad and each.limit:
            error = "generation failed: cannot swallow this"
            assert found[each.key].error == error
        else:
            assert ([*found[each.key].ids], found[each.key].reason) == continued(each)


@settings(deadline=None)
@given(requests, st.integers(1, 9), st.integers(200, 4000))
def test_states_never_take_more_than_the_memory_they_may(asked, slots, memory):
    model = CountingModel()
    engine = Engine(model, slots, cache_memory=memory)
    model.largest = 0
    found = answered(engine, in_order(asked))
    # A call holds a state twice, and a prefix is one row more.
    assert 2 * model.largest <= memory
    for each in asked:
        fits = 16 * rounded_up(each.room, SMALLEST_BUCKET) <= memory
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
    asked = [SlotRequest(i, [1 + i], 16 if i else 160) for i in range(11)]
    asked = [each for each in asked if continued(each)[1] == "length"]
    model = CountingModel()
    answered(Engine(model, 2, steps=16), asked)
    assert model.calls <= 10 + 1


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
    long = SlotRequest(0, [3], 10_000)
    long = next(
        each
        for each in (replace(long, ids=[i]) for i in range(1, VOCAB))
        if len(continued(replace(each, limit=40))[0]) == 40
    )
    found = answered(Engine(CountingModel(), 2), [replace(long, time_limit=1e-9)])
    assert found[0].reason == "time"
    assert [*found[0].ids] == continued(replace(long, limit=len(found[0].ids)))[0]
    assert EOS not in found[0].ids


@settings(deadline=None)
@given(requests)
def test_a_prefix_that_many_share_is_read_once(asked):
    model = CountingModel()
    answered(Engine(model, 3), in_order(asked))
    alone = sum(len(each.ids) - 1 for each in asked if each.limit)
    assert model.read <= alone
    begin = [each for each in asked if [*each.ids[:30]] == [5] * 30 and each.limit]
    if len(begin) > 3:
        saved = (len(begin) - 1) * 29 - 64
        assert model.read <= alone - saved


def test_the_order_follows_from_the_list_alone_and_names_every_request_once():
    asked = [SlotRequest(i, [5] * 40 + [i], 3) for i in range(5)]
    asked += [SlotRequest(9, [1, 2, 3], 3), SlotRequest(8, [1], 3)]
    found = in_order(asked)
    assert [each.key for each in found] == [8, 9, 0, 1, 2, 3, 4]
    assert [each.shared for each in found] == [0, 0, 40, 40, 40, 40, 40]
