# SPDX-License-Identifier: Apache-2.0
"""Clusters are the connected parts of the pairs, whatever the order they come in."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.duplicates.clusters import Clusters, Edges


def key(number):
    """A key whose first half alone does not tell documents apart."""
    return (number % 3).to_bytes(8, "big") + number.to_bytes(8, "big")


def edges_of(pairs, lengths):
    def column(side):
        joined = b"".join(key(pair[side]) for pair in pairs)
        keys = np.frombuffer(joined, np.uint8).reshape(-1, 16)
        return keys, np.array([lengths[pair[side]] for pair in pairs], np.int64)

    return Edges(*column(0), *column(1))


def clustered(chunks, lengths):
    """Returns {key: (key of the survivor, size)}."""
    clusters = Clusters()
    for pairs in chunks:
        clusters.add(edges_of(pairs, lengths))
    keys, survivors, sizes = clusters.members()
    keys = [bytes(row) for row in keys]
    assert keys == sorted(set(keys))
    places = zip(keys, survivors.tolist(), sizes.tolist(), strict=True)
    return {name: (keys[survivor], size) for name, survivor, size in places}


def expected(pairs, lengths):
    """The same, by merging sets of documents."""
    groups = {}
    for left, right in pairs:
        merged = groups.get(left, {left}) | groups.get(right, {right})
        groups.update(dict.fromkeys(merged, merged))
    best = {
        frozenset(group): min(group, key=lambda n: (-lengths[n], key(n)))
        for group in groups.values()
    }
    return {
        key(name): (key(best[frozenset(group)]), len(group))
        for name, group in groups.items()
        if len(group) > 1
    }


@settings(deadline=None)
@given(data=st.data())
def test_clusters_are_connected_parts_and_the_longest_then_smallest_key_stays(data):
    numbers = st.integers(0, 20)
    pairs = data.draw(st.lists(st.tuples(numbers, numbers), max_size=25))
    lengths = data.draw(st.lists(st.integers(0, 2), min_size=21, max_size=21))
    wanted = expected(pairs, lengths)
    assert clustered([pairs], lengths) == wanted
    mixed = data.draw(st.permutations([pair[::-1] for pair in pairs]))
    cut = data.draw(st.integers(0, len(pairs)))
    assert clustered([mixed[:cut], mixed[cut:]], lengths) == wanted


def test_a_chain_of_20000_documents_is_one_cluster():
    numbers = np.random.default_rng(0).permutation(20_000).tolist()
    pairs = list(itertools.pairwise(numbers))
    found = clustered([pairs[:9_000], pairs[9_000:]], [5] * 19_999 + [7])
    assert len(found) == 20_000
    assert set(found.values()) == {(key(19_999), 20_000)}


def test_pairs_that_come_again_take_no_room():
    # 200,000 pairs of a hot bucket, seen in each of 14 bands.
    hub = np.zeros((1, 16), np.uint8)
    rows = np.arange(1000, dtype=">u8").repeat(2).view(np.uint8).reshape(-1, 16)
    first, second = np.tile(rows, (200, 1)), np.repeat(hub, 200_000, axis=0)
    lengths = np.ones(200_000, np.int64)
    clusters = Clusters()
    for _ in range(14):
        clusters.add(Edges(first, lengths, second, lengths))
    members = clusters.members()
    assert len(members.keys) == 1000
    assert set(members.sizes.tolist()) == {1000}
    assert set(members.survivors.tolist()) == {0}


def test_no_pairs_are_no_clusters():
    assert clustered([], []) == {}
    assert clustered([[], [(1, 1)]], [0, 0]) == {}
