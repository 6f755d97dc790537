# SPDX-License-Identifier: Apache-2.0
"""Measurements of a batch against thresholds: the first check each document fails."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from preprocessing.rules.verdicts import Failure


@dataclass(frozen=True)
class Check:
    """One measurement of every document against its threshold.

    Attributes:
        name: of the threshold, a field of the rule's thresholds.
        threshold: what is wanted.
        values: what was measured, float64 [n].
        failed: which documents are rejected, bool [n].
    """

    name: str
    threshold: float
    values: np.ndarray
    failed: np.ndarray


def most(thresholds: object, name: str, values: np.ndarray) -> Check:
    """Returns the check that values [n] are at most the field `name` of thresholds."""
    threshold = getattr(thresholds, name)
    return Check(name, threshold, values, values > threshold)


def least(thresholds: object, name: str, values: np.ndarray) -> Check:
    """Returns the check that values [n] are at least the field `name` of thresholds."""
    threshold = getattr(thresholds, name)
    return Check(name, threshold, values, values < threshold)


def first_failures(checks: Sequence[Check]) -> list[Failure]:
    """Returns a failure for each document that fails one of the checks: the first."""
    failed = np.stack([check.failed for check in checks])
    first = failed.argmax(0)
    failures = []
    for place in np.flatnonzero(failed.any(0)).tolist():
        check = checks[first[place]]
        value = check.values[place].item()
        failures.append(Failure(place, check.name, value, check.threshold))
    return failures


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Returns part / whole, float64 [n], and 0 where the whole is nothing."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
