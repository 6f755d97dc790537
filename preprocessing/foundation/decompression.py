# SPDX-License-Identifier: Apache-2.0
"""Streams of bytes out of plain, gzip and Zstandard files, in bounded memory.

Every byte that can be decompressed is given before a damaged or truncated file is
reported, so that the documents before the damage can be kept.
"""

import zlib
from collections.abc import Iterator
from typing import BinaryIO

import zstandard

from preprocessing.foundation.file_names import unsharded

_GZIP_INPUT = 1 << 18
_OUTPUT = 4 << 20
# Zstandard's block of 128 KB takes 4 bytes at best, so 512 bytes of input can become
# 16 MB and no more. Ordinary text becomes 2 KB a call, no slower than one large call.
_ZSTD_INPUT = 512
_ZSTD_OUTPUT = 1 << 14
_GZIP_WINDOW = 31  # zlib's number for "expect a gzip header"


class DamagedInput(Exception):
    """The compressed stream ends early or is corrupt; `reason` is the reject's."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def compression_of(path: str) -> str:
    """Returns "gzip", "zstd" or "none", by the file's extension."""
    path = unsharded(path)
    if path.endswith(".gz"):
        return "gzip"
    return "zstd" if path.endswith(".zst") else "none"


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
    if compression == "gzip":
        parts = _gzip(file, step or _GZIP_INPUT)
    else:
        parts = _zstd(file, step or _ZSTD_INPUT)
    try:
        yield from parts
    except (zlib.error, zstandard.ZstdError) as error:
        raise DamagedInput("damaged_input", f"{compression}: {error}") from None


def _truncated(compression: str) -> DamagedInput:
    return DamagedInput(
        "truncated_input", f"{compression}: the file ends inside a compressed stream"
    )


def _gzip(file: BinaryIO, step: int) -> Iterator[bytes]:
    stream, started = zlib.decompressobj(_GZIP_WINDOW), False
    while data := file.read(step):
        while data:
            if not started:
                data = data.lstrip(b"\0")  # padding between members is legal
                started = bool(data)
            if out := stream.decompress(data, _OUTPUT):
                yield out
            data = stream.unconsumed_tail
            if stream.eof:
                data = stream.unused_data
                stream, started = zlib.decompressobj(_GZIP_WINDOW), False
    if started:
        raise _truncated("gzip")


def _zstd(file: BinaryIO, step: int) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor()
    stream, started = decompressor.decompressobj(write_size=_ZSTD_OUTPUT), False
    while data := file.read(step):
        while data:
            started = True
            if out := stream.decompress(data):
                yield out
            data = b""
            if stream.eof:
                data = stream.unused_data
                stream = decompressor.decompressobj(write_size=_ZSTD_OUTPUT)
                started = False
    if started:
        raise _truncated("zstd")
