# SPDX-License-Identifier: Apache-2.0
"""Prompt and continuation share a context, in numbers and in tensors."""

import numpy as np
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.contracts.prompt_limits import (
    MAX_NEW_TOKENS,
    most_new_tokens,
    prompt_room,
)


@given(asked=st.integers(0, 10_000), context=st.integers(1, 100_000))
def test_a_prompt_gives_way_to_what_is_asked_for_but_keeps_half(asked, context):
    room = prompt_room(asked, context)
    assert room == max(context - asked, context - context // 2)


@given(
    asked=st.lists(st.integers(0, 1 << 20), max_size=9), context=st.integers(1, 1 << 20)
)
def test_tensors_are_given_the_room_that_numbers_are(asked, context):
    wanted = [prompt_room(each, context) for each in asked]
    for rows in (tf.constant(asked, tf.int32), np.array(asked, np.int32)):
        assert np.array(prompt_room(rows, context)).tolist() == wanted


def test_a_row_may_ask_for_the_whole_context_or_for_a_fixed_number_without_one():
    assert most_new_tokens(64) == 64
    assert most_new_tokens(None) == MAX_NEW_TOKENS
    assert most_new_tokens(None, 70) == 70
