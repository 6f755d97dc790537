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
    """

    place: int
    check: str
    value: float | str
    threshold: float | str


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


Rule = Callable[[pa.LargeStringArray], Judged]
