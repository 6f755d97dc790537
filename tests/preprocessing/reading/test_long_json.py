# SPDX-License-Identifier: Apache-2.0
"""A huge line of JSON is the document, or the reject, that any line is."""

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation.fingerprints import keys_of_ids
from preprocessing.foundation.read_sizes import ReadSizes
from preprocessing.reading import jsonl
from preprocessing.reading.documents import Documents
from preprocessing.reading.extents import TO_THE_END, Extent, ReaderConfig
from preprocessing.reading.jsonl import JsonLines
from preprocessing.reading.line_blocks import DocumentSpans

ESCAPES = [r"\n", r"\t", r"\"", r"\\", r"\/", r"\b", r"\f", r"\r"]
UNITS = [r"\u0041", r"\u00e9", r"\u4e2d", r"\uD83D\uDE00", r"\u0000", r"\uFFFF"]
PLAIN = ["a", "xxxxxxx", "é", "日本", "🙂", " ", "{", "}", ","]
GOOD = st.lists(st.sampled_from([*ESCAPES, *UNITS, *PLAIN]), max_size=12)
BAD = st.sampled_from([r"\x", r"\u12", r"\uDE00", r"\uD83D", r"\uD83Dx", "\t", '"'])
INSIDE = st.one_of(
    GOOD.map("".join),
    st.tuples(GOOD, BAD, GOOD).map(lambda p: "".join([*p[0], p[1], *p[2]])),
)
STRING = INSIDE.map(lambda inside: f'"{inside}"')
VALUE = STRING | st.sampled_from(
    [
        "7",
        "-0",
        "12345678901234567890",
        "1.5e3",
        "null",
        "true",
        '["a", {"b": "ccccccc"}]',
    ]
)
NAME = st.sampled_from(["text", "id", "url", "target", "other", "a rather long name"])
LINE = st.lists(st.tuples(NAME, VALUE), min_size=1, max_size=5).map(
    lambda fields: "{" + ", ".join(f'"{name}": {value}' for name, value in fields) + "}"
)


PIECE = Extent(0, "a.jsonl", "a.jsonl", 0, TO_THE_END, 0, "jsonl", "none")


def block_of(line: bytes) -> DocumentSpans:
    return DocumentSpans(0, line, np.array([0]), np.array([len(line)]))


def plain(found: Documents) -> list[object]:
    columns = [
        column if column is None else column.to_pylist()
        for column in (found.texts, found.urls, found.targets)
    ]
    return [*columns, found.keys.tolist(), found.offsets.tolist(), found.rejects]


@settings(deadline=None, max_examples=400)
@given(line=LINE, target=st.sampled_from([None, "target"]), least=st.integers(7, 12))
def test_a_line_is_the_same_whether_its_strings_are_cut_out_or_not(
    line: str, target: str | None, least: int
) -> None:
    reader, sizes = ReaderConfig(target_field=target), ReadSizes(long_bytes=least)
    parser = JsonLines(PIECE, reader, sizes)
    block = block_of(line.encode())
    wanted = plain(parser.parse(block))
    found = parser._parse_huge(block)
    if found is None:  # left to the usual way, and only where something is wrong
        assert wanted[-1] or not is_sound(line)
    else:
        assert plain(found) == wanted


def is_sound(line: str) -> bool:
    """Tells whether a line is JSON without half a surrogate pair in any string."""
    try:
        fields = json.loads(line, object_pairs_hook=list)  # repeated ones too
        json.dumps(fields, ensure_ascii=False).encode()
    except ValueError:
        return False
    return True


def test_a_string_of_many_megabytes_is_unescaped_as_python_does() -> None:
    text = '"日本" \\ 🙂\n\0' * 500_000
    for ascii_only in (True, False):
        fields = {"id": 7, "text": text, "other": text[:3_000_000]}
        data = json.dumps(fields, ensure_ascii=ascii_only).encode()
        assert len(data) > jsonl._HUGE_LINE
        found = JsonLines(PIECE, ReaderConfig()).parse(block_of(data))
        assert found.texts.to_pylist() == [text]
        np.testing.assert_array_equal(found.keys, keys_of_ids("a.jsonl", ["7"]))
        assert found.rejects == []
