# SPDX-License-Identifier: Apache-2.0
"""Streams of bytes out of plain, gzip and Zstandard files, in bounded memory.

Every byte that can be decompressed is given before a damaged or truncated file is
reported, so that the documents before the damage can be kept.
"""

import contextlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import zstandard

from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.file_names import unsharded

_GZIP_INPUT = 1 << 18
_OUTPUT = 4 << 20
# Zstandard's block of 128 KB takes 4 bytes at best, so 512 bytes of input can become
# 16 MB and no more. Ordinary text becomes 2 KB a call, no slower than one large call.
_ZSTD_INPUT = 512
_ZSTD_OUTPUT = 1 << 14
_GZIP_HEADER = 10  # bytes, at least
_GZIP_WINDOW = 31  # zlib's number for "expect a gzip header"
# What `zstd --long=31` writes, and the most that its format allows a decoder on 64 bits
# to take. Memory is used as text fills it, so a small file with such a window is small.
ZSTD_WINDOW = 1 << 31
# A skippable frame that holds the dictionary of all others, plain or compressed, as in
# https://iipc.github.io/warc-specifications/specifications/warc-zstd/
DICTIONARY_FRAME = b"\x5d\x2a\x4d\x18"
_ZSTD_FRAME = b"\x28\xb5\x2f\xfd"
MOST_DICTIONARY = 128 << 20
_FRAME_HEADER = 18  # bytes, at most

COMPRESSIONS = {
    ".gz": "gzip",
    ".gzip": "gzip",
    ".bgz": "gzip",
    ".zst": "zstd",
    ".zstd": "zstd",
}
# Endings of what holds no text before it is unpacked, and is not unpacked here.
_FOREIGN = frozenset(
    (
        *(".bz", ".bz2", ".tbz", ".tbz2", ".xz", ".txz", ".lzma", ".lz", ".lzo"),
        *(".lz4", ".br", ".snappy", ".sz", ".z", ".zip", ".7z", ".rar"),
        *(".tar", ".tgz", ".tzst"),
    )
)


class DamagedInput(Exception):
    """The compressed stream ends early or is corrupt.

    Attributes:
        reason: the reject's.
        detail: what was found, for people.
        stored: bytes of the stored file before the damage.
        given: bytes that they became.
    """

    def __init__(
        self, reason: str, detail: str, stored: int = 0, given: int = 0
    ) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.stored = stored
        self.given = given

    def unread(self, whole: int, size: int) -> int:
        """Returns how many stored bytes count as not read.

        A compressed byte belongs to no one document, so the bytes before the damage
        count by the share of their text that whole documents took.

        Args:
            whole: bytes of text up to the end of the last whole document.
            size: bytes of the stored file.
        """
        kept = self.stored * min(whole, self.given) // max(1, self.given)
        return size - min(kept, max(0, size - 1))


def compression_of(path: str) -> str:
    """Returns "gzip", "zstd" or "none", by the file's ending, whatever its case.

    Raises:
        UsageError: the ending is that of another compression, or of an archive.
    """
    stem, ending = os.path.splitext(unsharded(path).lower())
    if ending in _FOREIGN or os.path.splitext(stem)[1] == ".tar":
        raise UsageError(
            f"wanted text, or text in gzip (.gz) or Zstandard (.zst), found {path}, "
            "packed in another way by its ending. Unpack it, or leave it out"
        )
    return COMPRESSIONS.get(ending, "none")


def known_compression(path: str) -> str:
    """Returns what is unpacked here, as `compression_of` does; else "none"."""
    ending = os.path.splitext(unsharded(path).lower())[1]
    return COMPRESSIONS.get(ending, "none")


@dataclass
class _Place:
    """How many stored bytes were decompressed without fault."""

    stored: int = 0


def decompress(
    file: BinaryIO, compression: str, step: int | None = None
) -> Iterator[bytes]:
    """Yields the decompressed bytes of a "gzip" or "zstd" file, a few MB at most each.

    Args:
        file: the compressed bytes.
        compression: "gzip" or "zstd".
        step: compressed bytes read at once; what suits the format if None.

    Raises:
        DamagedInput: after the last byte that could be decompressed.
    """
    place, given = _Place(), 0
    if compression == "gzip":
        parts = _gzip(file, step or _GZIP_INPUT, place)
    else:
        parts = _zstd(file, step or _ZSTD_INPUT, place)
    try:
        for part in parts:
            given += len(part)
            yield part
    except DamagedInput as damage:
        damage.stored, damage.given = place.stored, given
        raise
    except zlib.error as error:
        detail = f"gzip: {error}"
        raise DamagedInput("damaged_input", detail, place.stored, given) from None


