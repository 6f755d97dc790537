# SPDX-License-Identifier: Apache-2.0
"""White space and line ends in bytes are those of Python's strings."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation.utf8_space import (
    LINE_END_BEGINS,
    SPACE_BEGINS,
    line_end_at,
    skip_space,
    space_at,
    trim_space,
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
