# SPDX-License-Identifier: Apache-2.0
"""Texts that differ in case, accents, punctuation or layout alone fold to the same."""

import unicodedata

import pytest

from preprocessing.duplicates.folding import (
    DROPPED,
    LETTER,
    LIMIT,
    POINT,
    SPACE,
    UNSPACED,
    folding_table,
)


def folded(text):
    """The text after the table, white space as one space each."""
    entries = [int(folding_table()[ord(c)]) for c in text]
    shown = {SPACE: " ", DROPPED: ""}
    return "".join(shown.get(e, chr(e & POINT) if e > 0 else "") for e in entries)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Don't STOP,\tsaid\u00a0he.", "dont stop said he"),
        ("Crème brûlée – ÅNGSTRÖM", "creme brulee  angstrom"),
        ("1 + 1 = 2 €", "1  1  2 "),
        ("source\0target", "source target"),
        ("İstanbul ΣΊΣΥΦΟΣ Ёлка", "istanbul σισυφοσ елка"),
        ("你好，世界。", "你好世界"),
        ("ภาษาไทย हिन्दी", "ภาษาไทย हिन्दी"),
        ("zero\u200bwidth \U0001f600", "zerowidth "),
    ],
)
def test_folding_lowers_case_and_drops_accents_and_punctuation(text, wanted):
    assert folded("".join(c for c in text if ord(c) < LIMIT)) == wanted


def test_a_letter_and_its_canonical_decomposition_fold_alike_in_latin_script():
    letters = [chr(p) for p in range(0xC0, 0x250) if chr(p).isalpha()]
    apart = [c for c in letters if folded(c) != folded(unicodedata.normalize("NFD", c))]
    assert not apart


def test_folding_twice_is_folding_once():
    entries = folding_table()
    points = entries[entries > 0] & POINT
    assert ((entries[points] & POINT) == points).all()


@pytest.mark.parametrize(
    ("character", "unspaced"),
    [(c, True) for c in "世ひกខཀ"] + [(c, False) for c in "aя한ह"],
)
def test_scripts_without_spaces_are_known(character, unspaced):
    entry = int(folding_table()[ord(character)])
    assert entry & LETTER
    assert bool(entry & UNSPACED) is unspaced
