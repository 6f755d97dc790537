# SPDX-License-Identifier: Apache-2.0
"""A mixture's order draws each source's rows one after another, and again per epoch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.job import plan
from pipelines.job.steps import write_record
from pipelines.prepare import pack_shard, workspace
from pipelines.prepare.mixture_order import order_rows, read_order
from preprocessing.foundation.commands import WorkError
from preprocessing.packing.interleave import draw
from preprocessing.packing.mixture import MixtureConfig, MixtureSource

# For each packed shard, runs of (source, rows) in file order; a source may come back.
RUNS = st.lists(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9)), max_size=4),
    min_size=1,
    max_size=5,
)


def job(output, shards, epochs=1, rows=None):
    sources = tuple(MixtureSource(f"s{n}", 1.0, epochs) for n in range(3))
    config = plan.PrepareConfig(
        plan.TokenizerConfig("", 300, None, 0, 0),
        mixture=MixtureConfig(sources, rows=rows),
        validation_fraction=0.1,
    )
    made = plan.Job(str(output), config, shards, "files")
    workspace.begin(made, plan.Plan(("s0/a",), (), (0,), ("",)), [], b"", {})
    return made


def packed(output, by_shard, epochs=1, rows=None):
    """A job all of whose shards are packed, with the same rows in both splits."""
    made = job(output, len(by_shard), epochs, rows)
    for index, runs in enumerate(by_shard):
        split = {"runs": [list(run) for run in runs]}
        record = {"splits": {"train": split, "validation": split}}
        write_record(made, pack_shard.KIND, index, record)
    order_rows(made)
    return made


def rows_of(by_shard, source):
    """(shard, row in its file) of every row of a source, in the order of draws."""
    found = []
    for shard, runs in enumerate(by_shard):
        row = 0
        for other, count in runs:
            found += [(shard, row + n) for n in range(count) if other == source]
            row += count
    return found


def drawn(order, index):
    """(source, shard, row, repeated) of each row of one shard of the mixture."""
    length = int(order.edges[index + 1] - order.edges[index])
    sources = draw(order.counts, order.drawn[index], length)
    found, taken = [], order.drawn[index].tolist()
    for source in sources.tolist():
        (rows,) = order.rows(source, taken[source], 1)
        found.append((source, rows.shard, rows.first, rows.repeated))
        taken[source] += 1
    return found


@settings(max_examples=60, deadline=None)
@given(RUNS, st.integers(1, 3))
def test_draw_k_of_a_source_is_its_row_k_and_the_first_again_after_the_last(
    tmp_path_factory, by_shard, epochs
):
    wanted = [rows_of(by_shard, source) for source in range(3)]
    if not all(wanted):
        return
    made = packed(tmp_path_factory.mktemp("job"), by_shard, epochs)
    order = read_order(made, "train")
    all_rows = [row for index in range(made.shards) for row in drawn(order, index)]
    for source, own in enumerate(wanted):
        mine = [row[1:] for row in all_rows if row[0] == source]
        assert len(mine) == order.counts[source] <= epochs * len(own)
        assert mine == [(*own[k % len(own)], k >= len(own)) for k in range(len(mine))]
    sizes = np.diff(order.edges)
    assert sizes.max() - sizes.min() <= 1


@settings(max_examples=40, deadline=None)
@given(RUNS, st.data())
def test_a_range_of_draws_is_the_slice_of_all_of_them(tmp_path_factory, by_shard, data):
    wanted = [rows_of(by_shard, source) for source in range(3)]
    if not all(wanted):
        return
    order = read_order(packed(tmp_path_factory.mktemp("job"), by_shard, 3), "train")
    source = data.draw(st.integers(0, 2))
    first = data.draw(st.integers(0, 2 * len(wanted[source])))
    count = data.draw(st.integers(0, len(wanted[source])))
    found = [
        (rows.shard, rows.first + n)
        for rows in order.rows(source, first, count)
        for n in range(rows.length)
    ]
    endless = wanted[source] * 3
    assert found == endless[first : first + count]


@settings(max_examples=40, deadline=None)
@given(RUNS)
def test_validation_takes_every_row_once(tmp_path_factory, by_shard):
    if not all(rows_of(by_shard, source) for source in range(3)):
        return
    made = packed(tmp_path_factory.mktemp("job"), by_shard)
    order = read_order(made, "validation")
    found = [row for index in range(made.shards) for row in drawn(order, index)]
    wanted = [
        (source, *row) for source in range(3) for row in rows_of(by_shard, source)
    ]
    assert sorted(row[:3] for row in found) == sorted(wanted)
    for index, runs in enumerate(by_shard):
        rows = sum(count for _, count in runs)
        assert order.taken(index, rows).all()


def test_rows_beyond_the_mixture_are_not_taken(tmp_path):
    by_shard = [[(0, 4), (1, 1)], [(0, 4), (1, 1), (2, 9)]]
    order = read_order(packed(tmp_path, by_shard), "train")
    assert order.counts.tolist() == [2, 2, 2]
    assert order.taken(0, 5).tolist() == [True, True, False, False, True]
    assert order.taken(1, 14).tolist() == [False] * 4 + [True] * 3 + [False] * 7


def test_a_source_that_lacks_rows_is_named(tmp_path):
    with pytest.raises(WorkError, match=r"s1 has enough for 9 \(its rows 3 x 1 epo"):
        packed(tmp_path, [[(0, 9), (1, 3), (2, 9)]], rows=10)


def test_a_shard_whose_record_is_gone_is_missed(tmp_path):
    made = job(tmp_path, shards=2)
    with pytest.raises(WorkError, match="wanted the records of 2 packed shards"):
        order_rows(made)
