# SPDX-License-Identifier: Apache-2.0
"""Lines and paragraphs of documents, as each published rule cuts them."""

from collections.abc import Callable

import numpy as np

from preprocessing.foundation.compiled import compiled
from preprocessing.foundation.utf8_space import line_end_at, skip_space, trim_space
from preprocessing.rules.measures.views import Spans, View

# No byte from the space on, and below the first of a longer character, ends a line.
_FEED, _SPACE, _TWO_BYTES = 10, 0x20, 0xC2


def any_lines(seen: View) -> Spans:
    """Returns lines as Gopher's quality rule counts them: `str.splitlines`."""
    return _spans(seen, _any_lines)


def filled_lines(seen: View) -> Spans:
    """Returns lines as FineWeb's rule counts them: not blank, between feeds."""
    return _spans(seen, _filled_lines)


def feed_lines(seen: View) -> Spans:
    r"""Returns lines as the repetition rule counts them: `re.split("\n+", text)`."""
    return _spans(seen, _feed_lines)


def paragraphs(seen: View) -> Spans:
    r"""Returns paragraphs: `re.split("\n{2,}", text.strip())`."""
    return _spans(seen, _paragraphs)


def _spans(seen: View, kernel: Callable[..., int]) -> Spans:
    # A line a byte and one more at most; what stays unwritten takes no memory.
    most = int((seen.ends - seen.starts).sum()) + len(seen.starts)
    starts, ends = np.empty(most, np.int64), np.empty(most, np.int64)
    first = np.zeros(len(seen.starts) + 1, np.int64)
    count = kernel(seen.data, seen.starts, seen.ends, starts, ends, first)
    return Spans(starts[:count], ends[:count], first)


@compiled
def _any_lines(
    data: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    line_starts: np.ndarray,
    line_ends: np.ndarray,
    first: np.ndarray,
) -> int:
    count = 0
    for document in range(len(starts)):
        place, end = starts[document], ends[document]
        first[document] = count
        while place < end:
            line_starts[count] = place
            size = 0
            while place < end:
                # Calling for every byte would cost ten times as much.
                if not _SPACE <= data[place] < _TWO_BYTES:
                    size = line_end_at(data, place, end)
                    if size > 0:
                        break
                place += 1
            line_ends[count] = place
            place += size
            count += 1
    first[len(starts)] = count
    return count


@compiled
def _filled_lines(
    data: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    line_starts: np.ndarray,
    line_ends: np.ndarray,
    first: np.ndarray,
) -> int:
    count = 0
    for document in range(len(starts)):
        place, end = starts[document], ends[document]
        first[document] = count
        while place < end:
            stop = place
            while stop < end and data[stop] != _FEED:
                stop += 1
            if skip_space(data, place, stop) < stop:
                line_starts[count], line_ends[count] = place, stop
                count += 1
            place = stop + 1
    first[len(starts)] = count
    return count


@compiled
def _feed_lines(
    data: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    line_starts: np.ndarray,
    line_ends: np.ndarray,
    first: np.ndarray,
) -> int:
    count = 0
    for document in range(len(starts)):
        first[document] = count
        count = _cut_at_feeds(
            data, starts[document], ends[document], 1, line_starts, line_ends, count
        )
    first[len(starts)] = count
    return count


@compiled
def _paragraphs(
    data: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    line_starts: np.ndarray,
    line_ends: np.ndarray,
    first: np.ndarray,
) -> int:
    count = 0
    for document in range(len(starts)):
        first[document] = count
        start = skip_space(data, starts[document], ends[document])
        end = trim_space(data, start, ends[document])
        count = _cut_at_feeds(data, start, end, 2, line_starts, line_ends, count)
    first[len(starts)] = count
    return count


@compiled
def _cut_at_feeds(
    data: np.ndarray,
    start: int,
    end: int,
    least: int,
    line_starts: np.ndarray,
    line_ends: np.ndarray,
    count: int,
) -> int:
    """Writes what lies between rows of `least` feeds or more; returns the new count."""
    line_starts[count] = start
    place = start
    while place < end:
        if data[place] != _FEED:
            place += 1
            continue
        stop = place
        while stop < end and data[stop] == _FEED:
            stop += 1
        if stop - place >= least:
            line_ends[count] = place
            count += 1
            line_starts[count] = stop
        place = stop
    line_ends[count] = end
    return count + 1
