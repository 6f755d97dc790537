# SPDX-License-Identifier: Apache-2.0
"""Positions of the training stream that remain when some ranges are left out.

A rollback leaves out the rows that led to it. They keep their positions, so that one
integer still says where a run stands, but no step takes them. With [3, 5) left out,
batches of two and a run begun at 0:

    positions  0 1 | 2 . . 5 | 6 7 |        a step ends at 2, 6 and 8
"""

from collections.abc import Sequence

import numpy as np

# [first, end) of stream positions each, ascending, none touching another.
Ranges = Sequence[tuple[int, int]]


def take(start: int, count: int, omitted: Ranges) -> tuple[np.ndarray, int]:
    """Returns the next positions that are not left out, and where they end.

    Args:
        start: stream position to begin at; it may be one that is left out.
        count: positions to take.
        omitted: ranges to leave out.

    Returns:
        Positions, ascending, int64 [count], and the one after the last of them
        (`start` if there are none): taking from there goes on without a seam.
    """
    ranges = np.array(omitted, np.int64).reshape(-1, 2)
    lengths = ranges[:, 1] - ranges[:, 0]
    left_out = np.concatenate([[0], np.cumsum(lengths)])
    # Number what remains from 0: a range then lies before one of those numbers.
    before = ranges[:, 0] - left_out[:-1]
    passed = np.clip(start - ranges[:, 0], 0, lengths).sum()
    numbers = np.arange(start - passed, start - passed + count, dtype=np.int64)
    positions = numbers + left_out[np.searchsorted(before, numbers, side="right")]
    return positions, int(positions[-1]) + 1 if count else start


def runs(positions: np.ndarray) -> list[tuple[int, int]]:
    """Returns (first, count) of each run of neighbours in ascending positions [n]."""
    if not len(positions):
        return []
    cuts = np.flatnonzero(np.diff(positions) != 1) + 1
    parts = np.split(positions, cuts)
    return [(int(part[0]), len(part)) for part in parts]
