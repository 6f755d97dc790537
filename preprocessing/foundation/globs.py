# SPDX-License-Identifier: Apache-2.0
"""What a glob names, on disk and on object stores: files, and what is none.

A path that exists is itself, whatever characters it has; so is a directory that a glob
begins with. Behind it `*`, `?` and `[...]` match within a name, and `**` directories at
any depth; names that begin with a dot are left out unless the glob spells the dot. A
directory is walked once, under its own name rather than a link's, so links that lead in
circles end.
"""

import contextlib
import errno
import fnmatch
import os
import stat
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from preprocessing.foundation.cloud_clients import cloud_path

METADATA_THREADS = 32
_WILDCARDS = frozenset("*?[")
_ANY_DEPTH = "**"


@dataclass(frozen=True)
class InputFile:
    """A file named by a glob.

    Attributes:
        path: where it lies.
        relative: its path after the glob's fixed prefix.
        size: in bytes.
        modified: when its contents last changed, as the place it lies in tells it.
        identity: equal for two names of one file; empty where nobody asked.
    """

    path: str
    relative: str
    size: int
    modified: str = ""
    identity: str = ""


@dataclass
class GlobMatches:
    """What a glob names.

    Attributes:
        files: of several names of one file, that which no link leads to comes first.
        directories: paths that match and are directories with something in them.
        unlisted: directories that cannot be listed, and why.
        unreadable: paths that match and hold no bytes to read, and why.
    """

    files: list[InputFile] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)
    unlisted: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


def local_matches(pattern: str) -> GlobMatches:
    """Returns what a glob names on disk."""
    found = GlobMatches()
    if os.path.lexists(pattern):
        prefix, parts = _itself(pattern)
        paths = iter([pattern])
    else:
        prefix, parts = _split(pattern, os.path.isdir, 0)
        paths = _walk(prefix, parts, found)
    for path in paths:
        try:
            facts = os.stat(path)
        except OSError as error:
            if os.path.lexists(path):  # else it has just gone
                found.unreadable[path] = _why(error)
            continue
        if stat.S_ISREG(facts.st_mode):
            found.files.append(_local_file(path, path[len(prefix) :], facts))
        elif not stat.S_ISDIR(facts.st_mode):
            found.unreadable[path] = "a pipe or device"
        elif not _takes_all(parts) and _entries(path, found):
            found.directories.append(path)
    found.files = _direct_first(found.files, os.path.realpath(prefix or "."))
    return found


def _direct_first(files: Sequence[InputFile], base: str) -> list[InputFile]:
    """Returns the files sorted; a name that no link leads to comes before others.

    Args:
        files: what was found.
        base: the glob's fixed prefix, itself without links.
    """
    times = Counter(file.identity for file in files)

    def order(file: InputFile) -> tuple[bool, str]:
        if times[file.identity] == 1:
            return False, file.relative
        direct = os.path.join(base, file.relative)
        return os.path.realpath(file.path) != direct, file.relative

    return sorted(files, key=order)


def cloud_matches(pattern: str) -> GlobMatches:
    """Returns what a glob names on an object store."""
    found = GlobMatches()
    target, fixed = cloud_path(pattern), 3  # "s3:", "", "bucket"
    if target.is_file():
        prefix, parts = _itself(pattern)
        paths = [target]
    else:
        prefix, parts = _split(pattern, lambda path: cloud_path(path).is_dir(), fixed)
        paths = _listed(prefix, parts)
    with ThreadPoolExecutor(METADATA_THREADS) as pool:
        # Each costs a round trip or two.
        facts = list(pool.map(lambda p: p.stat() if p.is_file() else None, paths))
    for path, file in zip(map(str, paths), facts, strict=True):
        if file is not None:
            name = path[len(prefix) :]
            size, modified = int(file.st_size), str(file.st_mtime)
            found.files.append(InputFile(path, name, size, modified, path))
        elif not _takes_all(parts):
            found.directories.append(path)
    return found


@contextlib.contextmanager
def literal_directory(path: str) -> Iterator[str]:
    """Gives a directory under a name that no library takes for a glob.

    TensorFlow takes the path of a checkpoint or of a SavedModel for one: in `run [1]`
    it finds nothing. A path that holds no wildcard, or lies in a bucket, is given as it
    is, another as a link that lasts as long as the block.
    """
    if (_WILDCARDS.isdisjoint(path) and "\\" not in path) or "://" in path:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="quern-") as place:
        link = os.path.join(place, "link")
        os.symlink(os.path.abspath(path), link)
        yield link


