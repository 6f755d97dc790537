# SPDX-License-Identifier: Apache-2.0
"""What NFC does to each code point, asked from the reference, `tokenizers`.

Python, ICU and `tokenizers` follow different versions of Unicode, so their NFC differs
in dozens of characters. What they share is the algorithm (Unicode Standard Annex 15):
characters are decomposed, marks between two starters are ordered by their combining
class, and pairs are composed. So it is enough to ask for the three tables.
"""

import functools
import itertools
from dataclasses import dataclass

from tokenizers import normalizers

from preprocessing.tokenizer.contested import nfc_ranges

_BELOW, _ABOVE = "\u0334", "\u0345"  # marks of the least and the greatest class
_SEPARATOR = "\n"  # neither joins nor orders what is on both sides of it


@dataclass(frozen=True)
class NfcTables:
    """The tables of the reference's NFC.

    Attributes:
        decompositions: code points in full, for each one that is decomposed.
        classes: the combining class of each mark by its rank among all, from 1 on.
            All others have 0.
        compositions: what two code points compose to.
    """

    decompositions: dict[int, tuple[int, ...]]
    classes: dict[int, int]
    compositions: dict[tuple[int, int], int]


@functools.cache  # asking takes a second
def nfc_tables() -> NfcTables:
    """Asks the reference."""
    decompose = normalizers.NFD().normalize_str
    points = [p for p in range(1, 0x110000) if not 0xD800 <= p < 0xE000 and p != 10]
    answers = decompose(_SEPARATOR.join(map(chr, points))).split(_SEPARATOR)
    decompositions = {
        point: tuple(map(ord, answer))
        for point, answer in zip(points, answers, strict=True)
        if answer != chr(point)
    }
    sensitive = (range(first, last + 1) for first, last in nfc_ranges())
    marks = itertools.chain.from_iterable(sensitive)
    whole = [point for point in marks if point not in decompositions]
    return NfcTables(decompositions, _classes(whole), _compositions(decompositions))


def _classes(points: list[int]) -> dict[int, int]:
    """Ranks the marks among code points that are not decomposed.

    The reference exchanges two marks where the first has the greater class.
    """
    decompose = normalizers.NFD().normalize_str

    def exchanged(first: str, second: str) -> bool:
        return decompose(f"x{first}{second}") != f"x{first}{second}"

    def compare(first: str, second: str) -> int:
        return exchanged(first, second) - exchanged(second, first)

    # All at once, to see where a mark is before it is asked which one.
    texts = [f"x{_ABOVE}{chr(p)}x{chr(p)}{_BELOW}" for p in points]
    answers = decompose(_SEPARATOR.join(texts)).split(_SEPARATOR)
    marks = [
        chr(point)
        for point, text, answer in zip(points, texts, answers, strict=True)
        if text != answer
    ]
    marks.sort(key=functools.cmp_to_key(compare))
    ranks, rank = dict[int, int](), 1
    for before, mark in itertools.pairwise(["", *marks]):
        rank += bool(before) and exchanged(mark, before)
        ranks[ord(mark)] = rank
    return ranks


def _compositions(
    decompositions: dict[int, tuple[int, ...]],
) -> dict[tuple[int, int], int]:
    """Returns the pair behind each code point that is decomposed and composed again."""
    compose = normalizers.NFC().normalize_str
    pairs: dict[tuple[int, int], int] = {}
    for point, parts in decompositions.items():
        if compose(chr(point)) != chr(point):
            continue
        first = compose("".join(map(chr, parts[:-1])))
        last = chr(parts[-1])
        if len(first) != 1 or compose(first + last) != chr(point):
            raise AssertionError(f"wanted a pair that gives U+{point:04X}")
        pairs[ord(first), ord(last)] = point
    return pairs
