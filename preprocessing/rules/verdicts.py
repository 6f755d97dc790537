# SPDX-License-Identifier: Apache-2.0
"""What a rule returns for a batch: the texts as it leaves them, and its rejects."""

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class Failure:
    """Why a rule rejects one document.

    Attributes:
        place: the document's index in the batch.
        check: what was measured, as the threshold is called: "min_words".
        value: what was found.
        threshold: what was wanted.
        words: all of that as a person says it: "words 12, wanted 50 or more".
    """

    place: int
    check: str
    value: float | str
    threshold: float | str
    words: str


@dataclass(frozen=True)
class Judged:
    """A batch after a rule.

    Attributes:
        texts: large_string [n] as the rule leaves them, the same object where it
            changes none; what a rejected document holds does not matter.
        failures: at most one for each document, in ascending order of place.
    """

    texts: pa.LargeStringArray
    failures: list[Failure]


def said(what: str, value: float, wanted: str, threshold: float) -> str:
    """Returns a measurement as a person says it.

    Args:
        what: what was measured.
        value: what was found.
        wanted: "or more" or "or less", of the threshold.
        threshold: what was wanted.
    """
    return f"{what} {_number(value, threshold)}, wanted {threshold:,} {wanted}"


def _number(value: float, threshold: float) -> str:
    """Returns a value with two decimals, or as many as tell it from the threshold."""
    if isinstance(value, int):
        return f"{value:,}"
    for digits in range(2, 17):
        shown = round(value, digits)
        if (shown > threshold) == (value > threshold) and shown != threshold:
            return f"{shown:,.{digits}f}"
    return f"{value:,}"


Rule = Callable[[pa.LargeStringArray], Judged]
