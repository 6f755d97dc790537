# SPDX-License-Identifier: Apache-2.0
"""Local and cloud paths: what a glob names, ranged reads, and atomic publishing.

A path is a string. With a scheme (s3://, gs://, az://) cloudpathlib lists, reads and
uploads it; everything else is a local path. Nothing is ever visible under its final
name before all of its bytes are written.
"""

import contextlib
import fnmatch
import glob
import io
import itertools
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from preprocessing.foundation.cloud_clients import cloud_path, read_cloud_range
from preprocessing.foundation.commands import UsageError, WorkError

# One request of a streamed cloud read; 8 MB amortises a round trip of 50 ms at the
# 100 to 200 MB/s one connection gives.
CLOUD_READ_BYTES = 8 << 20
_METADATA_THREADS = 32
_WILDCARDS = frozenset("*?[")
_TEMPORARY = ".tmp"


@dataclass(frozen=True)
class InputFile:
    """A file named by a glob.

    Attributes:
        path: where it lies.
        relative: its path after the glob's fixed prefix.
        size: in bytes.
        modified: when its contents last changed, as the place it lies in tells it.
    """

    path: str
    relative: str
    size: int
    modified: str = ""


def is_cloud(path: str) -> bool:
    """Tells whether `path` is a cloud URI."""
    return "://" in path


def join(base: str, *names: str) -> str:
    """Returns `names` below the directory `base`, local or cloud."""
    return "/".join([base.rstrip("/"), *names])


def expand(patterns: Sequence[str]) -> list[InputFile]:
    """Returns the files that the globs name, each once, sorted by relative path.

    The fixed prefix of a glob is its directories before the first one that holds a
    wildcard; of a plain path, the directory it lies in. Hidden files are left out
    unless the glob spells the dot.

    Raises:
        UsageError: a glob matches no file, or two files share a relative path, from
            which the documents' keys are made.
    """
    found: dict[str, InputFile] = {}
    for pattern in patterns:
        files = _expand_cloud(pattern) if is_cloud(pattern) else _expand_local(pattern)
        if not files:
            raise UsageError(
                f"wanted input files matching {pattern}, found none. Check the path, "
                "and quote the glob so that the shell leaves it alone"
            )
        for file in files:
            found.setdefault(file.path, file)
    files = sorted(found.values(), key=lambda file: file.relative)
    for one, other in itertools.pairwise(files):
        if one.relative == other.relative:
            raise UsageError(
                f"wanted inputs with different relative paths, found {one.relative} "
                f"as {one.path} and {other.path}. Use one glob whose fixed prefix lies "
                "above both"
            )
    return files


def _split_pattern(pattern: str) -> tuple[str, str]:
    """Returns (fixed prefix, rest) of a glob."""
    parts = pattern.split("/")
    fixed = 0
    while fixed < len(parts) - 1 and not _WILDCARDS & set(parts[fixed]):
        fixed += 1
    return "/".join(parts[:fixed]) + "/" * (fixed > 0), "/".join(parts[fixed:])


def _expand_local(pattern: str) -> list[InputFile]:
    prefix, rest = _split_pattern(pattern)
    if os.path.isdir(pattern):
        raise UsageError(
            f"wanted a file or a glob, {pattern} is a directory. Name the files in it, "
            f"for example '{join(pattern, '**', '*')}'"
        )
    if _WILDCARDS.isdisjoint(rest):
        names = [rest] if os.path.isfile(pattern) else []
    else:
        names = glob.glob(rest, root_dir=prefix or None, recursive=True)
    files = []
    for name in names:
        path = prefix + name
        if os.path.isfile(path):
            # A name that is not UTF-8 must still fit into JSON and Parquet.
            raw = name.replace(os.sep, "/").encode("utf-8", "surrogateescape")
            relative = raw.decode("utf-8", "backslashreplace")
            found = os.stat(path)
            files.append(
                InputFile(path, relative, found.st_size, str(found.st_mtime_ns))
            )
    return files


def _expand_cloud(pattern: str) -> list[InputFile]:
    prefix, rest = _split_pattern(pattern)
    base = cloud_path(prefix)
    if _WILDCARDS.isdisjoint(rest):
        target = base / rest
        paths = [target] if target.is_file() else []
    else:
        paths = [
            path
            for path in base.glob(rest)
            if path.is_file() and not _hidden(str(path)[len(str(base)) :], rest)
        ]
    if not paths:
        return []
    with ThreadPoolExecutor(_METADATA_THREADS) as pool:
        stats = list(pool.map(lambda path: path.stat(), paths))
    start = len(str(base).rstrip("/")) + 1
    return [
        InputFile(str(path), str(path)[start:], int(found.st_size), str(found.st_mtime))
        for path, found in zip(paths, stats, strict=True)
    ]


def check_unchanged(path: str, size: int, modified: str) -> None:
    """Checks that a file is still the one that a glob named.

    Raises:
        WorkError: it is gone, or its size or time of change is another.
    """
    try:
        if is_cloud(path):
            cloud = cloud_path(path).stat()
            now = int(cloud.st_size), str(cloud.st_mtime)
        else:
            local = os.stat(path)
            now = local.st_size, str(local.st_mtime_ns)
    except FileNotFoundError:
        raise WorkError(
            f"wanted the input {path} as it was when the job began, it has vanished. "
            "Put it back and run again, or begin a new output without it"
        ) from None
    if now != (size, modified):
        raise WorkError(
            f"wanted the input {path} as it was when the job began, it has changed "
            f"since ({size} bytes then, {now[0]} now). Begin a new output, and leave "
            "the input alone while it is read"
        )


