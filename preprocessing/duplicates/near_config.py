# SPDX-License-Identifier: Apache-2.0
"""How near duplicates are found; apart from minhash.py, which imports a compiler."""

from dataclasses import dataclass

from preprocessing.foundation.commands import UsageError


@dataclass(frozen=True)
class NearConfig:
    """MinHash by bands (Broder 1997; Leskovec, Rajaraman, Ullman, chapter 3).

    Two documents whose sets of n-grams have Jaccard similarity s meet in at least one
    band with probability 1 - (1 - s^rows)^bands: for 14 bands of 8, half of the pairs
    at s = 0.68 do, 0.924 of those at 0.8.

    Attributes:
        bands: how many; each is one chance to meet.
        rows: minima per band, all of which must be equal.
        ngram: words in a row.
        characters: characters in a row, for scripts that put no spaces between words.
        seed: of the permutations.
        jaccard: pairs below this exact similarity do not count; 0 checks none.
    """

    bands: int = 14
    rows: int = 8
    ngram: int = 5
    characters: int = 24
    seed: int = 1
    jaccard: float = 0.0

    def __post_init__(self) -> None:
        numbers = {
            "bands": self.bands,
            "rows": self.rows,
            "ngram": self.ngram,
            "characters": self.characters,
        }
        for name, number in numbers.items():
            if number < 1:
                raise UsageError(
                    f"wanted --near_{name} of 1 or more, found {number}. The default "
                    "is usual"
                )
        if self.bands * self.rows > 1024:
            raise UsageError(
                "wanted at most 1024 permutations (--near_bands x --near_rows), found "
                f"{self.bands * self.rows}. 14 x 8 is usual"
            )
        if not 0 <= self.jaccard < 1:
            raise UsageError(
                "wanted --near_jaccard of 0 (no check) or more and below 1, found "
                f"{self.jaccard}. 0.7 is usual"
            )
