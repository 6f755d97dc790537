# SPDX-License-Identifier: Apache-2.0
"""Lines have one hash where they read alike, and leave a text without a trace."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.duplicates.line_hashes import drop_lines, line_hashes

PIECES = st.sampled_from(
    [
        "a",
        "B",
        "b",
        "É",
        "é",
        " ",
        "  ",
        "\t",
        "\u3000",
        "\n",
        "\n",
        "日",
        "\0",
        "ab cd",
    ]
)
TEXTS = st.lists(
    st.lists(PIECES, max_size=20).map("".join) | st.text(max_size=12), max_size=5
).map(lambda texts: [text.encode("utf-8", "ignore").decode() for text in texts])


def arrow(texts):
    return pa.array(texts, pa.large_string())


def lower(text):
    return pc.utf8_lower(pa.scalar(text, pa.large_string())).as_py()


@settings(deadline=None)
@given(texts=TEXTS, skip=st.integers(0, 2), words=st.integers(1, 4))
def test_lines_are_equal_exactly_where_their_hashes_are(texts, skip, words):
    found = line_hashes(arrow(["x y z\nw"] * skip + texts)[skip:], words)
    wanted = [
        (document, number, lower(line.strip()))
        for document, text in enumerate(texts)
        for number, line in enumerate(text.split("\n"))
        if len(line.split()) >= words
    ]
    places = zip(found.document.tolist(), found.line.tolist(), strict=True)
    assert list(places) == [(document, number) for document, number, _ in wanted]
    assert found.hashes.shape == (len(wanted), 16) and found.hashes.dtype == np.uint8
    hashes = [row.tobytes() for row in found.hashes]
    alike = {
        (line, hashed) for (_, _, line), hashed in zip(wanted, hashes, strict=True)
    }
    assert len(alike) == len({line for line, _ in alike}) == len(set(hashes))


def test_a_line_and_the_same_with_one_bit_changed_have_unlike_hashes():
    line = b"a line of words that is longer than two times eight bytes"
    changed = [
        line[: bit // 8] + bytes([line[bit // 8] ^ 1 << bit % 8]) + line[bit // 8 + 1 :]
        for bit in range(8 * len(line))
        if bit % 8 < 4  # neither out of ASCII nor between small letters and others
    ]
    kept = [text for text in changed if text.lower() == text and len(text.split()) > 2]
    hashes = line_hashes(arrow([text.decode() for text in [line, *kept]])).hashes
    bits = np.unpackbits(hashes, axis=1)
    apart = (bits[1:] != bits[0]).reshape(-1, 2, 64).sum(axis=2)
    assert len(kept) > 150
    # Of 64 bits half should change, plus or minus 4; 12 and 52 are five of those away.
    assert apart.min() > 12 and apart.max() < 52


def test_nul_bytes_at_the_end_of_a_line_tell_it_apart():
    hashes = line_hashes(arrow(["a b c" + "\0" * count for count in range(12)])).hashes
    assert len({row.tobytes() for row in hashes}) == 12


def test_hashes_are_the_same_on_every_machine():
    found = line_hashes(arrow(["One line of Words", "  one LINE of words \nb"]))
    assert {row.tobytes().hex() for row in found.hashes} == {
        "eb9cfb3f85ab5c608dc842e82b806bc0"
    }


@settings(deadline=None)
@given(texts=TEXTS, data=st.data(), skip=st.integers(0, 2))
def test_lines_kept_stay_in_order_byte_for_byte(texts, data, skip):
    split = [text.split("\n") for text in texts]
    places = [(d, n) for d, lines in enumerate(split) for n in range(len(lines))]
    marks = data.draw(
        st.lists(st.booleans(), min_size=len(places), max_size=len(places))
    )
    dropped = [place for place, mark in zip(places, marks, strict=True) if mark]
    order = data.draw(st.permutations(dropped + dropped[:1]))
    document, line = np.array(order, np.int64).reshape(-1, 2).T
    array = arrow(["skipped"] * skip + texts)[skip:]
    wanted = [
        "\n".join(line for n, line in enumerate(lines) if (d, n) not in dropped)
        for d, lines in enumerate(split)
    ]
    assert drop_lines(array, document, line).to_pylist() == wanted


@settings(deadline=None)
@given(texts=TEXTS)
def test_dropping_no_line_is_no_change_and_dropping_all_leaves_nothing(texts):
    array = arrow(texts)
    none = np.zeros(0, np.int64)
    assert drop_lines(array, none, none) is array
    places = [(d, n) for d, t in enumerate(texts) for n in range(t.count("\n") + 1)]
    document, line = np.array(places, np.int64).reshape(-1, 2).T
    assert drop_lines(array, document, line).to_pylist() == [""] * len(texts)