def _hidden(name: str, pattern: str) -> bool:
    """Tells whether a part of a name starts with a dot that the pattern leaves out."""
    spelled = [part for part in pattern.split("/") if part.startswith(".")]
    return any(
        not any(fnmatch.fnmatchcase(part, wanted) for wanted in spelled)
        for part in name.split("/")
        if part.startswith(".")
    )


def exists(path: str) -> bool:
    """Tells whether a file or a directory is there."""
    return bool(cloud_path(path).exists()) if is_cloud(path) else os.path.exists(path)


def is_dir(path: str) -> bool:
    """Tells whether `path` is a directory (on object stores: a prefix in use)."""
    return bool(cloud_path(path).is_dir()) if is_cloud(path) else os.path.isdir(path)


def list_names(directory: str) -> list[str]:
    """Returns the sorted names in a directory; none if it is absent."""
    if is_cloud(directory):
        path = cloud_path(directory)
        return sorted(child.name for child in path.iterdir()) if path.is_dir() else []
    return sorted(os.listdir(directory)) if os.path.isdir(directory) else []


def file_size(path: str) -> int:
    """Returns a file's size in bytes; raises `FileNotFoundError` where none is."""
    if not is_cloud(path):
        return os.path.getsize(path)
    cloud = cloud_path(path)
    if not cloud.is_file():
        raise FileNotFoundError(path)
    return int(cloud.stat().st_size)


def file_sizes(paths: Sequence[str]) -> list[int | None]:
    """Returns the size of each file in bytes; None where none is."""

    def size(path: str) -> int | None:
        try:
            return file_size(path)
        except FileNotFoundError:
            return None

    if not any(map(is_cloud, paths)):
        return [size(path) for path in paths]
    # In a bucket each costs a round trip.
    with ThreadPoolExecutor(_METADATA_THREADS) as pool:
        return list(pool.map(size, paths))


def read_bytes(path: str) -> bytes:
    """Returns a whole file; raises `FileNotFoundError` where none is."""
    if is_cloud(path):
        return read_range(path, 0, file_size(path))
    with open(path, "rb") as file:
        return file.read()


def read_range(path: str, start: int, end: int) -> bytes:
    """Returns bytes start to end (exclusive, within the file) with one request."""
    if end <= start:
        return b""
    if not is_cloud(path):
        with open(path, "rb") as file:
            file.seek(start)
            return file.read(end - start)
    return read_cloud_range(path, start, end)


class _CloudStream(io.RawIOBase):
    """A cloud object as a seekable file; every read is one ranged request."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._size = file_size(path)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._size, self._at + len(buffer))
        data = read_range(self._path, self._at, end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def open_input(path: str) -> BinaryIO:
    """Opens a file for streaming reads from its start; seekable, local or cloud."""
    if is_cloud(path):
        stream = io.BufferedReader(_CloudStream(path), CLOUD_READ_BYTES)
        return cast(BinaryIO, stream)
    return open(path, "rb")


@contextlib.contextmanager
def atomic_file(path: str) -> Iterator[BinaryIO]:
    """Gives a binary file that appears under `path` when the block succeeds.

    Locally a temporary name in the same directory is renamed; on object stores the
    upload at the end is atomic by itself. On any failure, a full disk included,
    nothing is left under either name.
    """
    if is_cloud(path):
        with tempfile.TemporaryDirectory(prefix="quern-") as directory:
            temporary = os.path.join(directory, "upload")
            with open(temporary, "wb") as file:
                yield file
            cloud_path(path).upload_from(temporary, force_overwrite_to_cloud=True)
        return
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.{uuid.uuid4().hex}{_TEMPORARY}")
    try:
        with open(temporary, "xb") as file:
            yield file
        # Atomic on POSIX; the last of several writers wins, all with the same bytes.
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_atomically(path: str, data: bytes) -> None:
    """Publishes `data` under `path`, whole or not at all."""
    with atomic_file(path) as file:
        file.write(data)


def make_directory(path: str) -> None:
    """Makes a local directory and its parents; object stores need none."""
    if not is_cloud(path):
        os.makedirs(path, exist_ok=True)


def remove_file(path: str) -> None:
    """Removes a file, if it is there."""
    if is_cloud(path):
        cloud_path(path).unlink(missing_ok=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def remove_leftovers(directory: str) -> None:
    """Removes what killed writers left in a directory under temporary names.

    Only for a directory that nobody writes to: a living writer's file would go too.
    """
    for name in list_names(directory):
        if name.startswith(".") and name.endswith(_TEMPORARY):
            remove_file(join(directory, name))


def remove_tree(path: str) -> None:
    """Removes a directory and all below it, if it is there."""
    if is_cloud(path):
        cloud = cloud_path(path)
        if cloud.is_dir():
            cloud.rmtree()
    elif os.path.isdir(path):
        shutil.rmtree(path)
