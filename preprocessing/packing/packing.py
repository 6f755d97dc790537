# SPDX-License-Identifier: Apache-2.0
"""Packing documents into rows of sequence_length + 1 ids, losing none.

    document of n ids       0 ............ S ............ 2S .... n - 1
    pieces                  [0 .......... S]
                                          [S .......... 2S]
                                                         [2S ... n - 1]

A long document is cut into pieces that advance by S and share one id, so every id but
a document's first is a target exactly once. A plan says where each piece goes, from
lengths and the seed alone; ids are then gathered into rows by index arithmetic.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from preprocessing.contracts.records import RecordFormat
from preprocessing.foundation.fingerprints import mix, word_of

# Documents that are planned together.
WINDOW_DOCUMENTS = 8192
# Rows are gathered in blocks of about this many ids, whose index fits a core's cache.
BLOCK_TOKENS = 1 << 18


@dataclass(frozen=True)
class RowPlan:
    """Where the pieces of one window go; pieces are sorted by (row, segment).

    Attributes:
        rows: how many rows the window makes.
        row: [n] each piece's row in the window.
        segment: [n] its place in the row.
        document: [n] the index of its document.
        start: [n] the index of its first id among the document's ids.
        length: [n] its ids.
    """

    rows: int
    row: np.ndarray
    segment: np.ndarray
    document: np.ndarray
    start: np.ndarray
    length: np.ndarray


@dataclass(frozen=True)
class PackedRows:
    """A block of rows, and where each of their segments comes from.

    Attributes:
        features: what `RecordFormat.encode` takes: `tokens` [rows, S + 1] padded with
            the pad id, `segment_lengths` [rows, max_segments] zero padded, and what
            else the layout has, in stored dtypes.
        row: int64 [n], each segment's row in this block.
        segment: int64 [n], its place in the row.
        document: int64 [n], the index of its document in `lengths`.
        start: int64 [n], the index of its first id among the document's ids.
        length: int64 [n], its ids.
    """

    features: dict[str, np.ndarray]
    row: np.ndarray
    segment: np.ndarray
    document: np.ndarray
    start: np.ndarray
    length: np.ndarray

    @property
    def rows(self) -> int:
        """How many rows the block has."""
        return len(next(iter(self.features.values())))


Planner = Callable[[np.ndarray, RecordFormat, int], Iterator[RowPlan]]


def split_documents(
    lengths: np.ndarray, sequence_length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cuts documents into pieces of at most S + 1 ids that share one id.

    Args:
        lengths: ids of each document, int64 [documents]; 0 makes no piece.
        sequence_length: S, by which pieces advance.

    Returns:
        (document, start, length) of each piece, int64 [pieces], in document order.
    """
    lengths = np.asarray(lengths, np.int64)
    pieces = np.where(
        lengths > 0, np.maximum(1, -(-(lengths - 1) // sequence_length)), 0
    )
    document = np.repeat(np.arange(len(lengths)), pieces)
    first = np.repeat(np.cumsum(pieces) - pieces, pieces)
    start = (np.arange(len(document)) - first) * sequence_length
    return document, start, np.minimum(lengths[document] - start, sequence_length + 1)


def best_fit(
    lengths: np.ndarray, layout: RecordFormat, seed: int, window: int = WINDOW_DOCUMENTS
) -> Iterator[RowPlan]:
    """Plans best-fit-decreasing in windows of documents; rows are permuted.

    The permutation, by the seed, keeps the order of lengths from leaking into the
    order of training.
    """
    lengths = np.asarray(lengths, np.int64)
    for number, begin in enumerate(range(0, len(lengths), window)):
        document, start, length = split_documents(
            lengths[begin : begin + window], layout.sequence_length
        )
        order = np.argsort(-length, kind="stable")
        row, segment, rows = _fit_decreasing(
            length[order].tolist(), layout.row_tokens, layout.max_segments
        )
        if rows:
            yield _permuted(
                RowPlan(
                    rows=rows,
                    row=row,
                    segment=segment,
                    document=document[order] + begin,
                    start=start[order],
                    length=length[order],
                ),
                word_of(seed, number),
            )


def _fit_decreasing(
    lengths: list[int], capacity: int, max_segments: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Puts each length into the fullest row that holds it, else into a new one.

    Bit r of `free` says that some open row has room for exactly r more ids: the row to
    take is the lowest set bit at or above the length, found without a search.

    Returns:
        (row [n], place in the row [n], number of rows).
    """
    free = 0
    open_rows: list[list[int]] = [[] for _ in range(capacity)]
    taken: list[int] = []  # segments in each row
    row_of, place_of = [], []
    for length in lengths:
        fitting = free >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            stack = open_rows[room]
            row = stack.pop()
            if not stack:
                free ^= 1 << room
        else:
            room, row = capacity, len(taken)
            taken.append(0)
        row_of.append(row)
        place_of.append(taken[row])
        taken[row] += 1
        room -= length
        if room and taken[row] < max_segments:
            open_rows[room].append(row)
            free |= 1 << room
    return np.array(row_of, np.int64), np.array(place_of, np.int64), len(taken)


def concat(
    lengths: np.ndarray, layout: RecordFormat, seed: int, window: int = WINDOW_DOCUMENTS
) -> Iterator[RowPlan]:
    """Plans documents one after another, each row full, cut where the row ends.

    The piece after a cut repeats one id, as everywhere, so a room of one id before a
    longer document stays padding: that id would be nobody's target there.
    """
    pieces: list[tuple[int, int, int, int, int]] = []
    room, row, segment, number = layout.row_tokens, 0, 0, 0
    for document, total in enumerate(np.asarray(lengths, np.int64).tolist()):
        start = 0
        while start < total:
            left = total - start
            if segment == layout.max_segments or room < min(left, 2):
                room, row, segment = layout.row_tokens, row + 1, 0
            taken = min(room, left)
            pieces.append((row, segment, document, start, taken))
            room, segment = room - taken, segment + 1
            start += taken if taken == left else taken - 1
        if len(pieces) >= window and row:
            # The window ends with its last closed row; the open one goes on.
            closed = sum(piece[0] < row for piece in pieces)
            yield _permuted(_plan(pieces[:closed], row), word_of(seed, number))
            pieces = [(0, *piece[1:]) for piece in pieces[closed:]]
            row, number = 0, number + 1
    if pieces:
        yield _permuted(_plan(pieces, row + 1), word_of(seed, number))


def _plan(pieces: list[tuple[int, int, int, int, int]], rows: int) -> RowPlan:
    row, segment, document, start, length = np.array(pieces, np.int64).T
    return RowPlan(rows, row, segment, document, start, length)


def _permuted(plan: RowPlan, seed: np.uint64) -> RowPlan:
    """Returns the plan with rows in the seed's order, pieces sorted."""
    order = np.argsort(mix(np.arange(plan.rows, dtype=np.uint64) ^ seed), kind="stable")
    place = np.empty(plan.rows, np.int64)
    place[order] = np.arange(plan.rows)
    row = place[plan.row]
    sort = np.lexsort((plan.segment, row))
    return RowPlan(
        rows=plan.rows,
        row=row[sort],
        segment=plan.segment[sort],
        document=plan.document[sort],
        start=plan.start[sort],
        length=plan.length[sort],
    )


def pack(
    ids: np.ndarray,
    lengths: np.ndarray,
    layout: RecordFormat,
    planner: Planner,
    seed: int,
    pad_id: int,
    prefix: np.ndarray | None = None,
    source: int = 0,
    block_tokens: int = BLOCK_TOKENS,
) -> Iterator[PackedRows]:
    """Packs documents into blocks of rows.

    Args:
        ids: the ids of all documents one after another, [sum of lengths].
        lengths: ids of each document, int64 [documents].
        layout: the rows' length, dtypes and number of segments.
        planner: `best_fit` or `concat`.
        seed: permutes the rows of each window.
        pad_id: fills what no segment covers.
        prefix: leading ids of each document that are no targets, int64 [documents],
            for layouts with `prefix_lengths` or `loss_mask`; every document must fit
            a row then.
        source: the documents' place in the mixture, where the layout has `sources`.
        block_tokens: ids of a block, more only where one row has more.
    """
    lengths = np.asarray(lengths, np.int64)
    if int(lengths.sum()) != len(ids):
        raise ValueError(
            f"wanted lengths that add up to {len(ids)} ids, found {lengths.sum()}"
        )
    ids = np.asarray(ids).astype(layout.token_dtype, copy=False)
    firsts = np.cumsum(lengths) - lengths
    step = max(1, block_tokens // layout.row_tokens)
    for plan in planner(lengths, layout, seed):
        origin = firsts[plan.document] + plan.start
        for begin in range(0, plan.rows, step):
            end = min(begin + step, plan.rows)
            first, last = np.searchsorted(plan.row, (begin, end)).tolist()
            pieces = slice(first, last)
            block = _gather(ids, origin, plan, pieces, (begin, end), layout, pad_id)
            if prefix is not None:
                _mark_prefix(block, prefix[block.document], layout)
            if layout.sources:
                mark_sources(block, source, layout)
            yield block


def _gather(
    ids: np.ndarray,
    origin: np.ndarray,
    plan: RowPlan,
    pieces: slice,
    rows: tuple[int, int],
    layout: RecordFormat,
    pad_id: int,
) -> PackedRows:
    """Returns the rows of a plan that `pieces` fill; `origin` indexes `ids`."""
    begin, end = rows
    row, length = plan.row[pieces] - begin, plan.length[pieces]
    filled = np.bincount(row, length, minlength=end - begin).astype(np.int64)
    # The pieces of a row and its padding follow one another, so each is a span of
    # cells whose source index differs from the cell's own by one constant.
    row_ends = np.searchsorted(row, np.arange(end - begin), side="right")
    spans = np.insert(length, row_ends, layout.row_tokens - filled)
    shifts = np.insert(origin[pieces], row_ends, 0) - (np.cumsum(spans) - spans)
    cells = int(spans.sum())
    index_dtype = np.int32 if len(ids) + cells < 2**31 else np.int64
    index = np.repeat(shifts.astype(index_dtype), spans)
    index += np.arange(cells, dtype=index_dtype)
    tokens = ids.take(index, mode="clip").reshape(-1, layout.row_tokens)
    tokens[np.arange(layout.row_tokens) >= filled[:, None]] = pad_id
    segment_lengths = np.zeros((end - begin, layout.max_segments), layout.length_dtype)
    segment_lengths[row, plan.segment[pieces]] = length
    return PackedRows(
        features={"tokens": tokens, "segment_lengths": segment_lengths},
        row=row,
        segment=plan.segment[pieces],
        document=plan.document[pieces],
        start=plan.start[pieces],
        length=length,
    )


def _mark_prefix(block: PackedRows, prefix: np.ndarray, layout: RecordFormat) -> None:
    """Adds what the layout says of ids that are no targets; `prefix` is by segment.

    Bit i of `loss_mask`, the lowest first in each byte, is set where id i of the row
    is predicted: not in a prefix, and not a segment's first, which nothing precedes.
    """
    features = block.features
    if layout.prefix:
        lengths = np.zeros_like(features["segment_lengths"])
        lengths[block.row, block.segment] = prefix
        features["prefix_lengths"] = lengths
    if layout.loss_mask:
        edges = np.zeros((block.rows, layout.row_tokens + 1), np.int8)
        ends = np.cumsum(features["segment_lengths"], axis=1, dtype=np.int64)
        end = ends[block.row, block.segment]
        first = end - block.length + np.minimum(np.maximum(prefix, 1), block.length)
        # A segment without a target opens and closes at one place: both add up.
        np.add.at(edges, (block.row, first), 1)
        np.add.at(edges, (block.row, end), -1)
        targets = np.cumsum(edges[:, :-1], axis=1, dtype=np.int8) > 0
        features["loss_mask"] = np.packbits(targets, axis=1, bitorder="little")


def mark_sources(block: PackedRows, source: int, layout: RecordFormat) -> None:
    """Adds `sources`: every segment's place in the mixture, 0 where there is none."""
    sources = np.zeros((block.rows, layout.max_segments), np.uint8)
    sources[block.row, block.segment] = source
    block.features["sources"] = sources
