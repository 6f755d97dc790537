# SPDX-License-Identifier: Apache-2.0
"""Sizes, stop strings, and what is read of a prompt: each by itself."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.serving.engine.prompts import as_read
from trainer.serving.engine.sizes import SMALLEST_BUCKET, buckets, rounded_up
from trainer.serving.engine.stop_strings import StopStrings

TABLE = [b"", b"a", b"ab", b"ba", b"cc"]
letters = st.text("abc", min_size=2, max_size=4).map(str.encode)


@given(st.integers(1, 10**6), st.integers(1, 64))
def test_sizes_are_few_and_at_most_a_third_of_one_is_padding(count, least):
    size = rounded_up(count, least)
    assert size >= max(count, least)
    assert size <= max(count * 3 / 2, least * 3 / 2, 1)
    odd = size >> (size & -size).bit_length() - 1
    assert odd in (1, 3) and rounded_up(size) == size


@given(st.integers(1, 5000))
def test_buckets_end_with_the_context(context):
    found = buckets(context)
    assert found == sorted({*found}) and found[-1] == context
    assert all(each == rounded_up(each, SMALLEST_BUCKET) for each in found[:-1])


@given(
    st.lists(st.integers(0, 6), max_size=20),
    st.sets(st.integers(0, 20)),
    letters,
)
def test_a_stop_string_is_found_wherever_calls_end(ids, cuts, string):
    """Ids beyond the table, 5 and 6, spell nothing."""
    spelled = [TABLE[id] if id < len(TABLE) else b"" for id in ids]
    text = b"".join(spelled)
    stops, found, borders = StopStrings([string], TABLE), None, sorted({0, *cuts, 20})
    for start, end in pairwise(borders):
        found = found or stops.find(ids[start:end])
    if string not in text:
        assert found is None
        return
    count, num_bytes = found
    assert num_bytes == text.find(string)
    assert len(b"".join(spelled[:count])) >= num_bytes
    assert count == 0 or len(b"".join(spelled[: count - 1])) < num_bytes


@pytest.mark.parametrize(
    ("ids", "limit", "bos", "context", "wanted"),
    [
        ([5, 6], 4, 1, None, ([1, 5, 6], 4)),
        ([5, 6], 4, None, None, ([5, 6], 4)),
        ([], 4, None, None, ([2], 4)),
        ([], 4, 1, None, ([1], 4)),
        ([*range(10, 30)], 4, 1, 12, ([*range(22, 30)], 4)),
        ([5, 6], 100, 1, 12, ([1, 5, 6], 9)),
        ([*range(10, 30)], 100, 1, 12, ([*range(24, 30)], 6)),
        ([5], -3, 1, 12, ([1, 5], 0)),
    ],
)
def test_the_last_ids_are_read_and_what_follows_fits(ids, limit, bos, context, wanted):
    opening = SimpleNamespace(bos_id=bos, eos_id=2, context=context)
    assert as_read(ids, limit, opening) == wanted
