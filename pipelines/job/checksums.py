# SPDX-License-Identifier: Apache-2.0
"""Sizes and SHA-256 of the files that a dataset keeps, from their writing to verify.

A step sums a file while it writes it and puts `{"name", "size", "sha256"}` into its
record, the name relative to the output. A step that is not done again checks what it
left; the driver lists all files in SHA256SUMS, which `sha256sum --check` reads too.
"""

import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from preprocessing.foundation import storage
from preprocessing.foundation.commands import WorkError, note

SUMS_NAME = "SHA256SUMS"
FileSum = Mapping[str, Any]
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")
_READ_BYTES = 8 << 20


class SummedFile(io.BufferedIOBase):
    """A file under way that knows the size and the SHA-256 of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._size = 0

    def writable(self) -> bool:
        """Says that it is for writing."""
        return True

    def write(self, data: Any) -> int:
        """Writes bytes, or anything that has some."""
        self._digest.update(data)
        written = self._file.write(data)
        self._size += written
        return written

    def sum(self, name: str) -> FileSum:
        """Returns what a record keeps of it."""
        sha256 = self._digest.hexdigest()
        return {"name": name, "size": self._size, "sha256": sha256}


@contextmanager
def summed_file(output: str, name: str) -> Iterator[SummedFile]:
    """Gives a file that appears as `name` in the output when the block succeeds."""
    with storage.atomic_file(storage.join(output, name)) as file:
        yield SummedFile(file)


def check_file(output: str, file: FileSum) -> None:
    """Reads a file that an earlier run finished, and compares it with its sum.

    Raises:
        WorkError: it is gone, or not as it was written.
    """
    path = storage.join(output, file["name"])
    digest, size = hashlib.sha256(), 0
    try:
        with storage.open_input(path) as data:
            while block := data.read(_READ_BYTES):
                digest.update(block)
                size += len(block)
    except FileNotFoundError:
        raise _damaged(path, file, "no such file") from None
    if size != file["size"]:
        raise _damaged(path, file, f"{size} bytes")
    if digest.hexdigest() != file["sha256"]:
        raise _damaged(path, file, "other bytes (their SHA-256 differs)")


def check_sizes(output: str, files: Sequence[FileSum]) -> None:
    """Looks that every file is there and as large as it was written; reads none.

    Raises:
        WorkError: one is not.
    """
    paths = [storage.join(output, file["name"]) for file in files]
    for path, file, size in zip(paths, files, storage.file_sizes(paths), strict=True):
        if size is None:
            raise _damaged(path, file, "no such file")
        if size != file["size"]:
            raise _damaged(path, file, f"{size} bytes")


def check_sums(output: str) -> int:
    """Reads all files of a dataset's SHA256SUMS and compares; returns their number.

    Raises:
        WorkError: one is gone, or not as it was written.
    """
    sums = read_sums(output)
    for name, wanted in sums.items():
        path, digest = storage.join(output, name), hashlib.sha256()
        try:
            with storage.open_input(path) as data:
                while block := data.read(_READ_BYTES):
                    digest.update(block)
            found = "other bytes (their SHA-256 differs)"
        except FileNotFoundError:
            found = "no such file"
        if found == "no such file" or digest.hexdigest() != wanted:
            raise WorkError(
                f"wanted {path} as it was written, found {found}: the dataset was "
                "damaged. Copy that file again, or prepare into another directory"
            )
    return len(sums)


def _damaged(path: str, file: FileSum, found: str) -> WorkError:
    return WorkError(
        f"wanted {path} as it was written ({file['size']} bytes), found {found}: the "
        "output was damaged. Run the same command again: what was damaged is made again"
    )


def write_sums(output: str, sums: Mapping[str, str]) -> None:
    """Publishes SHA256SUMS: a line for each name, in order."""
    lines = [f"{sums[name]}  {name}\n" for name in sorted(sums)]
    path = storage.join(output, SUMS_NAME)
    storage.write_atomically(path, "".join(lines).encode(), durable=True)


def read_sums(dataset: str) -> dict[str, str]:
    """Returns SHA-256 by name; nothing where a dataset has no SHA256SUMS.

    Raises:
        WorkError: a line of it is not one.
    """
    path = storage.join(dataset, SUMS_NAME)
    try:
        lines = storage.read_bytes(path).decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return {}
    found = [_LINE.fullmatch(line) for line in lines]
    if not all(found):
        raise WorkError(
            f"wanted lines of a checksum and a name in {path}, found others. Copy the "
            "dataset again, or prepare it again"
        )
    return {match[2]: match[1] for match in found if match}


def note_made_again(error: WorkError) -> None:
    """Says what is damaged, and that it is mended, without the error's advice."""
    note(f"{str(error).rpartition('. ')[0]}. It is made again")
