# SPDX-License-Identifier: Apache-2.0
"""Sentences are counted as a reader would, in most lines."""

import numpy as np
import pytest

from preprocessing.rules.measures.sentences import count_sentences


def count(line):
    data = np.frombuffer(line.encode(), np.uint8)
    return count_sentences(data, 0, len(data))


@pytest.mark.parametrize(
    ("sentences", "line"),
    [
        (1, ""),
        (1, "no mark at all"),
        (1, "One."),
        (2, "One. Two."),
        (3, "One! Two? Three"),
        (2, '"Is it?" he asked.'),
        (2, "(It is.) So it is."),
        (2, "One.' ” » (Two."),
        (1, "Well... no."),
        (1, "One... . ... !"),
        (1, "Mr. Smith of St. John met J. R. Smith at 3 p.m. sharp."),
        (1, "U.S. law, e.g. this, i.e. vs. that"),
        (2, "The USA. It is big."),
        (2, "Version 3.5 of example.com is 7. That is new."),
        (2, "A line lost its space.Then it went on."),
        (2, "Какая погода? Хорошая."),
        (2, "好 吗？ 好。"),
        (2, "यह है। वह है।"),
        (2, "Really?! Yes."),
        (2, "It costs. $5"),
    ],
)
def test_a_line_has_as_many_sentences_as_it_should(sentences, line):
    assert count(line) == sentences


def test_a_line_of_marks_is_one_sentence():
    assert count("?!.。" * 5) == 1
