# SPDX-License-Identifier: Apache-2.0
"""Published tensors as views of a weight: what is read comes out again, bit for bit."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.published.families.layouts import (
    columns,
    interleaved,
    same,
    stacked,
    transposed,
)

SIZES = st.integers(1, 5)


@st.composite
def layouts(draw):
    """Draws a weight's shape and the parts that it holds."""
    rows, width, heads, count = (draw(SIZES) for _ in range(4))
    widths = draw(st.lists(SIZES, min_size=1, max_size=4))
    joined = columns([f"c{i}" for i in range(len(widths))], widths)
    return draw(
        st.sampled_from(
            [
                ([rows, width], same("w")),
                ([rows, width], transposed("w")),
                ([rows, sum(widths)], joined),
                ([sum(widths)], joined),
                ([rows, 3 * heads * width], interleaved("w", 3, heads)),
                ([3 * heads * width], interleaved("w", 3, heads)),
                ([count, rows, sum(widths)], stacked([joined] * count)),
            ]
        )
    )


@given(layouts())
def test_parts_hold_each_number_of_a_weight_once_and_fill_it_again(layout):
    shape, parts = layout
    weight = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    read = [np.ascontiguousarray(part.view(weight)) for part in parts]
    numbers = np.concatenate([each.ravel() for each in read])
    assert np.array_equal(np.sort(numbers), weight.ravel())
    filled = np.full(shape, np.nan, np.float32)
    for part, values in zip(parts, read, strict=True):
        tensor = values.reshape(part.shape(shape))
        view = part.view(filled)
        view[...] = tensor.reshape(view.shape)
    assert np.array_equal(filled, weight)


def test_a_neox_product_has_the_three_of_each_head_together():
    heads, width = 2, 3
    weight = np.arange(3 * heads * width, dtype=np.float32)
    (part,) = interleaved("query_key_value.bias", 3, heads)
    query, key, value = weight.reshape(3, heads, width)
    wanted = np.concatenate([query[0], key[0], value[0], query[1], key[1], value[1]])
    assert np.array_equal(part.view(weight).ravel(), wanted)
