# SPDX-License-Identifier: Apache-2.0
r"""Lines and paragraphs of a byte stream as spans of large blocks.

    file      a line\n another\r\n \n a third ...
    extent              [start .................. end)
    its lines          those that start in [start, end), the last one read past `end`

Positions come from numpy over whole blocks. A line or paragraph above the limit is
skipped as it streams past, so memory stays near the block and the limit. A line larger
than a block comes alone, held once: blocks are given away, not kept here too.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from preprocessing.foundation.decompression import DamagedInput, decompress
from preprocessing.foundation.read_sizes import ReadSizes
from preprocessing.reading.documents import Trouble
from preprocessing.reading.extents import TO_THE_END, Extent
from preprocessing.reading.streams import rest_of

# What is read at once past an extent's end, where only one line or paragraph is wanted.
_OVERRUN_BYTES = 256 << 10
_STRETCH = 1 << 18  # bytes compared at once; the mask stays in a core's cache
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NEWLINE, _RETURN = 10, 13
_LINE_END_BYTES = 2
_BLANKS = b" \t\r\x0b\x0c"
_IS_BLANK = np.isin(np.arange(256), np.frombuffer(_BLANKS, np.uint8))


@dataclass(frozen=True)
class DocumentSpans:
    """Documents data[starts:ends] of a block, and what was met instead of some.

    `offset` is the place of data[0] in the (uncompressed) file; starts and ends are
    int64 [n] within data; troubles are (offset in the file, reason, detail).
    """

    offset: int
    data: bytes | bytearray
    starts: np.ndarray
    ends: np.ndarray
    troubles: list[Trouble] = field(default_factory=list)


@dataclass(frozen=True)
class _Block:
    """Whole lines; or one line too large to hold; or where the stream broke."""

    offset: int
    data: bytes | bytearray
    oversized: int = 0
    damage: DamagedInput | None = None


class _Passed:
    """Says what stands instead of lines in each block of an extent, in their order."""

    def __init__(self, file: BinaryIO, extent: Extent) -> None:
        self._file, self._extent = file, extent
        self._read = file.tell()

    def troubles(self, block: _Block, at: int) -> list[Trouble]:
        """Returns what stands at `at`, and the stored bytes that went by unread."""
        before, self._read = self._read, self._file.tell()
        if block.damage:
            return [rest_of(self._extent, block.damage, at, whole=at)]
        if not block.oversized:
            return []
        unread = block.oversized
        if self._extent.compression != "none":
            unread = max(1, self._read - before)  # to a read of the stored file
        detail = f"a line of {block.oversized} bytes"
        return [Trouble(at, "too_large", detail, unread)]


def read_chunks(file: BinaryIO, extent: Extent, sizes: ReadSizes) -> Iterator[bytes]:
    """Yields the (uncompressed) bytes of an extent and beyond, in blocks.

    An extent that starts inside a file is read from one byte earlier, which tells
    whether it starts at a line.
    """
    if extent.compression != "none":
        yield from _joined(decompress(file, extent.compression), sizes.block_bytes)
        return
    at, most = max(0, extent.start - 1), sizes.block_bytes
    overrun = min(_OVERRUN_BYTES, most)
    while True:
        if extent.end == TO_THE_END:
            size = most
        elif at < extent.end:
            # Never less than the mark that may open the file.
            size = min(most, max(extent.end - at, len(_BYTE_ORDER_MARK)))
        else:
            size, overrun = overrun, min(2 * overrun, most)
        file.seek(at)  # a look back may have moved it
        chunk = file.read(size)
        if not chunk:
            return
        at += len(chunk)
        yield chunk


def _joined(chunks: Iterator[bytes], least: int) -> Iterator[bytes]:
    """Yields chunks joined to blocks; what came before damage is yielded first."""
    held: list[bytes] = []
    size = 0
    try:
        for chunk in chunks:
            held.append(chunk)
            size += len(chunk)
            if size >= least:
                yield b"".join(held)
                held, size = [], 0
    except DamagedInput:
        yield b"".join(held)
        raise
    yield b"".join(held)


def whole_file(
    file: BinaryIO, extent: Extent, limit: int, sizes: ReadSizes
) -> DocumentSpans:
    """Returns a whole file as one span, or why it is not one."""
    data = bytearray()
    try:
        for chunk in read_chunks(file, extent, sizes):
            data += chunk
            if len(data) > limit + len(_BYTE_ORDER_MARK):
                detail = f"more than {limit} bytes"
                return _nothing(0, [Trouble(0, "too_large", detail, extent.size)])
    except DamagedInput as damage:
        return _nothing(0, [rest_of(extent, damage, 0, whole=0)])
    start = len(_BYTE_ORDER_MARK) if data.startswith(_BYTE_ORDER_MARK) else 0
    return _within(
        DocumentSpans(0, data, np.array([start]), np.array([len(data)])), limit
    )


def lines(
    file: BinaryIO, extent: Extent, limit: int, sizes: ReadSizes
) -> Iterator[DocumentSpans]:
    """Yields the lines that start in the extent, without their ends; blank ones go."""
    offset, chunks = _from_line_start(read_chunks(file, extent, sizes), extent)
    chunks = _large_lines_apart(chunks, sizes.block_bytes)
    blocks = _whole_lines(chunks, offset, _end(extent, offset), limit)
    # A loop's variable would hold on to the block while others work with it.
    passed = _Passed(file, extent)
    spans_of = functools.partial(_spans_of, passed=passed, limit=limit)
    yield from map(spans_of, blocks)


def _spans_of(block: _Block, passed: _Passed, limit: int) -> DocumentSpans:
    """Returns the lines of a block, blank ones left out."""
    starts, ends = _line_spans(block.data)
    keep = ~_blank(block.data, starts, ends)
    troubles = passed.troubles(block, block.offset)
    spans = DocumentSpans(block.offset, block.data, starts[keep], ends[keep], troubles)
    return _within(spans, limit)


def paragraphs(
    file: BinaryIO, extent: Extent, limit: int, sizes: ReadSizes
) -> Iterator[DocumentSpans]:
    """Yields the runs of lines that are not blank and start in the extent.

    A line of nothing but ASCII white space is blank. The paragraph that is open at a
    block's end is carried into the next block.
    """
    offset, chunks = _from_line_start(read_chunks(file, extent, sizes), extent)
    end = _end(extent, offset)
    read = file.tell()
    skipping = extent.start > 0 and not _blank_before(file, offset, sizes)
    file.seek(read)  # which says how far the file was read
    held, held_at = b"", 0
    passed = _Passed(file, extent)
    chunks = _large_lines_apart(chunks, sizes.block_bytes)
    for block in _whole_lines(chunks, offset, TO_THE_END, limit):
        at = held_at if held else block.offset
        if not _starts_inside(at, end):
            return
        troubles = passed.troubles(block, at)
        if troubles:
            if block.damage or not skipping:
                yield _nothing(at, troubles)
            held, skipping = b"", True
            continue
        data = held + block.data
        if skipping:
            cut = _first_blank(data)
            skipping = cut == len(data)
            at, data = at + cut, data[cut:]
        starts, ends, unfinished = _paragraph_spans(data)
        held = b""
        if unfinished:
            held, held_at = data[int(starts[-1]) :], at + int(starts[-1])
            starts, ends = starts[:-1], ends[:-1]
        yield _owned(_within(DocumentSpans(at, data, starts, ends), limit), end)
        if len(held) > limit + _LINE_END_BYTES:
            detail = f"a paragraph of more than {limit} bytes"
            large = Trouble(held_at, "too_large", detail)
            yield _owned(_nothing(held_at, [large]), end)
            held, skipping = b"", True
    if held:
        starts, ends, _ = _paragraph_spans(held)
        yield _owned(_within(DocumentSpans(held_at, held, starts, ends), limit), end)


def _whole_lines(
    chunks: Iterator[bytes], offset: int, end: int, limit: int
) -> Iterator[_Block]:
    """Yields blocks of whole lines that start before `end`; `offset` starts a line."""
    held, at, skipped = bytearray(), offset, 0  # a line's beginning, where it is, or 0
    try:
        for chunk in chunks:
            if skipped:
                cut = chunk.find(b"\n") + 1
                skipped += cut or len(chunk)
                if not cut:
                    continue
                yield _Block(at, b"", oversized=skipped)
                at, skipped, chunk = at + skipped, 0, chunk[cut:]
            if not _starts_inside(at, end):
                return
            known = len(held)  # no line ends in what was held already
            held += chunk
            final = end != TO_THE_END and at + len(held) >= end
            cut = held.find(b"\n", max(known, end - 1 - at)) + 1 if final else 0
            final = cut > 0
            cut = cut or held.rfind(b"\n", known) + 1
            if cut:
                # Cut and handed over in place: a line may be as large as the limit.
                filled, held = [held], held[cut:]
                del filled[0][cut:]
                yield _Block(at, filled.pop())
                at += cut
            if final:
                return
            if len(held) > limit + _LINE_END_BYTES:
                held, skipped = bytearray(), len(held)
    except DamagedInput as damage:
        yield _Block(at, b"", damage=damage)
        return
    if skipped:
        yield _Block(at, b"", oversized=skipped)
    elif held:
        filled, held = [held], bytearray()
        yield _Block(at, filled.pop())


def _large_lines_apart(chunks: Iterator[bytes], block_bytes: int) -> Iterator[bytes]:
    """Cuts chunks behind each line that is larger than a block."""
    size = 0  # of the line that is open
    for chunk in chunks:
        cut = chunk.find(b"\n") + 1 if size > block_bytes else 0
        if cut:
            yield chunk[:cut]
            chunk, size = chunk[cut:], 0
        if chunk:
            yield chunk
        last = chunk.rfind(b"\n") + 1
        size = len(chunk) - last if last else size + len(chunk)


def _from_line_start(
    chunks: Iterator[bytes], extent: Extent
) -> tuple[int, Iterator[bytes]]:
    """Returns where the extent's first line starts, and the bytes from there on."""
    at = max(0, extent.start - 1)
    for chunk in chunks:
        if extent.start:
            cut = chunk.find(b"\n") + 1
        else:
            cut = len(_BYTE_ORDER_MARK) if chunk.startswith(_BYTE_ORDER_MARK) else 0
        if cut or not extent.start:
            return at + cut, itertools.chain([chunk[cut:]], chunks)
        at += len(chunk)
    return at, iter(())


