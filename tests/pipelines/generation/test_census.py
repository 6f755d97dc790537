# SPDX-License-Identifier: Apache-2.0
"""What a first look finds follows from the prompts, chunks from that and the flags."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.generation.census import (
    Census,
    chunks,
    decode_chunk,
    encode_chunk,
    take_census,
)
from pipelines.generation.prompts import Prompt


@given(st.integers(1, 10**7), st.integers(1, 200))
def test_chunks_follow_from_the_number_of_prompts_and_slots_alone(count, slots):
    size, number = Census(count, 0, "", integer_ids=True).chunks(slots)
    assert (number - 1) * size < count <= number * size
    # Slots are full for most of a chunk, unless that would leave workers without one.
    assert size >= 16 * slots or (size >= 2 * slots and size >= count / 8)
    assert size <= max(16 * slots, 1024)
    if count >= 16 * slots:
        assert number >= min(8, count // (2 * slots))


@given(st.lists(st.integers()), st.integers(1, 7))
def test_chunks_hold_every_prompt_once_in_order(numbers, size):
    prompts = [
        Prompt(number, "é\ud83d" if number % 2 else None, None, {"n": [number]})
        for number in numbers
    ]
    cut = list(chunks(prompts, size))
    assert [p for chunk in cut for p in chunk] == prompts
    assert all(len(chunk) == size for chunk in cut[:-1])
    assert [decode_chunk(encode_chunk(chunk)) for chunk in cut] == cut


def test_a_census_tells_what_there_is_and_whether_it_has_changed():
    good, bad = Prompt(7, "x"), Prompt("p:2", None, "why")
    found = take_census([good, bad, Prompt("p:3", None, "too")])
    assert (found.count, found.errors, found.first_error) == (3, 2, "why")
    assert found.integer_ids
    others = [
        Prompt(8, "x"),
        Prompt("7", "x"),
        Prompt(7, "y"),
        Prompt(7, "x", None, {"k": 1}),
    ]
    hashes = {take_census([each]).sha256 for each in [good, *others]}
    assert len(hashes) == 5 and take_census([good]).sha256 in hashes


def test_ids_are_a_column_of_numbers_where_all_answers_have_such():
    assert take_census([Prompt(7, "x"), Prompt(-(2**63), "y")]).integer_ids
    for other in ("7", 2**63):
        assert not take_census([Prompt(1, "x"), Prompt(other, "y")]).integer_ids
