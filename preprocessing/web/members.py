# SPDX-License-Identifier: Apache-2.0
"""The members of a gzip file, or the frames of a Zstandard one, one by one.

Behind a damaged member reading goes on at the next that opens as asked for; what lies
between is told as a gap. A Zstandard file may open with the dictionary of its frames
(https://iipc.github.io/warc-specifications/specifications/warc-zstd/).
"""

import contextlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import zstandard

from preprocessing.foundation.decompression import (
    DICTIONARY_FRAME,
    MOST_DICTIONARY,
    ZSTD_WINDOW,
    dictionary_of,
)

_READ = 1 << 14
# What one call unpacks. zlib limits what comes of it; Zstandard's blocks of 128 KB take
# 4 bytes at best, so that 512 bytes become 16 MB and no more.
_ZSTD_STEP = 512
_OUTPUT = 1 << 20
_GZIP_WINDOW = 31  # zlib's number for "expect a gzip header"
_MAGIC = {"gzip": b"\x1f\x8b\x08", "zstd": b"\x28\xb5\x2f\xfd"}
# Stored bytes that may be unpacked to see how a member opens: more than a block.
_PROBE = 1 << 18


@dataclass(frozen=True)
class Piece:
    """Some uncompressed bytes.

    Attributes:
        data: the bytes; those that open a member are as many as tell how it opens.
        start: where their member starts in the stored file.
        stored: stored bytes that have been unpacked with them.
        opens: that they are the first of their member.
    """

    data: bytes
    start: int
    stored: int
    opens: bool = False


@dataclass(frozen=True)
class Gap:
    """Stored bytes that could not be unpacked.

    Attributes:
        start: where they start: a member, damaged somewhere, or what is none.
        end: the stored byte behind them.
        reason: damaged_input, or truncated_input where the file ends in a member.
        detail: what was found, for people.
        last: that no member follows.
    """

    start: int
    end: int
    reason: str
    detail: str
    last: bool