def _blank_before(file: BinaryIO, at: int, sizes: ReadSizes) -> bool:
    """Tells whether the line that ends right before `at` is blank."""
    at -= 1
    while at > 0:
        start = at - sizes.look_back_bytes
        start = start if start > len(_BYTE_ORDER_MARK) else 0  # the mark in one look
        file.seek(start)
        text = file.read(at - start).rstrip(_BLANKS)
        if text:
            return text.endswith(b"\n") or (start == 0 and text == _BYTE_ORDER_MARK)
        at = start
    return True


def _line_spans(data: bytes | bytearray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the starts and ends of lines, line ends left out, int64 [n]."""
    view = np.frombuffer(data, np.uint8)
    found = [
        np.flatnonzero(view[at : at + _STRETCH] == _NEWLINE) + at
        for at in range(0, len(data), _STRETCH)
    ]
    ends = np.concatenate(found) if found else np.zeros(0, np.int64)
    if data and not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    starts = np.zeros_like(ends)
    starts[1:] = ends[:-1] + 1
    if len(ends) and b"\r" in data:
        ends = ends - ((ends > starts) & (view[ends - 1] == _RETURN))
    return starts, ends


def _paragraph_spans(data: bytes) -> tuple[np.ndarray, np.ndarray, bool]:
    """Returns paragraphs' starts and ends, and whether the last one may go on."""
    starts, ends = _line_spans(data)
    inside = np.zeros(len(starts) + 2, bool)
    inside[1:-1] = ~_blank(data, starts, ends)
    opens = inside[1:-1] & ~inside[:-2]
    closes = inside[1:-1] & ~inside[2:]
    return starts[opens], ends[closes], bool(inside[-2])


def _blank(data: bytes | bytearray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Tells which lines hold nothing but ASCII white space, bool [n]."""
    blank = starts == ends
    view = np.frombuffer(data, np.uint8)
    some = np.flatnonzero(~blank)
    # Only a line that begins and ends with white space can be nothing else.
    both = _IS_BLANK[view[starts[some]]] & _IS_BLANK[view[ends[some] - 1]]
    for line in some[both].tolist():
        blank[line] = not data[int(starts[line]) : int(ends[line])].strip(_BLANKS)
    return blank


def _first_blank(data: bytes) -> int:
    """Returns where the first blank line starts, or the data's length."""
    starts, ends = _line_spans(data)
    found = starts[_blank(data, starts, ends)]
    return int(found[0]) if len(found) else len(data)


def _within(spans: DocumentSpans, limit: int) -> DocumentSpans:
    """Turns spans above the limit into troubles."""
    sizes = spans.ends - spans.starts
    large = sizes > limit
    if not large.any():
        return spans
    troubles = [
        Trouble(spans.offset + start, "too_large", f"{size} bytes, limit {limit}")
        for start, size in zip(
            spans.starts[large].tolist(), sizes[large].tolist(), strict=True
        )
    ]
    return dataclasses.replace(
        spans,
        starts=spans.starts[~large],
        ends=spans.ends[~large],
        troubles=spans.troubles + troubles,
    )


def _owned(spans: DocumentSpans, end: int) -> DocumentSpans:
    """Keeps what starts before the extent's end."""
    if end == TO_THE_END:
        return spans
    mine = spans.starts + spans.offset < end
    return dataclasses.replace(
        spans,
        starts=spans.starts[mine],
        ends=spans.ends[mine],
        troubles=[trouble for trouble in spans.troubles if trouble.offset < end],
    )


def _end(extent: Extent, offset: int) -> int:
    """Returns its end; a first line after the mark belongs to the first extent."""
    if extent.start or extent.end == TO_THE_END:
        return extent.end
    return max(extent.end, offset + 1)


def _starts_inside(at: int, end: int) -> bool:
    return end == TO_THE_END or at < end


def _nothing(at: int, troubles: list[Trouble]) -> DocumentSpans:
    none = np.zeros(0, np.int64)
    return DocumentSpans(at, b"", none, none, troubles)
