# SPDX-License-Identifier: Apache-2.0
"""Packing loses nothing: every id but a document's first is a target exactly once."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.contracts.records import RecordFormat
from preprocessing.packing.packing import best_fit, concat, pack, split_documents

PLANNERS = pytest.mark.parametrize("planner", [best_fit, concat])


def corpus(lengths):
    """Returns ids in which every id, 0 included, tells its place in the corpus."""
    return np.arange(sum(lengths))


def packed(lengths, layout, planner, seed=0, block_tokens=1 << 18):
    """Packs and returns (tokens, segment_lengths, pieces as tuples) of all rows."""
    ids = corpus(lengths)
    blocks = list(
        pack(ids, lengths, layout, planner, seed, 7, block_tokens=block_tokens)
    )
    tokens = [block.features["tokens"] for block in blocks]
    segments = [block.features["segment_lengths"] for block in blocks]
    first = np.cumsum([0, *map(len, tokens)])
    pieces = [
        piece
        for begin, block in zip(first.tolist(), blocks, strict=False)
        for piece in zip(
            (block.row + begin).tolist(),
            block.segment.tolist(),
            block.document.tolist(),
            block.start.tolist(),
            block.length.tolist(),
            strict=True,
        )
    ]
    empty = np.zeros((0, layout.row_tokens), np.int64)
    none = np.zeros((0, layout.max_segments), np.int64)
    return np.concatenate([empty, *tokens]), np.concatenate([none, *segments]), pieces


@st.composite
def cases(draw):
    length = draw(st.sampled_from([1, 2, 3, 4, 7, 8, 16, 64, 256]))
    near = st.sampled_from([0, 1, 2, length, length + 1, length + 2, 2 * length + 1])
    lengths = draw(st.lists(near | st.integers(0, 4 * length), max_size=150))
    return length, lengths


@PLANNERS
@settings(max_examples=80, deadline=None)
@given(
    case=cases(),
    seed=st.integers(0, 3),
    window=st.integers(1, 64),
    block=st.integers(1),
)
def test_every_id_is_written_and_is_a_target_exactly_once(
    planner, case, seed, window, block
):
    sequence_length, lengths = case
    layout = RecordFormat(sequence_length, 1 << 20)
    windowed = functools.partial(planner, window=window)
    tokens, segments, pieces = packed(lengths, layout, windowed, seed, block % 1000)
    firsts = np.cumsum([0, *lengths])
    written = np.zeros(sum(lengths), int)
    targets = np.zeros(sum(lengths), int)
    at, last_row = 0, -1
    for row, segment, document, start, length in pieces:
        assert row in (last_row, last_row + 1)
        at, last_row = (at if row == last_row else 0), row
        ids = np.arange(length) + firsts[document] + start
        np.testing.assert_array_equal(tokens[row, at : at + length], ids)
        assert segments[row, segment] == length >= 1
        assert start + length <= lengths[document]
        written[ids] += 1
        targets[ids[1:]] += 1
        at += length
    assert (written >= 1).all()
    wanted = np.ones_like(targets)
    wanted[firsts[:-1][np.array(lengths, int) > 0]] = 0
    np.testing.assert_array_equal(targets, wanted)
    # Conservation: what was written beyond the corpus are the shared ids, one for
    # each piece after a document's first.
    documents = len({piece[2] for piece in pieces})
    total = int(segments.sum())
    assert total - sum(lengths) == len(pieces) - documents
    padding = np.arange(layout.row_tokens) >= segments.sum(axis=1)[:, None]
    assert (tokens[padding] == 7).all()
    assert np.count_nonzero(segments) == len(pieces)


@settings(max_examples=80, deadline=None)
@given(case=cases())
def test_long_documents_advance_by_the_sequence_length(case):
    sequence_length, lengths = case
    document, start, length = split_documents(np.array(lengths), sequence_length)
    for number, total in enumerate(lengths):
        mine = document == number
        steps = np.arange(mine.sum()) * sequence_length
        np.testing.assert_array_equal(start[mine], steps)
        if total:
            assert (length[mine][:-1] == sequence_length + 1).all()
            assert start[mine][-1] + length[mine][-1] == total
            assert length[mine][-1] >= 2 or total == 1


@PLANNERS
def test_a_row_closes_when_it_holds_max_segments(planner):
    layout = RecordFormat(256, 1 << 20)
    _, segments, pieces = packed([1] * 1000, layout, planner)
    assert len(segments) == -(-1000 // 64)
    assert max(piece[1] for piece in pieces) == 63


def test_best_fit_fills_rows_whose_size_is_a_power_of_two_and_one():
    layout = RecordFormat(1024, 1 << 20)  # rows of 2^10 + 1 ids
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 1500, 5000)
    _, segments, _ = packed(lengths, layout, best_fit)
    assert segments.sum() / (len(segments) * 1025) > 0.995
    # Documents of exactly a row fill theirs; two of 512 and 513 share one.
    _, segments, _ = packed([1025, 512, 513], layout, best_fit)
    assert sorted(segments.sum(axis=1).tolist()) == [1025, 1025]


def test_best_fit_takes_the_fullest_row_that_holds_the_piece():
    layout = RecordFormat(9, 1 << 20)
    _, segments, _ = packed([7, 6, 3, 4, 10], layout, best_fit)
    rows = sorted(tuple(row[row > 0].tolist()) for row in segments)
    assert rows == [(6, 4), (7, 3), (10,)]


def test_concat_leaves_no_room_but_at_the_end():
    layout = RecordFormat(64, 1 << 20)
    lengths = np.random.default_rng(0).integers(2, 300, 400)
    _, segments, _ = packed(lengths, layout, concat)
    room = 65 - segments.sum(axis=1)
    assert (np.sort(room)[:-1] <= 1).all()


@PLANNERS
def test_a_plan_depends_on_lengths_and_seed_alone(planner):
    layout = RecordFormat(64, 1 << 20)
    lengths = np.random.default_rng(0).integers(1, 300, 2000)
    one, again = (packed(lengths, layout, planner, seed=5)[0] for _ in range(2))
    np.testing.assert_array_equal(one, again)
    other = packed(lengths, layout, planner, seed=6)[0]
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(
        one[np.lexsort(one.T[::-1])], other[np.lexsort(other.T[::-1])]
    )


def test_the_order_of_rows_does_not_tell_the_order_of_lengths():
    layout = RecordFormat(256, 1 << 20)
    lengths = np.random.default_rng(0).integers(1, 257, 8000)
    _, segments, _ = packed(lengths, layout, best_fit)
    longest = segments.max(axis=1)
    place = np.arange(len(longest))
    assert abs(np.corrcoef(place, longest)[0, 1]) < 0.1


def test_lengths_that_do_not_add_up_are_refused():
    layout = RecordFormat(8, 100)
    with pytest.raises(ValueError, match="add up"):
        next(pack(np.arange(5), np.array([4]), layout, best_fit, 0, 0))
