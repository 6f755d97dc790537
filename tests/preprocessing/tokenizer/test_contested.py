# SPDX-License-Identifier: Apache-2.0
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.tokenizer import contested, contested_ranges

SOME = contested.CodePointSet([(0xE9, 0xE9), (0x88F, 0x891), (0x1F600, 0x1F60F)])


@given(st.lists(st.text("aé\u0890\u0892\U0001f601\U0001f610", max_size=6), max_size=6))
def test_holders_are_the_documents_with_a_member(texts: list[str]) -> None:
    encoded = [text.encode() for text in texts]
    offsets = np.cumsum([3, *map(len, encoded)])
    data = np.frombuffer(b"\xc3\xa9a" + b"".join(encoded) + b"\xc3\xa9", np.uint8)
    wanted = [i for i, text in enumerate(texts) if any(ord(c) in SOME for c in text)]
    assert SOME.holders(data, offsets).tolist() == wanted


def test_a_set_below_u0080_is_refused() -> None:
    with pytest.raises(ValueError, match="from U"):
        contested.CodePointSet([(0x41, 0x41)])


@given(st.sets(st.integers(0x80, 0x200)))
def test_ranges_cover_exactly_their_points(points: set[int]) -> None:
    ranges = contested.to_ranges(points)
    assert {p for first, last in ranges for p in range(first, last + 1)} == points
    assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(ranges))


def test_the_shipped_table_is_for_the_installed_versions() -> None:
    assert contested.versions() == contested_ranges.VERSIONS


def test_the_shipped_nfc_table_is_what_is_measured() -> None:
    assert contested.probe_nfc() == contested_ranges.NFC_SENSITIVE


@pytest.mark.drill
@pytest.mark.parametrize("pattern", contested.PATTERNS)
def test_the_shipped_table_holds_all_that_is_measured(pattern: str) -> None:
    shipped = contested.CodePointSet(contested_ranges.CONTESTED)
    measured = contested.CodePointSet(contested.probe(pattern))
    assert len(measured) > 4000
    assert not [p for p in range(0x110000) if p in measured and p not in shipped]
