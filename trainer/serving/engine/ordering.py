# SPDX-License-Identifier: Apache-2.0
"""In which order a list of requests is taken, and which of them share a prefix.

Both follow from the list alone. Requests that share one stand side by side, so that
only one prefix is kept at a time; apart from that the shorter prompts come first:
neighbours of like length are read with little padding.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from trainer.serving.engine.requests import SlotRequest

# Ids that reading a prefix once must save: a further call of prefill, for one row
# alone, costs about as much as reading this many more ids beside others'.
LEAST_SAVED = 64
# Of how many bits lengths of prefixes are compared, the first ones: prefixes of
# prefixes are nested at most eight deep for each doubling, however many there are.
_BITS = 4


@dataclass(frozen=True)
class _Run:
    """Requests `first` to `last` in the order of their ids, and what they share."""

    first: int
    last: int
    shared: int

    @property
    def saved(self) -> int:
        return self.shared * (self.last - self.first)


def in_order(requests: Sequence[SlotRequest]) -> list[SlotRequest]:
    """Returns the requests as they are best taken, each with what it shares."""
    by_ids = sorted(requests, key=lambda each: (*each.ids,))
    groups = [
        [replace(by_ids[i], shared=run.shared) for i in range(run.first, run.last + 1)]
        for run in _runs(by_ids)
    ]
    place = {each.key: number for number, each in enumerate(requests)}

    def by_length(each: SlotRequest) -> tuple[int, int]:
        return len(each.ids), place[each.key]

    ordered = [sorted(group, key=by_length) for group in groups]
    ordered.sort(key=lambda group: by_length(group[-1]))
    return [each for group in ordered for each in group]


def _runs(by_ids: Sequence[SlotRequest]) -> list[_Run]:
    """Cuts sorted requests into runs whose shared prefixes save the most ids."""
    common = [_common(a, b) for a, b in pairwise(by_ids)]
    runs = _cut([_rounded_down(each) for each in common], 0, len(by_ids) - 1)
    return [
        replace(run, shared=min(common[run.first : run.last])) if run.shared else run
        for run in runs
    ]


def _cut(common: Sequence[int], first: int, last: int) -> Iterator[_Run]:
    """Yields the best runs of `first` to `last`: one run, or those of its parts."""
    if first > last:
        return
    if first == last:
        yield _Run(first, last, 0)
        return
    shared = min(common[first:last])
    whole = _Run(first, last, shared)
    borders = [i for i in range(first, last) if common[i] == shared]
    ends = [*borders, last]
    parts = [
        run
        for start, end in zip([first, *(i + 1 for i in borders)], ends, strict=True)
        for run in _cut(common, start, end)
    ]
    if whole.saved >= max(sum(run.saved for run in parts), LEAST_SAVED):
        yield whole
    else:
        yield from parts


def _common(a: SlotRequest, b: SlotRequest) -> int:
    """Returns how many first ids two prompts share, but for the last of each."""
    most = min(len(a.ids), len(b.ids)) - 1
    differ = (i for i in range(most) if a.ids[i] != b.ids[i])
    return next(differ, most)


def _rounded_down(count: int) -> int:
    dropped = max(count.bit_length() - _BITS, 0)
    return count >> dropped << dropped