def _why(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
        return "a link to nothing"
    return str(error.strerror)


def _local_file(path: str, name: str, facts: os.stat_result) -> InputFile:
    # A name that is not UTF-8 must still fit into JSON and Parquet.
    raw = name.replace(os.sep, "/").encode("utf-8", "surrogateescape")
    relative = raw.decode("utf-8", "backslashreplace")
    modified, one = str(facts.st_mtime_ns), _identity(path, facts)
    return InputFile(path, relative, facts.st_size, modified, one)


def _identity(path: str, facts: os.stat_result) -> str:
    # Some network file systems number nothing.
    return f"{facts.st_dev} {facts.st_ino}" if facts.st_ino else os.path.realpath(path)


def _prefix(parts: Sequence[str]) -> str:
    return "".join(f"{part}/" for part in parts)


def _itself(path: str) -> tuple[str, list[str]]:
    """Returns what `_split` does, of a path that is no glob."""
    *above, name = path.split("/")
    return _prefix(above), [name]


def _split(
    pattern: str, is_dir: Callable[[str], bool], least: int
) -> tuple[str, list[str]]:
    """Returns a glob's fixed prefix, with its last /, and the parts behind it.

    Args:
        pattern: the glob.
        is_dir: tells whether a path is a directory, and so no glob.
        least: parts that are fixed whatever they hold.
    """
    parts = pattern.split("/")
    fixed = 0
    while fixed < len(parts) - 1 and (
        fixed < least
        or _WILDCARDS.isdisjoint(parts[fixed])
        or is_dir("/".join(parts[: fixed + 1]))
    ):
        fixed += 1
    rest = parts[fixed:]
    if rest[-1] == _ANY_DEPTH:
        rest.append("*")
    return _prefix(parts[:fixed]), rest


def _takes_all(parts: Sequence[str]) -> bool:
    """Tells whether whatever lies below a directory that matches is matched too."""
    return list(parts[-2:]) == [_ANY_DEPTH, "*"]


def _is_like(name: str, part: str) -> bool:
    """Tells whether a name matches a part of a glob, or is spelled like it."""
    if name.startswith(".") and not part.startswith("."):
        return False
    return name == part or fnmatch.fnmatchcase(name, part)


def _matches(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Tells whether a path, its names one by one, matches the parts of a glob."""
    if not parts or not names:
        return not parts and not names
    if parts[0] != _ANY_DEPTH:
        return _is_like(names[0], parts[0]) and _matches(names[1:], parts[1:])
    deeper = not names[0].startswith(".") and _matches(names[1:], parts)
    return deeper or _matches(names, parts[1:])


def _listed(prefix: str, parts: Sequence[str]) -> list[Any]:
    """Returns cloudpathlib's paths that match below a prefix."""
    base = cloud_path(prefix)
    # Listing all below is what any glob of several parts costs.
    below = base.glob("**/*") if len(parts) > 1 else base.iterdir()
    start = len(str(base).rstrip("/")) + 1
    return [path for path in below if _matches(str(path)[start:].split("/"), parts)]


def _walk(base: str, parts: Sequence[str], found: GlobMatches) -> Iterator[str]:
    """Yields the paths on disk below `base` that match, each as often as it does."""
    part, rest = parts[0], parts[1:]
    if part == _ANY_DEPTH:
        while rest[0] == _ANY_DEPTH:
            rest = rest[1:]
        for directory in _directories(base, found):
            yield from _walk(directory, rest, found)
        return
    if _WILDCARDS.isdisjoint(part):
        names = [part] if os.path.lexists(base + part) else []
    else:
        names = [entry.name for entry in _entries(base, found)]
    for name in names:
        if name == part or _is_like(name, part):
            if not rest:
                yield base + name
            elif os.path.isdir(base + name):
                yield from _walk(f"{base}{name}/", rest, found)


def _directories(base: str, found: GlobMatches) -> Iterator[str]:
    """Yields a directory and those below it, each once, those behind links last."""
    waiting, links = [base], deque[str]()
    seen: set[str] = set()
    while waiting or links:
        path = waiting.pop() if waiting else links.popleft()
        try:
            identity = _identity(path or ".", os.stat(path or "."))
        except FileNotFoundError:
            continue  # it has just gone
        if identity in seen:
            continue
        seen.add(identity)
        yield path
        for entry in _entries(path, found):
            if entry.name.startswith(".") or entry.is_file(follow_symlinks=False):
                continue
            # `DirEntry.is_dir` raises at a link to itself.
            if os.path.isdir(below := f"{path}{entry.name}/"):
                (links if entry.is_symlink() else waiting).append(below)


def _entries(directory: str, found: GlobMatches) -> list["os.DirEntry[str]"]:
    """Returns what a directory holds, sorted; one that cannot be listed is noted."""
    try:
        with os.scandir(directory or ".") as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        found.unlisted[directory] = str(error.strerror)
        return []
