# SPDX-License-Identifier: Apache-2.0
"""The uncompressed bytes of a file, for libraries that want a file to read from."""

import io
from typing import BinaryIO, cast

from preprocessing.foundation.decompression import DamagedInput, decompress
from preprocessing.reading.documents import Trouble
from preprocessing.reading.extents import Extent


class Uncompressed(io.RawIOBase):
    """A whole file, decompressed as it is read; it cannot seek.

    Damage looks like the file's end to whoever reads, who may be a library that makes
    an error of its own of it; `damage` says afterwards what the end was.
    """

    def __init__(self, file: BinaryIO, extent: Extent) -> None:
        self.damage: DamagedInput | None = None
        self.extent = extent
        self._chunks = decompress(file, extent.compression)
        self._chunk, self._used, self._at = b"", 0, 0

    def readable(self) -> bool:
        """Returns True."""
        return True

    def tell(self) -> int:
        """Returns how many bytes have been read."""
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fills the buffer as far as the current chunk goes; 0 at the end."""
        while self._used == len(self._chunk) and self.damage is None:
            try:
                chunk = next(self._chunks, None)
            except DamagedInput as damage:
                self.damage = damage
                break
            if chunk is None:
                return 0
            self._chunk, self._used = chunk, 0
        size = min(len(buffer), len(self._chunk) - self._used)
        buffer[:size] = self._chunk[self._used : self._used + size]
        self._used += size
        self._at += size
        return size


def uncompressed(file: BinaryIO, extent: Extent) -> BinaryIO:
    """Returns the whole file's bytes to read: a plain file is itself, and can seek."""
    if extent.compression == "none":
        return file
    return cast(BinaryIO, Uncompressed(file, extent))


def damage_of(stream: BinaryIO, offset: int, whole: int | None = None) -> list[Trouble]:
    """Returns the reject for the damage that ended the stream, if some did.

    Args:
        stream: as `uncompressed` gave it.
        offset: the reject's.
        whole: bytes of text up to the end of the last whole document; `offset` where
            that is one in bytes.
    """
    if isinstance(stream, Uncompressed) and stream.damage:
        whole = offset if whole is None else whole
        return [rest_of(stream.extent, stream.damage, offset, whole)]
    return []


def rest_of(extent: Extent, damage: DamagedInput, offset: int, whole: int) -> Trouble:
    """Returns the reject for all of a file that damage of its compression hides.

    Arguments are those of `damage_of`.
    """
    unread = damage.unread(whole, extent.size)
    return Trouble(offset, damage.reason, damage.detail, unread, to_end=True)
