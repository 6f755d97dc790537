# SPDX-License-Identifier: Apache-2.0
"""The order of requests follows from the list alone, and saves what can be saved."""

from dataclasses import replace
from itertools import groupby

from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.serving.engine.ordering import LEAST_SAVED, in_order
from trainer.serving.engine.requests import SlotRequest

HEADS = ([], [1] * 29, [1] * 29 + [2] * 100, [1] * 29 + [3] * 100, [4] * 57)
texts = st.tuples(st.sampled_from(HEADS), st.lists(st.integers(1, 3), max_size=9))
lists = st.lists(texts.map(lambda each: [*each[0], *each[1], 9]), max_size=14)


def requests_of(texts):
    return [SlotRequest(key, text, 3) for key, text in enumerate(texts)]


def groups_of(found):
    """Returns the requests that share a prefix, one after another, as lists."""
    named = groupby(found, lambda each: (*each.ids[: each.shared],))
    return [(prefix, [*group]) for prefix, group in named]


def common(texts):
    """Returns how many first ids all of some texts share, but for the last of each."""
    most = min(map(len, texts)) - 1
    return next((i for i in range(most) if len({x[i] for x in texts}) > 1), most)


def most_saved(texts):
    """Returns the most ids that runs of sorted texts save, tried one by one."""
    best = [0]
    for end in range(1, len(texts) + 1):
        saved = [
            best[first] + common(texts[first:end]) * (end - first - 1)
            for first in range(end)
        ]
        best.append(max(saved))
    return best[-1]


@settings(deadline=None)
@given(lists)
def test_each_stands_once_and_shares_with_its_neighbours_all_that_they_have(texts):
    asked = requests_of(texts)
    found = in_order(asked)
    assert sorted(each.key for each in found) == [*range(len(asked))]
    assert all(replace(e, shared=0) == asked[e.key] for e in found)
    groups = groups_of(found)
    shared = [prefix for prefix, _ in groups if prefix]
    assert len({*shared}) == len(shared)  # one prefix at a time
    for prefix, group in groups:
        if prefix:
            assert len(prefix) == common([each.ids for each in group])
            assert len(prefix) * (len(group) - 1) >= LEAST_SAVED


@settings(deadline=None)
@given(lists)
def test_shorter_prompts_come_first_within_a_prefix_and_by_their_last_among_them(texts):
    asked = requests_of(texts)

    def place(each):
        return len(each.ids), each.key

    blocks = []
    for prefix, group in groups_of(in_order(asked)):
        assert [*map(place, group)] == sorted(map(place, group))
        blocks += [place(group[-1])] if prefix else [*map(place, group)]
    assert blocks == sorted(blocks)


@settings(deadline=None)
@given(lists)
def test_prefixes_save_nearly_all_the_ids_that_they_can(texts):
    found = in_order(requests_of(texts))
    saved = sum(len(p) * (len(g) - 1) for p, g in groups_of(found))
    # Lengths are compared by their first bits, and what saves little is left.
    small = LEAST_SAVED * len(HEADS)
    assert saved >= most_saved(sorted(texts)) * 7 / 8 - small


def test_two_long_prefixes_are_taken_before_the_short_one_that_they_share():
    texts = [HEADS[2] + [5, i] for i in range(3)] + [
        HEADS[3] + [5, i] for i in range(3)
    ]
    assert [each.shared for each in in_order(requests_of(texts))] == [130] * 6


def test_prompts_that_each_begin_with_the_one_before_are_not_too_deep():
    """As of a conversation: prefixes of prefixes, more than Python may nest."""
    found = in_order(requests_of([1] * n for n in range(1, 1500)))
    assert [len(each.ids) for each in found][-1] == 1499


def test_the_order_follows_from_the_list_alone_and_names_every_request_once():
    asked = [SlotRequest(i, [5] * 40 + [i], 3) for i in range(5)]
    asked += [SlotRequest(9, [1, 2, 3], 3), SlotRequest(8, [1], 3)]
    found = in_order(asked)
    assert [each.key for each in found] == [8, 9, 0, 1, 2, 3, 4]
    assert [each.shared for each in found] == [0, 0, 40, 40, 40, 40, 40]