def _truncated(compression: str) -> DamagedInput:
    return DamagedInput(
        "truncated_input", f"{compression}: the file ends inside a compressed stream"
    )


def _gzip(file: BinaryIO, step: int, place: _Place) -> Iterator[bytes]:
    stream, started, member = zlib.decompressobj(_GZIP_WINDOW), False, 0
    while data := file.read(step):
        behind = place.stored + len(data)
        while data:
            if not started:
                data = data.lstrip(b"\0")  # padding between members is legal
                started, member = bool(data), behind - len(data)
            before = stream.copy()  # 1 us, of the 1 ms and more that a step takes
            try:
                out = stream.decompress(data, _OUTPUT)
            except zlib.error:
                place.stored = behind - len(data)
                if out := _up_to_damage(before, data, place):
                    yield out
                elif place.stored - member < _GZIP_HEADER:
                    place.stored = member  # what follows is no gzip at all
                raise
            if out:
                yield out
            data = stream.unconsumed_tail
            if stream.eof:
                data = stream.unused_data
                stream, started = zlib.decompressobj(_GZIP_WINDOW), False
        place.stored = behind
    if started:
        raise _truncated("gzip")


def _up_to_damage(stream: "zlib._Decompress", data: bytes, place: _Place) -> bytes:
    """Returns what a step holds before its damage: zlib gives none of a failed call.

    Byte by byte, 0.3 us each: once in a damaged file.
    """
    parts: list[bytes] = []
    with contextlib.suppress(zlib.error):
        for at in range(len(data)):
            parts.append(stream.decompress(data[at : at + 1]))
            place.stored += 1
    return b"".join(parts)


def _zstd(file: BinaryIO, step: int, place: _Place) -> Iterator[bytes]:
    dictionary, data = _dictionary(file)
    decompressor = zstandard.ZstdDecompressor(
        dict_data=dictionary, max_window_size=ZSTD_WINDOW
    )
    place.stored = file.tell() - len(data)
    stream, head = decompressor.decompressobj(write_size=_ZSTD_OUTPUT), b""
    data = data or file.read(step)
    while data:
        behind = place.stored + len(data)
        while data:
            if len(head) < _FRAME_HEADER:
                head += data[:_FRAME_HEADER]
            try:
                out = stream.decompress(data)
            except zstandard.ZstdError as error:
                raise _refused_frame(error, head) from None
            if out:
                yield out
            data = b""
            if stream.eof:
                data, head = stream.unused_data, b""
                stream = decompressor.decompressobj(write_size=_ZSTD_OUTPUT)
        place.stored = behind
        data = file.read(step)
    if head:
        raise _truncated("zstd")


def _refused_frame(error: zstandard.ZstdError, head: bytes) -> DamagedInput:
    """Returns why a frame cannot be decompressed, given how it begins."""
    detail = f"zstd: {error}"
    try:
        wanted = zstandard.get_frame_parameters(head)
    except zstandard.ZstdError:
        return DamagedInput("damaged_input", detail)
    if wanted.dict_id:
        detail += f" (made with dictionary {wanted.dict_id}, which must be its first "
        detail += "frame: decompress the file with that dictionary)"
    return DamagedInput("damaged_input", detail)


def _dictionary(
    file: BinaryIO,
) -> tuple[zstandard.ZstdCompressionDict | None, bytes]:
    """Returns the dictionary that a file opens with, and bytes read behind it."""
    magic = file.read(len(DICTIONARY_FRAME))
    if magic != DICTIONARY_FRAME:
        return None, magic
    length = file.read(4)
    size = int.from_bytes(length, "little")
    content = file.read(min(size, MOST_DICTIONARY))
    if len(length) < 4 or len(content) < size:
        raise _truncated("zstd")
    try:
        return dictionary_of(content), b""
    except zstandard.ZstdError as error:
        raise DamagedInput("damaged_input", f"zstd: its dictionary: {error}") from None


def dictionary_of(content: bytes) -> zstandard.ZstdCompressionDict:
    """Returns the dictionary in a skippable frame, plain or compressed.

    Raises:
        zstandard.ZstdError: it is damaged.
    """
    if content.startswith(_ZSTD_FRAME):
        reader = zstandard.ZstdDecompressor().stream_reader(content)
        content = reader.read(MOST_DICTIONARY)
    return zstandard.ZstdCompressionDict(content)
