# SPDX-License-Identifier: Apache-2.0
"""HTTP responses as archives hold them: their header, and their body undone.

Field names, media types and codings have no case. Archives often keep a header that
tells of a coding which the crawler has undone: a body that does not open as its coding
does is taken as it is.
"""

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import brotli
import zstandard

_STATUS = re.compile(rb"(?i:HTTP)/\d(?:\.\d)?[ \t]+(\d{3})(?!\d)")
_HEADER_ENDS = re.compile(rb"\r?\n\r?\n")
_FOLDED = re.compile(r"\r?\n[ \t]+")
_CHARSET = re.compile(r"[;,\s]charset\s*=\s*(\"[^\"]*\"|'[^']*'|[^;,\s]+)", re.I)
# A chunk's size, which some pad with spaces, and its extensions (RFC 9112, 7.1).
_CHUNK = re.compile(rb"[ \t]*([0-9a-fA-F]{1,15})[ \t]*(?:;[^\n]*)?\r?\n")
_LINE_END = re.compile(rb"\r?\n")
_GZIP_MAGIC = b"\x1f\x8b\x08"
_MOST_CODINGS = 5
# Bytes that are unpacked at once. In a bomb they become 16 MB, as deflate makes 1,032
# of one, and Zstandard 128 KB of four; Brotli takes a limit of its own.
_STEP, _ZSTD_STEP = 1 << 14, 512
_BROTLI_OUTPUT = 1 << 20


class DamagedBody(Exception):
    """A body that opens as its coding does, and breaks that off; it says how."""


@dataclass(frozen=True)
class HttpResponse:
    """A response.

    Attributes:
        status: its number; None where the bytes are no response.
        fields: its named fields, the names in lower case; repeated ones are joined.
        coded: its body, in the codings that its fields tell of.
    """

    status: int | None
    fields: dict[str, str]
    coded: bytes

    @property
    def media_type(self) -> str:
        """The media type, in lower case and without parameters."""
        return re.split(r"[;,\s]", self.fields.get("content-type", ""))[0].lower()

    @property
    def charset(self) -> str | None:
        """The label of the character set that the header declares."""
        found = _CHARSET.search(self.fields.get("content-type", ""))
        return found[1] if found else None

    def body(self, most: int) -> bytes:
        """Returns the body with its codings undone.

        Args:
            most: bytes that are wanted; a larger body is one byte longer.

        Raises:
            DamagedBody: a coding breaks off within.
        """
        body = self.coded
        for coding in reversed(self._codings()):
            body = _undone(body, coding, most)
        if body.startswith(_GZIP_MAGIC):  # whatever the header says, or does not
            body = _undone(body, "gzip", most)
        return body[: most + 1]

    def _codings(self) -> list[str]:
        names = ("content-encoding", "transfer-encoding")
        listed = ",".join(self.fields.get(name, "") for name in names)
        codings = [coding.strip(" \t\"'").lower() for coding in listed.split(",")]
        return [coding for coding in codings if coding in _UNDO][:_MOST_CODINGS]


def response_of(content: bytes) -> HttpResponse:
    """Returns the response that a record holds."""
    status, ends = _STATUS.match(content), _HEADER_ENDS.search(content)
    head = content[: ends.start()] if ends else content
    fields: dict[str, str] = {}
    if status:
        lines = _FOLDED.sub(" ", head.decode("latin-1")).split("\n")
        for line in lines[1:]:
            name, _, value = line.partition(":")
            name, value = name.strip().lower(), value.strip()
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
    body = content[ends.end() :] if ends else b""
    return HttpResponse(int(status[1]) if status else None, fields, body)


def _undone(body: bytes, coding: str, most: int) -> bytes:
    """Returns a body without a coding; as it is where it does not have that coding."""
    undone = _UNDO[coding](body, most)
    return body if undone is None else undone


