# SPDX-License-Identifier: Apache-2.0
"""Packing examples of inputs and targets into rows for an encoder and a decoder.

    inputs   a a a a b b c 0      segment lengths 4 2 1
    targets  A B B B C C 0 0      segment lengths 1 3 2

Segment k of the inputs and segment k of the targets are one example; a row holds as
many as fit on both sides.
"""

from collections.abc import Iterator

import numpy as np

from preprocessing.contracts.records import RecordFormat
from preprocessing.foundation.compiled import compiled
from preprocessing.foundation.fingerprints import mix, word_of
from preprocessing.packing.packing import (
    BLOCK_TOKENS,
    WINDOW_DOCUMENTS,
    PackedRows,
    mark_sources,
)


def pack_pairs(
    ids: np.ndarray,
    lengths: np.ndarray,
    prefix: np.ndarray,
    layout: RecordFormat,
    seed: int,
    pad_id: int,
    source: int = 0,
    window: int = WINDOW_DOCUMENTS,
    block_tokens: int = BLOCK_TOKENS,
) -> Iterator[PackedRows]:
    """Packs examples into blocks of rows.

    First-fit-decreasing by the fuller of both sides, in windows of examples; the rows
    of a window are then permuted by the seed.

    Args:
        ids: the ids of all examples one after another, inputs before targets.
        lengths: ids of each example, int64 [n].
        prefix: how many of them are inputs, int64 [n]; both sides fit a row.
        layout: the rows' lengths, dtypes and number of segments.
        seed: permutes the rows of each window.
        pad_id: fills what no segment covers.
        source: the examples' place in the mixture, where the layout has `sources`.
        window: examples that are planned together.
        block_tokens: ids of a block, more only where one row has more.
    """
    capacity = np.array([layout.sequence_length, layout.target_length or 0])
    sizes = np.stack([prefix, lengths - prefix], axis=1)
    origins = np.cumsum(lengths) - lengths
    step = max(1, block_tokens // int(capacity.sum()))
    for number, begin in enumerate(range(0, len(lengths), window)):
        mine = sizes[begin : begin + window]
        fuller = (mine / capacity).max(axis=1)
        order = np.argsort(-fuller, kind="stable")
        row, segment = _first_fit(mine[order], capacity, layout.max_segments)
        rows = int(row.max()) + 1
        word = word_of(seed, number)
        place = np.empty(rows, np.int64)
        place[
            np.argsort(mix(np.arange(rows, dtype=np.uint64) ^ word), kind="stable")
        ] = np.arange(rows)
        row = place[row]
        sort = np.lexsort((segment, row))
        row, segment, example = row[sort], segment[sort], order[sort] + begin
        for first in range(0, rows, step):
            last = min(first + step, rows)
            pieces = slice(*np.searchsorted(row, (first, last)).tolist())
            block = PackedRows(
                features={},
                row=row[pieces] - first,
                segment=segment[pieces],
                document=example[pieces],
                start=np.zeros(pieces.stop - pieces.start, np.int64),
                length=lengths[example[pieces]],
            )
            _fill(block, last - first, ids, origins, sizes, layout, pad_id)
            if layout.sources:
                mark_sources(block, source, layout)
            yield block


def _fill(
    block: PackedRows,
    rows: int,
    ids: np.ndarray,
    origins: np.ndarray,
    sizes: np.ndarray,
    layout: RecordFormat,
    pad_id: int,
) -> None:
    """Adds a block's features: both sides' ids and segment lengths."""
    counts = layout.features()
    begins = origins[block.document]
    for side, name in enumerate(("inputs", "targets")):
        length = sizes[block.document, side]
        lengths = np.zeros((rows, layout.max_segments), layout.length_dtype)
        lengths[block.row, block.segment] = length
        tokens = np.full((rows, int(str(counts[name]["count"]))), pad_id)
        real = np.arange(tokens.shape[1]) < lengths.sum(axis=1, dtype=np.int64)[:, None]
        shifts = begins - (np.cumsum(length) - length)
        tokens[real] = ids[np.repeat(shifts, length) + np.arange(length.sum())]
        block.features[name] = tokens.astype(layout.token_dtype)
        block.features[f"{name}_segment_lengths"] = lengths
        begins = begins + length


@compiled
def _first_fit(
    sizes: np.ndarray, capacity: np.ndarray, max_segments: int
) -> tuple[np.ndarray, np.ndarray]:
    """Puts each example into the first row with room on both sides, else a new one.

    Args:
        sizes: ids of inputs and targets, int64 [n, 2].
        capacity: of a row, int64 [2].
        max_segments: examples a row can hold.

    Returns:
        (row, place in the row) of each example, int64 [n].
    """
    row, place = np.empty(len(sizes), np.int64), np.empty(len(sizes), np.int64)
    inputs, targets = np.empty(len(sizes), np.int64), np.empty(len(sizes), np.int64)
    taken = np.zeros(len(sizes), np.int64)
    rows, first = 0, 0
    for number in range(len(sizes)):
        at = first
        while at < rows and (
            taken[at] == max_segments
            or inputs[at] < sizes[number, 0]
            or targets[at] < sizes[number, 1]
        ):
            at += 1
        if at == rows:
            inputs[at], targets[at] = capacity[0], capacity[1]
            rows += 1
        inputs[at] -= sizes[number, 0]
        targets[at] -= sizes[number, 1]
        row[number], place[number] = at, taken[at]
        taken[at] += 1
        # Rows at the front that nothing fits any more are not looked at again.
        while first < rows and (
            taken[first] == max_segments or inputs[first] < 1 or targets[first] < 1
        ):
            first += 1
    return row, place
