# SPDX-License-Identifier: Apache-2.0
"""FineWeb's rule: one document for each check, at and beyond its threshold."""

import dataclasses

import pyarrow as pa
import pytest

from preprocessing.foundation.commands import UsageError
from preprocessing.rules.fineweb import FINEWEB, judge

# A line of 41 characters and nine words, the full stop one of them.
LINE = "Here stands line number {} of the old page."


def page(lines):
    return [LINE.format(number) for number in range(10, 10 + lines)]


def checks(*texts, **changed):
    thresholds = dataclasses.replace(FINEWEB, **changed)
    judged = judge(pa.array(texts, pa.large_string()), thresholds)
    return [
        (failure.place, failure.check, failure.value) for failure in judged.failures
    ]


@pytest.mark.parametrize(
    ("lines", "check", "value"),
    [
        (["", " \t", "\u3000"], "empty", 0),
        ([line + " but" for line in page(10)], "min_ended_lines", 0),
        ([line + " but" for line in page(9)] + page(1), "min_ended_lines", 0.1),
        ([line + " but" for line in page(7)] + page(1), None, None),
        ([*page(1), "x" * 30, "y" * 30, "z" * 30], "max_short_lines", 0.75),
        ([*page(1), "x" * 30, "é" * 30, "z" * 31], None, None),
        ([*page(20), LINE.format(10)], "max_duplicate_line_characters", 1 / 21),
        (page(101), None, None),
        ([f"a{number:035d}." for number in range(9)], "max_feeds", 8 / 18),
        (["他走了。" * 8 + "完" + "！", "好" * 40 + "？"], None, None),
    ],
)  # fmt: skip
def test_a_page_beyond_one_threshold_fails_that_check(lines, check, value):
    found = checks("\n".join(page(3)), "\n".join(lines))
    assert found == ([(1, check, pytest.approx(value))] if check else [])


def test_pages_without_any_end_mark_can_be_kept():
    lines = [line + " but" for line in page(10)]
    assert checks("\n".join(lines), keep_unended=1) == []
    assert (
        checks("\n".join([*lines, *page(1)]), keep_unended=1)[0][1] == "min_ended_lines"
    )


def test_end_marks_can_be_named_and_are_single_characters():
    lines = [line.replace(".", ";") for line in page(10)]
    assert checks("\n".join(lines), end_marks=(";", "!")) == []
    assert checks("\n".join(page(10)), end_marks=(";", "!"))[0][1] == "min_ended_lines"
    with pytest.raises(UsageError, match=r"single characters .* found '\.\.\.'"):
        checks("x", end_marks=("...",))
