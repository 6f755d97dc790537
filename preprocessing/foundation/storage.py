# SPDX-License-Identifier: Apache-2.0
"""Local and cloud paths: what a glob names, ranged reads, and atomic publishing.

A path is a string. With a scheme (s3://, gs://, az://) cloudpathlib lists, reads and
uploads it; everything else is a local path. Nothing is ever visible under its final
name before all of its bytes are written.
"""

import contextlib
import errno
import io
import itertools
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, cast

from preprocessing.foundation.cloud_clients import cloud_path, read_cloud_range
from preprocessing.foundation.commands import UsageError, WorkError, first_of, note
from preprocessing.foundation.globs import (
    METADATA_THREADS,
    GlobMatches,
    InputFile,
    cloud_matches,
    local_matches,
)

# One request of a streamed cloud read; 8 MB amortises a round trip of 50 ms at the
# 100 to 200 MB/s one connection gives.
CLOUD_READ_BYTES = 8 << 20
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_MOST_NAMED = 3
_TEMPORARY = ".tmp"


def is_cloud(path: str) -> bool:
    """Tells whether `path` is a cloud URI."""
    return _SCHEME.match(path) is not None


def join(base: str, *names: str) -> str:
    """Returns `names` below the directory `base`, local or cloud."""
    return "/".join([base.rstrip("/"), *names])


def expand(patterns: Sequence[str]) -> list[InputFile]:
    """Returns the files that the globs name, each once, sorted by relative path.

    The fixed prefix of a glob is its directories before the first one that holds a
    wildcard and is none by that very name; of a path that exists, the directory it lies
    in. Of several names of one file, links among them, the first glob's is taken, and
    of those the one that goes through no link. The others are told on stderr, and so
    are directories that match where no file in them is read.

    Raises:
        UsageError: a glob matches no file, or what cannot be read, or two files share a
            relative path, from which the documents' keys are made.
    """
    found: dict[str, InputFile] = {}
    directories: dict[str, str] = {}
    others: list[str] = []
    all_matches = [
        cloud_matches(pattern) if is_cloud(pattern) else local_matches(pattern)
        for pattern in patterns
    ]
    for matches in all_matches:
        for file in matches.files:
            kept = found.setdefault(file.identity, file)
            if os.path.normpath(kept.path) != os.path.normpath(file.path):
                others.append(f"{file.path}, which is {kept.path}")
        unasked = [path for path in matches.directories if path not in patterns]
        directories |= dict.fromkeys(unasked, "a directory")
        directories |= matches.unlisted
    files = sorted(found.values(), key=lambda file: file.relative)
    _name_directories(directories, files)
    if others:
        note(f"{len(others):,} more names of files are not read, such as {others[0]}")
    for pattern, matches in zip(patterns, all_matches, strict=True):
        _refuse_unreadable(pattern, matches)
    for one, other in itertools.pairwise(files):
        if one.relative == other.relative:
            raise UsageError(
                f"wanted inputs with different relative paths, found {one.relative} "
                f"as {one.path} and {other.path}. Use one glob whose fixed prefix lies "
                "above both"
            )
    return files


def _refuse_unreadable(pattern: str, matches: GlobMatches) -> None:
    if matches.unreadable:
        named = [f"{path}, {why}" for path, why in matches.unreadable.items()]
        raise UsageError(
            f"wanted files at {pattern}, found {first_of(named)}. Put the files there, "
            "remove the names, or narrow the glob"
        )
    if not matches.files:
        if is_dir(pattern):
            raise UsageError(
                f"wanted a file or a glob, {pattern} is a directory. Name the files in "
                f"it, for example '{join(pattern, '**', '*')}'"
            )
        rest = [*matches.directories, *matches.unlisted]
        raise UsageError(
            f"wanted input files matching {pattern}, found "
            f"{f'only directories, such as {rest[0]}' if rest else 'none'}. Check the "
            "path, and quote the glob so that the shell leaves it alone"
        )


def _name_directories(directories: Mapping[str, str], files: list[InputFile]) -> None:
    """Says which directories matched although no file in them is read."""
    if not directories:
        return
    above = {
        file.path[:at]
        for file in files
        for at, letter in enumerate(file.path)
        if letter == "/"
    }
    left = [path for path in directories if path.rstrip("/") not in above]
    for path in left[:_MOST_NAMED]:
        note(
            f"{path} matches and is not read ({directories[path]}). Name the files in "
            f"it too, as in '{join(path, '**', '*')}', if they are wanted"
        )
    if len(left) > _MOST_NAMED:
        note(f"{len(left) - _MOST_NAMED:,} more directories match and are not read")


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


def absolute(path: str) -> str:
    """Returns a path as it is named in any directory; a glob's wildcards stay."""
    return path if is_cloud(path) else os.path.abspath(path)


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
    with ThreadPoolExecutor(METADATA_THREADS) as pool:
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
def atomic_file(path: str, durable: bool = False) -> Iterator[BinaryIO]:
    """Gives a binary file that appears under `path` when the block succeeds.

    Locally a temporary name in the same directory is renamed; on object stores the
    upload at the end is atomic by itself. On any failure, a full disk included,
    nothing is left under either name.

    Args:
        path: the file, local or cloud.
        durable: a power cut after the block does not lose it: its bytes are on the disk
            before it has its name, and the name before the block ends. For what costs
            more to lose than to make again; it waits for the disk twice, 2 to 30 ms.
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
            if durable:
                write_through(file)
        # Atomic on POSIX; the last of several writers wins, all with the same bytes.
        os.replace(temporary, path)
        if durable:
            sync_directory(directory)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_atomically(path: str, data: bytes, durable: bool = False) -> None:
    """Publishes `data` under `path`, whole or not at all; see `atomic_file`."""
    with atomic_file(path, durable) as file:
        file.write(data)


def write_through(file: BinaryIO, data: bytes = b"") -> None:
    """Writes bytes to a local file and waits until all of it is on the disk."""
    file.write(data)
    file.flush()
    os.fsync(file.fileno())


def sync_directory(directory: str) -> None:
    """Waits until the names in a local directory are on the disk."""
    descriptor = os.open(directory or ".", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network disks
            raise
    finally:
        os.close(descriptor)


def sync_file(path: str) -> None:
    """Waits until the bytes of a local file are on the disk, whoever wrote them."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_tree(directory: str) -> None:
    """Waits until all files and names below a local directory are on the disk."""
    for place, _, names in os.walk(directory):
        for name in names:
            sync_file(os.path.join(place, name))
        sync_directory(place)


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
