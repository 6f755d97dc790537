# SPDX-License-Identifier: Apache-2.0
"""How blobs travel from one stage to the next: through files, or inside Beam.

    files       a stage writes its blobs into one file of the work directory and emits
                where each lies; Beam groups only these references. Beam's local runner
                groups in one process, in memory, at 15 to 100 MB/s for the machine.
    groupbykey  the blobs themselves are Beam's values, 4 MB at most unless a single
                document is larger; for clusters, whose runners shuffle well.

Either way a reader gets the same blobs. Beam gathers them in no particular order, so
whoever reads sorts by what is in them.

What a step is sent has no bound: 128 MB of ten-byte lines are 12 million documents, and
a gigabyte of columns. So the step's range of hashes is cut into parts, as many as the
blobs' bytes ask for, and each part reads all blobs and keeps only its own rows.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import google_crc32c
import numpy as np

from pipelines.job.blobs import Arrays, drained, from_bytes, take
from pipelines.job.checksums import note_made_again
from preprocessing.foundation import storage
from preprocessing.foundation.commands import WorkError

Transport = Literal["files", "groupbykey"]
Within = Callable[[Arrays], np.ndarray]  # rows -> bool [n]: which belong to a part
BLOB_BYTES = 4 << 20
_INLINE, _REFERENCE = b"\0", b"\1"
_PLACE = struct.Struct("<QQI")  # where it starts and ends, and its CRC32C


def send(
    transport: Transport, work: str, name: str, blobs: Sequence[tuple[int, bytes]]
) -> list[tuple[int, bytes]]:
    """Returns the Beam elements that carry blobs to their keys.

    Args:
        transport: "files" or "groupbykey".
        work: the job's directory of unfinished work.
        name: the blobs' file in it, named after the step alone; written whole or not
            at all, so that a second attempt simply writes it again.
        blobs: (key, blob) pairs.
    """
    if transport == "groupbykey":
        return [(key, _INLINE + blob) for key, blob in blobs]
    elements = []
    at = 0
    with storage.atomic_file(storage.join(work, name)) as file:
        for key, blob in blobs:
            file.write(blob)
            checksum = google_crc32c.value(blob)
            place = _PLACE.pack(at, at + len(blob), checksum)
            elements.append((key, _REFERENCE + place + name.encode()))
            at += len(blob)
    return elements


def receive(work: str, values: Iterable[bytes]) -> list[bytes | memoryview]:
    """Returns the blobs behind gathered values, in no particular order."""
    return [_fetch(work, value) for value in values]


def are_whole(work: str, values: Iterable[bytes]) -> bool:
    """Tells whether all blobs behind values are as they were written; says if not.

    They are read for it, which a restart alone does.
    """
    try:
        for value in values:
            _fetch(work, value)
    except WorkError as error:
        note_made_again(error)
        return False
    return True


def blob_bytes(values: Iterable[bytes]) -> int:
    """Returns how many bytes the blobs behind gathered values have; reads none."""
    total = 0
    for value in values:
        if value[:1] == _INLINE:
            total += len(value) - 1
        else:
            start, end, _ = _PLACE.unpack_from(value, 1)
            total += end - start
    return total


def count_parts(values: Sequence[bytes], most: int) -> int:
    """Returns how many parts of about `most` bytes the gathered values make."""
    return max(1, -(-blob_bytes(values) // most))


def gather(work: str, values: Sequence[bytes], within: Within) -> Arrays | None:
    """Returns the rows that lie within a part, in no particular order; None if none.

    Args:
        work: the job's directory of unfinished work.
        values: gathered values.
        within: tells which rows of a blob to keep.
    """
    kept: list[Arrays] = []
    for value in values:
        rows = from_bytes(receive(work, [value])[0])
        chosen = within(rows)
        if chosen.all():
            kept.append(rows)
        elif chosen.any():
            kept.append(take(rows, np.flatnonzero(chosen)))
    return drained(kept) if kept else None


def _fetch(work: str, value: bytes) -> bytes | memoryview:
    if value[:1] == _INLINE:
        return memoryview(value)[1:]
    start, end, checksum = _PLACE.unpack_from(value, 1)
    path = storage.join(work, value[1 + _PLACE.size :].decode())
    try:
        blob = storage.read_range(path, start, end)
    except FileNotFoundError:
        raise _damaged(path, start, end, "no such file") from None
    if len(blob) != end - start:
        raise _damaged(path, start, end, f"{len(blob)} bytes")
    if google_crc32c.value(blob) != checksum:
        raise _damaged(path, start, end, "others (their checksum differs)")
    return blob


def _damaged(path: str, start: int, end: int, found: str) -> WorkError:
    return WorkError(
        f"wanted bytes {start} to {end} of {path} as they were written, found {found}: "
        "the work directory was damaged. Run the same command again: what was damaged "
        "is made again"
    )


def runs(
    keys: np.ndarray, sizes: np.ndarray, most: int = BLOB_BYTES
) -> Iterator[tuple[int, slice]]:
    """Cuts sorted rows into blobs: by key, and every so many bytes within a key.

    Args:
        keys: int64 [n], ascending.
        sizes: int64 [n], bytes that each row adds to a blob.
        most: bytes of a blob; one row may have more.

    Yields:
        (key, rows of one blob).
    """
    filled = np.cumsum(sizes)
    start = 0
    while start < len(keys):
        before = filled[start] - sizes[start]
        full = int(np.searchsorted(filled, before + most, side="right"))
        same = int(np.searchsorted(keys, keys[start], side="right"))
        end = min(max(full, start + 1), same)
        yield int(keys[start]), slice(start, end)
        start = end
