# SPDX-License-Identifier: Apache-2.0
"""TFRecord files of `tf.train.Example`, written and read without TensorFlow.

    [length u64][masked crc of length u32][payload][masked crc of payload u32]   a frame

As `tensorflow/core/lib/io/record_writer.h` and `tensorflow/core/example/*.proto` have
them: `tf.data.TFRecordDataset` and `tf.io.parse_single_example` take what is written
here, and what they write is read here.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c

from preprocessing.foundation.protocol_buffers import declare, read

HEADER_BYTES, FOOTER_BYTES = 12, 4
_LENGTH_BYTES = 8
CRC_MASK_DELTA = 0xA282EAD8
_LISTS = ("bytes_list", "float_list", "int64_list")
# A map's entries are ours to order.
EXAMPLE = declare(
    {
        "Example": {"features": (1, "Features")},
        "Features": {"feature": (1, "repeated FeatureEntry")},
        "FeatureEntry": {"key": (1, "string"), "value": (2, "Feature")},
        "Feature": {
            "bytes_list": (1, "BytesList"),
            "float_list": (2, "FloatList"),
            "int64_list": (3, "Int64List"),
        },
        "BytesList": {"value": (1, "repeated bytes")},
        "FloatList": {"value": (1, "repeated float")},
        "Int64List": {"value": (1, "repeated int64")},
    }
)["Example"]


@dataclass(frozen=True)
class RecordFrame:
    """A record of a TFRecord file.

    Attributes:
        payload: its bytes; none where they were not kept.
        fault: what is wrong with it, nothing as a rule.
    """

    payload: bytes
    fault: str = ""


def masked_crc(data: bytes) -> int:
    """Returns TFRecord's masked CRC32C of `data`."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + CRC_MASK_DELTA) & 0xFFFFFFFF


def framed(payload: bytes) -> bytes:
    """Returns a record as it stands in a file."""
    length = len(payload).to_bytes(_LENGTH_BYTES, "little")
    return length + _checksum(length) + payload + _checksum(payload)


def read_frames(parts: Iterable[bytes], limit: int) -> Iterator[RecordFrame]:
    """Yields the records of a file, given in parts of any size.

    A record above `limit` bytes, or with another checksum than its own, costs itself
    alone.

    Raises:
        ValueError: where the next record begins cannot be told: the file ends within
            one, or its length is damaged.
    """
    stream = _Stream(parts)
    for number in itertools.count(1):
        header = stream.take(HEADER_BYTES)
        if not header:
            return
        length = header[:_LENGTH_BYTES]
        if header[_LENGTH_BYTES:] != _checksum(length):
            raise ValueError(f"no TFRecord, or a damaged length, at record {number}")
        size = int.from_bytes(length, "little")
        payload = stream.take(size, keep=size <= limit)
        checksum = stream.take(FOOTER_BYTES)
        if len(checksum) < FOOTER_BYTES:
            raise ValueError(f"the file ends within record {number}")
        if size > limit:
            yield RecordFrame(b"", f"above {limit:,} bytes")
        elif checksum != _checksum(payload):
            yield RecordFrame(b"", "another checksum than was written")
        else:
            yield RecordFrame(payload)


def encode_example(
    features: Mapping[str, Sequence[bytes] | Sequence[int] | Sequence[float]],
) -> bytes:
    """Returns a serialised Example; its features stand in the order of their names."""
    example = EXAMPLE()
    for name in sorted(features):
        values = features[name]
        entry = example.features.feature.add(key=name)
        kinds = {bytes: "bytes_list", float: "float_list", int: "int64_list"}
        kind = kinds[type(values[0])] if values else "bytes_list"
        getattr(entry.value, kind).value.extend(values)
    return example.SerializeToString()


def decode_example(data: bytes) -> dict[str, list[Any]]:
    """Returns the features of an Example: lists of bytes, floats or ints.

    Raises:
        ValueError: the bytes are no Example.
    """
    found = {}
    for entry in read(EXAMPLE, data).features.feature:
        kinds = [kind for kind in _LISTS if entry.value.HasField(kind)]
        found[entry.key] = [*getattr(entry.value, kinds[0]).value] if kinds else []
    return found


def _checksum(data: bytes) -> bytes:
    return masked_crc(data).to_bytes(FOOTER_BYTES, "little")


class _Stream:
    """Bytes in parts of any size, taken in pieces of any size."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = iter(parts)
        self._part, self._at = b"", 0

    def take(self, size: int, keep: bool = True) -> bytes:
        """Returns the next bytes, fewer at the end; none unless they are to be kept."""
        pieces: list[bytes] = []
        while size:
            if self._at == len(self._part):
                part = next(self._parts, None)
                if part is None:
                    break
                self._part, self._at = part, 0
            piece = self._part[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            if keep:
                pieces.append(piece)
        return b"".join(pieces)
