# SPDX-License-Identifier: Apache-2.0
"""The uncompressed bytes of an archive, and where its members and gaps are.

A reader of records looks ahead as far as it needs, passes over what it knows, and goes
back where a record's length was not true.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO

from preprocessing.web.members import CompressedMembers, Gap, Piece

_PLAIN_READ = 1 << 20


class ArchiveBytes:
    """A window over the uncompressed bytes, which begins at `at`.

    Attributes:
        at: the uncompressed byte that `window` begins with.
        window: the bytes in view.
        gap: what the window ends at, where bytes are missing behind it.

    Args:
        file: the stored bytes; it can seek.
        compression: "none", "gzip" or "zstd".
        opening: the bytes by which records begin.
    """

    def __init__(self, file: BinaryIO, compression: str, opening: bytes) -> None:
        self.at, self.window = 0, bytearray()
        self.gap: Gap | None = None
        self._file, self._opening = file, opening
        self._members = (
            None
            if compression == "none"
            else CompressedMembers(file, compression, opening)
        )
        self._pieces = self._read(0)
        # (uncompressed, stored) bytes at which members open, the last of them first
        # that opens at `at` or before; and how far both have been read.
        self._openings: list[tuple[int, int]] = [(0, 0)]
        self._borders: list[int] = []
        self._reached = (0, 0)
        self._told = 0  # stored bytes up to which losses have been counted

    def _read(self, start: int) -> Iterator[Piece | Gap]:
        if self._members:
            yield from self._members.pieces(start)
            return
        self._file.seek(start)
        while data := self._file.read(_PLAIN_READ):
            yield Piece(data, 0, self._file.tell())

    def fill(self) -> bool:
        """Reads on; False where the file or its readable part ends."""
        if self.gap:
            return False
        piece = next(self._pieces, None)
        if not isinstance(piece, Piece):
            self.gap = piece
            return False
        end = self.at + len(self.window)
        if piece.opens:
            self._openings.append((end, piece.start))
            if piece.data.startswith(self._opening):
                self._borders.append(end)
        self.window += piece.data
        self._reached = (end + len(piece.data), piece.stored)
        return True

    def has(self, size: int) -> bool:
        """Reads on until the window holds `size` bytes; False where it cannot."""
        while len(self.window) < size:
            if not self.fill():
                return False
        return True

    def drop(self, size: int) -> None:
        """Passes over bytes of the window."""
        self.at += min(size, len(self.window))
        del self.window[:size]

    def pass_over(self, size: int) -> int:
        """Passes over `size` bytes, in view or not; returns how many it were.

        They are fewer where the file, its readable part or the member ends.
        """
        passed = 0
        while passed < size and (self.window or self.fill()):
            step = min(size - passed, len(self.window))
            border = self.border()
            if border is not None and border <= step:
                self.drop(border)
                return passed + border
            self.drop(step)
            passed += step
        return passed

    def border(self) -> int | None:
        """Returns where in the window the next member opens that opens a record.

        One that opens at `at` itself is not the next.
        """
        while self._borders and self._borders[0] < self.at:
            del self._borders[0]
        ahead = (border - self.at for border in self._borders if border > self.at)
        return next(ahead, None)

    def damaged_here(self) -> bool:
        """Returns whether the window ends in a member that is damaged, not cut off."""
        gap = self.gap
        if gap is None or gap.reason != "damaged_input":
            return False
        return gap.start == self._openings[-1][1]

    def skipped_from(self, offset: int) -> int:
        """Returns how many stored bytes lie from `offset` to `at`.

        Bytes that an earlier call counted are not counted again: what a damaged member
        seems to hold may be the next ones.
        """
        return self._counted(self.stored_at(offset), self.stored_at(self.at))

    def missing_from(self, offset: int) -> int:
        """Returns how many lie from `offset` to the end of the gap, likewise."""
        if self.gap is None:
            return 0
        behind = min(self._reached[1], self.gap.end)
        read = self._counted(self.stored_at(offset), behind)
        # Padding perhaps, up to where the gap starts, was passed over rightly.
        return read + self._counted(max(behind, self.gap.start), self.gap.end)

    def _counted(self, start: int, end: int) -> int:
        start = max(start, self._told)
        self._told = max(self._told, end)
        return max(0, end - start)

    def pass_gap(self) -> None:
        """Goes on behind a gap; the window is empty then."""
        self.drop(len(self.window))
        self.gap = None

    def keep_from(self) -> None:
        """Says that nothing before `at` will be asked for."""
        while len(self._openings) > 1 and self._openings[1][0] <= self.at:
            del self._openings[0]

    def seek(self, offset: int) -> None:
        """Goes back to an uncompressed byte, not before the last `keep_from`."""
        opened, stored = next(
            opening for opening in reversed(self._openings) if opening[0] <= offset
        )
        if self._members is None:
            opened = stored = offset
        self.at, self.window, self.gap = opened, bytearray(), None
        self._openings = [each for each in self._openings if each[0] < opened]
        self._openings += [(opened, stored)]
        self._borders, self._reached = [], (opened, stored)
        self._pieces = self._read(stored)
        self.pass_over(offset - opened)

    def stored_at(self, offset: int) -> int:
        """Returns the stored byte of an uncompressed one.

        Within a member it is where it would be if all were packed alike.
        """
        if self._members is None:
            return offset
        known = [*self._openings, self._reached]
        for (start, stored), (end, behind) in pairwise(known):
            if start <= offset < end:
                return stored + (offset - start) * (behind - stored) // (end - start)
        return self._reached[1]

    def find(self, pattern: re.Pattern[bytes], tail: int) -> bool:
        """Goes behind the next match, or to the first member that opens a record.

        Args:
            pattern: what is looked for.
            tail: bytes that a match may need at most.

        Returns:
            Whether there is one; where there is none the window is empty.
        """
        while self.at not in self._borders:
            found, border = pattern.search(self.window), self.border()
            places = [found.end()] if found else []
            places += [] if border is None else [border]
            if places:
                self.drop(min(places))
                return True
            self.drop(max(0, len(self.window) - tail))
            if not self.fill():
                self.drop(len(self.window))
                return False
        return True
