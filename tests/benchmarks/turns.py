# SPDX-License-Identifier: Apache-2.0
"""Two sides in turns, and whether what was seen decides between them.

The machine's speed swings by half within minutes, so a figure of one side says little
and the quotient of two neighbours much. A comparison is the median of the quotients of
nine turns or more. Where their quartiles lie further apart than the margin that the
median claims, turns are added; where they still do, nothing is decided here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LEAST_TURNS, MOST_TURNS = 9, 27


@dataclass(frozen=True)
class Comparison:
    """Speeds of both sides, turn by turn; only quotients of one turn are compared."""

    ours: Sequence[float]
    theirs: Sequence[float]

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """First quartile, median and third quartile of ours / theirs."""
        first, median, third = np.quantile(self._quotients, [0.25, 0.5, 0.75])
        return float(first), float(median), float(third)

    @property
    def decided(self) -> bool:
        """Whether the quartiles are no further apart than the median is from 1."""
        first, median, third = self.quartiles
        return third - first <= abs(median - 1)

    def __str__(self) -> str:
        first, median, third = self.quartiles
        words = f"{median:.2f} times (quartiles {first:.2f} and {third:.2f}, "
        words += f"{len(self.ours)} turns)"
        return words if self.decided else f"{words}, not decided here"

    @property
    def _quotients(self) -> np.ndarray:
        return np.asarray(self.ours, float) / np.asarray(self.theirs, float)


def in_turns(
    ours: Callable[[], float],
    theirs: Callable[[], float],
    least: int = LEAST_TURNS,
    most: int = MOST_TURNS,
    late: Callable[[], bool] = lambda: False,
) -> Comparison:
    """Measures ours, theirs, ours, theirs, … until it is decided, or `most` turns.

    Args:
        ours: does our work once and returns its speed, in any unit that both share.
        theirs: does theirs.
        least: turns, even if fewer would decide.
        most: turns, even if nothing is decided.
        late: whether time is over, asked after every turn.
    """
    seen: list[tuple[float, float]] = []
    while True:
        seen.append((ours(), theirs()))
        comparison = Comparison(*zip(*seen, strict=True))
        if len(seen) >= most or (len(seen) >= least and comparison.decided):
            return comparison
        if late():
            return comparison


def spread(values: Sequence[float], form: str = ",.0f") -> str:
    """Returns the median and, in brackets, the quartiles, as a table shows them."""
    first, median, third = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{median:{form}} ({first:{form}} to {third:{form}})"