class CompressedMembers:
    """Reads a file's members in order, from any on.

    Args:
        file: the stored bytes; it can seek.
        compression: "gzip" or "zstd".
        opening: the bytes by which a member behind damage is known.
    """

    def __init__(self, file: BinaryIO, compression: str, opening: bytes) -> None:
        self._file, self._compression, self._opening = file, compression, opening
        self._magic = _MAGIC[compression]
        self._data, self._at = b"", 0
        self._zstd = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW)

    def pieces(self, start: int = 0) -> Iterator[Piece | Gap]:
        """Yields what the members from the stored byte `start` on hold."""
        self._seek(start)
        while self._behind_padding():
            start, detail, reason = self._at, "", "damaged_input"
            try:
                if self._compression == "zstd" and self._skippable():
                    self._skip()
                    continue
                if self._has(len(self._magic)) and self._data.startswith(self._magic):
                    yield from self._member(start)
                    continue
                detail = f"no member starts at byte {start}"
            except (zlib.error, zstandard.ZstdError) as error:
                detail = f"the member at byte {start}: {error}"
            except EOFError:
                detail, reason = "the file ends inside a member", "truncated_input"
            # Bits that are wrong may have led past the member's end.
            self._seek(start + 1)
            last = not self._find()
            detail = f"{self._compression}: {detail}"
            reason = reason if last else "damaged_input"
            yield Gap(start, self._at, reason, detail, last)

    def _seek(self, start: int) -> None:
        self._file.seek(start)
        self._data, self._at = b"", start

    def _more(self) -> bool:
        data = self._file.read(_READ)
        self._data += data
        return bool(data)

    def _has(self, size: int) -> bool:
        while len(self._data) < size:
            if not self._more():
                return False
        return True

    def _drop(self, size: int) -> None:
        self._data, self._at = self._data[size:], self._at + size

    def _behind_padding(self) -> bool:
        """Passes over zeros, legal between members; returns whether more follows."""
        while self._has(1):
            if self._compression != "gzip" or self._data[0]:
                return True
            self._drop(len(self._data) - len(self._data.lstrip(b"\0")))
        return False

    def _skip(self) -> None:
        """Passes over a skippable frame; the file's first may be its dictionary."""
        size = int.from_bytes(self._data[4:8], "little") + 8
        if self._at == 0 and self._data.startswith(DICTIONARY_FRAME):
            self._read_dictionary(size)
        while size and self._has(1):
            step = min(size, len(self._data))
            self._drop(step)
            size -= step
        if size:
            raise EOFError

    def _skippable(self) -> bool:
        return self._has(8) and (
            self._data[0] & 0xF0 == 0x50 and self._data[1:4] == DICTIONARY_FRAME[1:]
        )

    def _read_dictionary(self, size: int) -> None:
        if size > MOST_DICTIONARY or not self._has(size):
            return  # its frames say that it is wanted
        with contextlib.suppress(zstandard.ZstdError):
            self._zstd = zstandard.ZstdDecompressor(
                dict_data=dictionary_of(self._data[8:size]),
                max_window_size=ZSTD_WINDOW,
            )

    def _stream(self) -> Any:
        if self._compression == "gzip":
            return zlib.decompressobj(_GZIP_WINDOW)
        return self._zstd.decompressobj(write_size=1 << 14)

    def _member(self, start: int) -> Iterator[Piece]:
        """Yields one member, up to its damage; what is told of it is then raised."""
        stream, opening, opens = self._stream(), b"", True
        for part in self._parts(stream):
            opening += part
            if not opens or len(opening) >= len(self._opening):
                yield Piece(opening, start, self._at, opens)
                opening, opens = b"", False
        if opening:
            yield Piece(opening, start, self._at, opens)

    def _parts(self, stream: Any) -> Iterator[bytes]:
        parts_of = self._frames if self._compression == "zstd" else self._inflated
        while not stream.eof:
            if not self._data and not self._more():
                raise EOFError
            yield from parts_of(stream)

    def _frames(self, stream: Any) -> Iterator[bytes]:
        data = self._data[:_ZSTD_STEP]
        part = stream.decompress(data)
        self._drop(len(data) - len(stream.unused_data))
        if part:
            yield part

    def _inflated(self, stream: Any) -> Iterator[bytes]:
        before, data = stream.copy(), self._data  # a copy takes 1 us
        try:
            part = stream.decompress(data, _OUTPUT)
        except zlib.error:
            yield from _up_to_damage(before, data)
            raise
        self._data = stream.unused_data if stream.eof else stream.unconsumed_tail
        self._at += len(data) - len(self._data)
        if part:
            yield part

    def _find(self) -> bool:
        """Goes to the next member that opens as it should; False where none does."""
        while self._has(len(self._magic)):
            found = self._data.find(self._magic)
            if found < 0:
                self._drop(max(1, len(self._data) - len(self._magic) + 1))
                continue
            self._drop(found)
            self._has(_PROBE)
            if self._opens(self._data[:_PROBE]):
                return True
            self._drop(1)
        self._drop(len(self._data))
        return False

    def _opens(self, data: bytes) -> bool:
        """Returns whether a member starts here, and as it should."""
        stream, opening = self._stream(), b""
        try:
            for at in range(0, len(data), _ZSTD_STEP):
                opening += stream.decompress(data[at : at + _ZSTD_STEP])
                if len(opening) >= len(self._opening) or stream.eof:
                    break
        except (zlib.error, zstandard.ZstdError):
            return False
        return opening.startswith(self._opening)


def _up_to_damage(stream: Any, data: bytes) -> Iterator[bytes]:
    """Yields what a call would have given that failed: zlib gives none of it.

    Byte by byte, 0.3 us each: once for each damaged member.
    """
    parts: list[bytes] = []
    try:
        for at in range(len(data)):
            parts.append(stream.decompress(data[at : at + 1]))
    except zlib.error:
        yield b"".join(parts)
