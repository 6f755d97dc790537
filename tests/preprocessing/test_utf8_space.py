# SPDX-License-Identifier: Apache-2.0
"""White space and line ends in bytes are those of Python's strings."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.utf8_space import (
    LINE_END_BEGINS,
    SPACE_BEGINS,
    array_of,
    line_end_at,
    skip_space,
    space_at,
    trim_space,
    views,
)

POINTS = [p for p in range(0x110000) if not 0xD800 <= p < 0xE000]


def as_bytes(text):
    return np.frombuffer(text.encode(), np.uint8)


def test_every_code_point_is_white_space_and_ends_lines_as_in_a_python_string():
    wrong = []
    for point in POINTS[:0x4000] + POINTS[0x4000::97]:
        text = chr(point)
        data = as_bytes(text)
        space = space_at(data, 0, len(data)) if SPACE_BEGINS[data[0]] else 0
        line_end = line_end_at(data, 0, len(data)) if LINE_END_BEGINS[data[0]] else 0
        if space != text.isspace() * len(data):
            wrong.append(f"U+{point:04X} space {space}")
        if line_end != (text.splitlines() == [""]) * len(data):
            wrong.append(f"U+{point:04X} line end {line_end}")
    assert not wrong


@settings(deadline=None)
@given(
    st.text(st.sampled_from("a\u00e9日🙂 \t\n\x0b\x1c\x1f\x85\xa0\u2003\u2028\u3000"))
)
def test_skipping_and_trimming_white_space_is_stripping_a_string(text):
    data = as_bytes(text)
    start = skip_space(data, 0, len(data))
    stop = trim_space(data, start, len(data))
    assert data[start:stop].tobytes().decode() == text.strip()


@settings(deadline=None)
@given(st.lists(st.text(max_size=5), max_size=5), st.integers(0, 3))
def test_views_of_a_slice_give_its_texts_back(texts, skip):
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    array = pa.array(["skipped"] * skip + texts, pa.large_string())[skip:]
    assert array_of(*views(array)).to_pylist() == texts
