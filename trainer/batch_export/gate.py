# SPDX-License-Identifier: Apache-2.0
"""What `--require` asks of a release: a small language, read and judged.

    requirement   METRIC COMPARISON BOUND      bits_per_byte <= stable * 1.01
    comparison    <=  <  >=  >
    bound         NUMBER | REFERENCE | REFERENCE * NUMBER | NUMBER * REFERENCE
    reference     stable, what that label shows | previous, the highest version

No more than that can be written, so nothing that is written can run anything.
"""

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from preprocessing.contracts import releases
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError, suggest
from trainer.batch_export.figures import (
    METRICS,
    OF_TEXT,
    ReleaseFigures,
    read_figures,
)
from trainer.labels.labels import STABLE

PREVIOUS = "previous"
REFERENCES = (STABLE, PREVIOUS)
# Label -> metric -> number.
Figures = Mapping[str, Mapping[str, float]]
_COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
}
_NAME, _NUMBER = r"[A-Za-z_][\w.:/-]*", r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+"
_REQUIREMENT = re.compile(rf"\s*({_NAME})\s*(<=|<|>=|>)\s*(.*?)\s*", re.ASCII)
_BOUND = re.compile(
    rf"(?P<alone>{_NUMBER})|(?P<name>{_NAME})(?:\s*\*\s*(?P<after>{_NUMBER}))?"
    rf"|(?P<before>{_NUMBER})\s*\*\s*(?P<last>{_NAME})",
    re.ASCII,
)


@dataclass(frozen=True)
class Requirement:
    """One comparison.

    Attributes:
        text: as it was written.
        metric: what is compared.
        comparison: how.
        reference: whose same metric it is compared with; None for a number alone.
        factor: what that is multiplied by, or the number alone.
    """

    text: str
    metric: str
    comparison: str
    reference: str | None
    factor: float

    def refusal(self, metrics: Mapping[str, float], references: Figures) -> str:
        """Returns why figures do not meet it, "" where they do.

        Raises:
            KeyError: the reference, or its metric, is not there; `check` says so first.
        """
        found = metrics.get(self.metric)
        bound = self.factor
        if self.reference is not None:
            bound *= references[self.reference][self.metric]
        # Written so that NaN on either side refuses.
        if found is not None and _COMPARISONS[self.comparison](found, bound):
            return ""
        number = "none" if found is None else _plain(found)
        of = ""
        if self.reference is not None:
            other = references[self.reference][self.metric]
            of = f" ({self.reference}'s {_plain(other)} * {_plain(self.factor)})"
        return (
            f"wanted {self.metric} {self.comparison} {_plain(bound)}{of}, found "
            f"{number}"
        )


@dataclass(frozen=True)
class Requirements:
    """All that is asked of a release; nothing is met by any."""

    each: tuple[Requirement, ...] = ()

    def references(self) -> frozenset[str]:
        """Returns the names of the releases that are compared with."""
        return frozenset(one.reference for one in self.each if one.reference)

    def metrics(self) -> frozenset[str]:
        """Returns the names of what is compared."""
        return frozenset(one.metric for one in self.each)

    def check(self, name: str, references: Figures) -> None:
        """Raises `UsageError` where a reference has no such figure, before work.

        Args:
            name: the model, for the message.
            references: what is known of each release that is compared with.
        """
        for one in self.each:
            if one.reference is None:
                continue
            if one.reference not in references:
                where = (
                    "no version has that label"
                    if one.reference == STABLE
                    else "it has no version yet"
                )
                raise UsageError(
                    f"wanted {one.reference} of {name} for --require {one.text!r}, "
                    f"found that {where}. Promote one, or compare with a number"
                )
            if one.metric not in references[one.reference]:
                raise UsageError(
                    f"wanted {one.metric} of {name}'s {one.reference} for --require "
                    f"{one.text!r}, found that it was not measured there on this "
                    "split. Run the command that made it with this --data, or compare "
                    "with a number"
                )

    def refusals(self, judged: ReleaseFigures, references: Figures) -> list[str]:
        """Returns a sentence with both figures for each requirement that is not met."""
        metrics = judged.metrics()
        found = (one.refusal(metrics, references) for one in self.each)
        return [sentence for sentence in found if sentence]


def parse_requirements(
    texts: Sequence[str], further: Iterable[str] = ()
) -> Requirements:
    """Reads what `--require` was given.

    Args:
        texts: one requirement each.
        further: names of metrics besides those that every release has.

    Raises:
        UsageError: one is no requirement, or names a metric or a reference that there
            is not.
    """
    known = [*METRICS, *further]
    return Requirements(tuple(_parsed(text, known) for text in texts))


def references_of(
    model: str,
    wanted: Iterable[str],
    labels: Mapping[str, int],
    judged_on: tuple[str, str] | None = None,
) -> dict[str, dict[str, float]]:
    """Returns the figures of the releases that a model's are compared with.

    Args:
        model: its directory, MODELS/NAME.
        wanted: names out of `REFERENCES`.
        labels: what its labels show.
        judged_on: (SHA-256 of a manifest, split) that figures of text must be of: bits
            per byte of two texts say nothing of each other. None leaves them out.

    Returns:
        Name -> metric -> number; a name without a release is left out, and a release
        that was never judged has no metric.
    """
    names = releases.versions(model)
    shown = {PREVIOUS: max(names, default=None), STABLE: labels.get(STABLE)}
    found = {}
    for name in wanted:
        version = shown[name]
        if version is not None and version in names:
            judged = read_figures(storage.join(model, names[version]))
            found[name] = {} if judged is None else _comparable(judged, judged_on)
    return found


def _comparable(
    judged: ReleaseFigures, judged_on: tuple[str, str] | None
) -> dict[str, float]:
    """Returns the figures of a release that those of another can be compared with."""
    same = (judged.dataset, judged.split) == judged_on
    return {
        name: value
        for name, value in judged.metrics().items()
        if same or name not in OF_TEXT
    }


def _parsed(text: str, known: Sequence[str]) -> Requirement:
    found = _REQUIREMENT.fullmatch(text)
    bound = None if found is None else _BOUND.fullmatch(found[3])
    if found is None or bound is None:
        raise UsageError(
            "wanted --require 'METRIC <= BOUND', where a bound is a number, or stable "
            f"or previous times one, found {text!r}. Write it as 'bits_per_byte <= "
            "stable * 1.01'"
        )
    metric, name = found[1], bound["name"] or bound["last"]
    if metric not in known:
        raise UsageError(
            f"wanted a metric for --require {text!r}, one of {', '.join(known)}, found "
            f"{metric}.{suggest(metric, known)} Change it"
        )
    if name is not None and name not in REFERENCES:
        raise UsageError(
            f"wanted {' or '.join(REFERENCES)} to compare with in --require {text!r}, "
            f"found {name}.{suggest(name, REFERENCES)} Change it"
        )
    factor = float(bound["alone"] or bound["after"] or bound["before"] or 1)
    if not math.isfinite(factor):
        raise UsageError(
            f"wanted a number below {1.8e308:g} in --require {text!r}, found more. "
            "Change it"
        )
    return Requirement(text.strip(), metric, found[2], name, factor)


def _plain(number: float) -> str:
    """Returns a number in as many digits as tell a gate's two sides apart."""
    return f"{number:,}" if isinstance(number, int) else f"{number:.8g}"
