# SPDX-License-Identifier: Apache-2.0
"""Lines and paragraphs: the same as Python's string functions find, in any text."""

import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.rules.measures import lines
from preprocessing.rules.measures.views import view

TEXTS = st.text(
    st.sampled_from("ab \n\r\t\x0b\x1c\x1f\x85\u2028\u2029\u3000é"), max_size=30
)
CUTS = {
    "any_lines": str.splitlines,
    "feed_lines": lambda text: re.split("\n+", text),
    "paragraphs": lambda text: re.split("\n{2,}", text.strip()),
    "filled_lines": lambda text: [line for line in text.split("\n") if line.strip()],
}


@pytest.mark.parametrize("name", CUTS)
@settings(deadline=None)
@given(texts=st.lists(TEXTS, max_size=4))
def test_pieces_are_those_of_pythons_string_functions(name, texts):
    seen = view(pa.array(texts, pa.large_string()))
    spans = getattr(lines, name)(seen)
    wanted = [CUTS[name](text) for text in texts]
    found = [
        bytes(seen.data[start:end]).decode()
        for start, end in zip(spans.starts, spans.ends, strict=True)
    ]
    assert spans.counts.tolist() == [len(pieces) for pieces in wanted]
    assert found == [piece for pieces in wanted for piece in pieces]
