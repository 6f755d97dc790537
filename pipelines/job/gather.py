# SPDX-License-Identifier: Apache-2.0
"""Gathers the rows of one part of what was sent to a step, blob by blob.

What a step is sent has no bound: 128 MB of ten-byte lines are 12 million documents, and
a gigabyte of columns. So the step's range of hashes is cut into parts, as many as the
blobs' bytes ask for, and each part reads all blobs and keeps only its own rows.
"""

from collections.abc import Callable, Sequence

import numpy as np

from pipelines.job.blobs import Arrays, drained, from_bytes, take
from pipelines.job.shuffle import blob_bytes, receive

Within = Callable[[Arrays], np.ndarray]  # rows -> bool [n]: which belong to a part


def count_parts(values: Sequence[bytes], most: int) -> int:
    """Returns how many parts of about `most` bytes the gathered values make."""
    return max(1, -(-blob_bytes(values) // most))


def gather(work: str, values: Sequence[bytes], within: Within) -> Arrays | None:
    """Returns the rows that lie within a part, in no particular order; None if none.

    Args:
        work: the job's directory of unfinished work.
        values: gathered values.
        within: tells which rows of a blob to keep.
    """
    kept: list[Arrays] = []
    for value in values:
        rows = from_bytes(receive(work, [value])[0])
        chosen = within(rows)
        if chosen.all():
            kept.append(rows)
        elif chosen.any():
            kept.append(take(rows, np.flatnonzero(chosen)))
    return drained(kept) if kept else None
