# SPDX-License-Identifier: Apache-2.0
"""Protocol buffers' wire format, written and read without generated classes.

The release check must not import TensorFlow, whose protobuf classes come with it, and
TensorFlow Serving's are a package of their own; both need only a few fields. Reference:
https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


def varint(value: int) -> bytes:
    """Encodes an integer of at most 64 bits; a negative one takes ten bytes."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def integer(field: int, value: int) -> bytes:
    """Encodes an int32, int64, bool or enum field."""
    return varint(field << 3 | _VARINT) + varint(value)


def message(field: int, payload: bytes) -> bytes:
    """Encodes a bytes, string or sub-message field."""
    return varint(field << 3 | _BYTES) + varint(len(payload)) + payload


def map_entry(field: int, key: str, value: bytes) -> bytes:
    """Encodes one entry of a map from strings to messages."""
    return message(field, message(1, key.encode()) + message(2, value))


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields (field number, value) in the order of the bytes.

    A value is an integer for varints and raw bytes for everything else.

    Raises:
        ValueError: the bytes are no protocol buffer.
    """
    position = 0
    while position < len(data):
        key, position = _read_varint(data, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _read_varint(data, position)
            yield number, value
            continue
        if kind == _BYTES:
            size, position = _read_varint(data, position)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise ValueError(f"wanted a wire type of 0, 1, 2 or 5, found {kind}")
        if position + size > len(data):
            raise ValueError(f"wanted {size} bytes at {position}, found the end")
        yield number, data[position : position + size]
        position += size


def all_of(data: bytes, field: int) -> list[bytes]:
    """Returns every value of a repeated bytes, string or message field."""
    return [bytes(value) for number, value in fields(data) if number == field]


def last_bytes(data: bytes, field: int) -> bytes:
    """Returns a bytes, string or message field, empty where it is absent."""
    values = all_of(data, field)
    return values[-1] if values else b""


def last_integer(data: bytes, field: int) -> int:
    """Returns an integer field as a signed 64-bit number, 0 where it is absent."""
    values = [value for number, value in fields(data) if number == field]
    value = int(values[-1]) if values else 0
    return value - (1 << 64) if value >= 1 << 63 else value


def entries(data: bytes, field: int) -> dict[str, bytes]:
    """Returns a map from strings to messages."""
    return {
        last_bytes(entry, 1).decode(): last_bytes(entry, 2)
        for entry in all_of(data, field)
    }


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise ValueError(f"wanted a varint that ends, found none at {position}")
        byte = data[position]
        value |= (byte & 127) << shift
        position += 1
        if byte < 128:
            return value, position
        shift += 7