def _unchunked(body: bytes, most: int) -> bytes | None:
    """Returns the chunks of a body; a last one that is cut off as far as it goes."""
    parts: list[bytes] = []
    at = 0
    while chunk := _CHUNK.match(body, at):
        start, size = chunk.end(), int(chunk[1], 16)
        parts.append(body[start : start + size])
        line_end = _LINE_END.match(body, start + size)
        at = line_end.end() if line_end else start + size
        if size == 0:
            return b"".join(parts)
    if parts and b"\n" in body[at:]:
        raise DamagedBody(f"wanted the size of a chunk, found {body[at : at + 20]!r}")
    return b"".join(parts) if parts else None


@dataclass(frozen=True)
class _Unpacked:
    """What came of a compressed body, and whether it ended where its coding ends."""

    data: bytes
    whole: bool


def _unpacked(
    body: bytes, most: int, stream: Any, step: int = _STEP
) -> tuple[_Unpacked, bytes]:
    """Returns what a body opens with, unpacked, and the bytes behind that.

    Args:
        body: compressed bytes, whose end may be cut off.
        most: bytes that are wanted; some more say that there are more.
        stream: what unpacks them, as zlib's objects do.
        step: bytes that it unpacks at once.

    Raises:
        DamagedBody: they are no such bytes, or damaged.
    """
    parts: list[bytes] = []
    size = at = 0
    while at < len(body) and size <= most and not stream.eof:
        try:
            parts.append(stream.decompress(body[at : at + step]))
        except (zlib.error, zstandard.ZstdError, brotli.error) as error:
            raise DamagedBody(str(error)) from None
        size += len(parts[-1])
        at += step
    return _Unpacked(b"".join(parts), stream.eof), stream.unused_data + body[at:]


class _Brotli:
    """A stream of Brotli, with the names that zlib and zstandard have for theirs."""

    unused_data = b""

    def __init__(self, most: int) -> None:
        self._stream, self._left = brotli.Decompressor(), most + 1

    def decompress(self, data: bytes) -> bytes:
        parts: list[bytes] = []
        while self._left > 0 and not self.eof:
            part = self._stream.process(data, output_buffer_limit=_BROTLI_OUTPUT)
            parts.append(part)
            self._left -= len(part)
            if self._stream.can_accept_more_data():
                break
            data = b""
        return b"".join(parts)

    @property
    def eof(self) -> bool:
        return bool(self._stream.is_finished())


def _members(
    body: bytes, most: int, magic: bytes, opener: Callable[[], Any], step: int
) -> bytes | None:
    """Undoes a coding that is told by its first bytes, of one member or more."""
    parts: list[bytes] = []
    rest, size = body, 0
    while rest.startswith(magic) and size <= most:
        found, rest = _unpacked(rest, most - size, opener(), step)
        if not found.data and not found.whole:
            raise DamagedBody("it breaks off before its first bytes")
        parts.append(found.data)
        size += len(found.data)
    return b"".join(parts) if parts else None


def _gunzipped(body: bytes, most: int) -> bytes | None:
    return _members(body, most, _GZIP_MAGIC, lambda: zlib.decompressobj(31), _STEP)


def _unzstd(body: bytes, most: int) -> bytes | None:
    opener = zstandard.ZstdDecompressor().decompressobj
    return _members(body, most, zstandard.FRAME_HEADER, opener, _ZSTD_STEP)


def _deflated(body: bytes, most: int) -> bytes | None:
    """Undoes deflate, with zlib's header as in the standard, or raw as many send it.

    Text may open as raw deflate does, but hardly ends as it does.
    """
    for window in (15, -15):
        try:
            found, _ = _unpacked(body, most, zlib.decompressobj(window))
        except DamagedBody:
            continue
        if found.whole or len(found.data) > most or (window > 0 and found.data):
            return found.data
    return None


def _unbrotlied(body: bytes, most: int) -> bytes | None:
    """Undoes Brotli, which nothing tells from other bytes but that it can be undone."""
    try:
        found, _ = _unpacked(body, most, _Brotli(most))
    except DamagedBody:
        return None
    return found.data if found.whole or len(found.data) > len(body) else None


_UNDO: dict[str, Callable[[bytes, int], bytes | None]] = {
    "chunked": _unchunked,
    "gzip": _gunzipped,
    "x-gzip": _gunzipped,
    "deflate": _deflated,
    "x-deflate": _deflated,
    "br": _unbrotlied,
    "zstd": _unzstd,
}
