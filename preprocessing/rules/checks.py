# SPDX-License-Identifier: Apache-2.0
"""Measurements of a batch against thresholds: the first check each document fails."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from preprocessing.rules.verdicts import Failure, said


@dataclass(frozen=True)
class Check:
    """One measurement of every document against its threshold.

    Attributes:
        name: of the threshold, a field of the rule's thresholds.
        threshold: what is wanted.
        values: what was measured, float64 [n].
        failed: which documents are rejected, bool [n].
        what: what was measured, for people.
        wanted: "or more", or "or less", of the threshold.
    """

    name: str
    threshold: float
    values: np.ndarray
    failed: np.ndarray
    what: str
    wanted: str = "or more"


class Worded(Protocol):
    """Thresholds of a rule, which say in words what they are of."""

    WORDS: ClassVar[Mapping[str, str]]


def most(thresholds: Worded, name: str, values: np.ndarray) -> Check:
    """Returns the check that values [n] are at most the field `name` of thresholds."""
    threshold = getattr(thresholds, name)
    what = thresholds.WORDS[name]
    return Check(name, threshold, values, values > threshold, what, "or less")


def least(thresholds: Worded, name: str, values: np.ndarray) -> Check:
    """Returns the check that values [n] are at least the field `name` of thresholds."""
    threshold = getattr(thresholds, name)
    return Check(name, threshold, values, values < threshold, thresholds.WORDS[name])


def first_failures(checks: Sequence[Check]) -> list[Failure]:
    """Returns a failure for each document that fails one of the checks: the first."""
    failed = np.stack([check.failed for check in checks])
    first = failed.argmax(0)
    failures = []
    for place in np.flatnonzero(failed.any(0)).tolist():
        check = checks[first[place]]
        value = check.values[place].item()
        words = said(check.what, value, check.wanted, check.threshold)
        failures.append(Failure(place, check.name, value, check.threshold, words))
    return failures


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Returns part / whole, float64 [n], and 0 where the whole is nothing."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
