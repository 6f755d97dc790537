# SPDX-License-Identifier: Apache-2.0
"""Where a claim lies, and how exactly one of several wins it.

On a disk, which may be another host's, a file is made whole under a name of its own
and then linked to the claim's: a link replaces nothing. Who follows a holder that is
gone first makes a file named after that claim, which one alone can, and renames it over
the claim while the claim is still that one. A renewal writes into the file that the
holder made: where another has replaced it, it changes nothing.

In a bucket a write carries a condition: that nothing is there, or still the version
that was looked at.
"""

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from preprocessing.foundation import cloud_clients, storage

# Of a store that knows no conditions: two that find a place free write within a few
# round trips of each other; the last one has it, and both look after so many seconds.
SETTLE_SECONDS = 5.0
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV)

Pause = Callable[[float], object]


@dataclass(frozen=True)
class Seen:
    """A claim that lies somewhere.

    Attributes:
        data: what it says.
        name: what no other claim is called; of letters and digits.
        version: a bucket's name for this state of it.
    """

    data: bytes
    name: str
    version: str = ""


class Place(Protocol):
    """The place of one claim."""

    def read(self) -> Seen | None:
        """Returns the claim that lies there, None where none does."""

    def take(self, found: Seen | None, data: bytes, pause: Pause) -> bool:
        """Writes a claim where `found` lies; tells whether that is ours now.

        `pause` waits for some seconds, where that is needed to tell.
        """

    def renew(self, data: bytes) -> bool:
        """Writes our claim anew, never over another's; tells whether it could."""

    def remove(self) -> None:
        """Removes our claim, which was just read."""

    def close(self) -> None:
        """Lets go of the place."""


class FilePlace:
    """The place of a claim on a disk."""

    def __init__(self, path: str, name_of: Callable[[bytes], str], gone: float) -> None:
        """Says where.

        Args:
            path: the claim's file, in a directory that is there.
            name_of: names what a claim says.
            gone: who began to take over and has not for so many seconds is gone.
        """
        self._path, self._name_of, self._gone = path, name_of, gone
        self._ours: int | None = None
        self._stuck: dict[bytes, float] = {}

    def read(self) -> Seen | None:
        """Returns the claim that lies there, None where none does."""
        data = _read(self._path)
        return None if data is None else Seen(data, self._name_of(data))

    def take(self, found: Seen | None, data: bytes, pause: Pause) -> bool:
        """Writes a claim where `found` lies; tells whether that is ours now."""
        if found is None:
            taken = _create(self._path, data)
        else:
            taken = self._follow(found, data)
        if taken:
            self._ours = os.open(self._path, os.O_RDWR)
            storage.sync_directory(os.path.dirname(self._path))
        return taken

    def renew(self, data: bytes) -> bool:
        """Writes into our file, wherever that lies by now; `data` is as long."""
        if self._ours is None:
            return False
        try:
            return os.pwrite(self._ours, data, 0) == len(data)
        except OSError:  # replaced from another host
            return False

    def remove(self) -> None:
        """Removes our claim."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def close(self) -> None:
        """Closes our file."""
        if self._ours is not None:
            os.close(self._ours)
            self._ours = None

    def _follow(self, found: Seen, data: bytes) -> bool:
        """Replaces the claim of one that is gone, unless another does.

        On one host a follower is seen to live, so nobody stands in its way. From
        another host one that stood still in here for minutes could be overtaken; what
        it then writes over is missed by the other one's next look at its claim.
        """
        directory, name = os.path.split(self._path)
        follower = os.path.join(directory, f".{name}.{found.name}.tmp")
        if not _create(follower, data):
            self._unblock(follower)
            return False
        there = self.read()
        if there is None or there.name != found.name:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(follower)
            return False
        try:
            os.rename(follower, self._path)
        except FileNotFoundError:  # we were taken for gone
            return False
        return _read(self._path) == data

    def _unblock(self, follower: str) -> None:
        """Removes what a follower has left that was killed on its way."""
        data = _read(follower)
        if data is None:
            return
        now = time.monotonic()
        if now - self._stuck.setdefault(data, now) >= self._gone:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(follower)


class BucketPlace:
    """The place of a claim in a bucket."""

    def __init__(self, path: str, name_of: Callable[[bytes], str]) -> None:
        """Says where; `name_of` names what a claim says."""
        self._path, self._name_of, self._version = path, name_of, ""

    def read(self) -> Seen | None:
        """Returns the claim that lies there, None where none does."""
        found = cloud_clients.read_version(self._path)
        return (
            None if found is None else Seen(found[0], self._name_of(found[0]), found[1])
        )

    def take(self, found: Seen | None, data: bytes, pause: Pause) -> bool:
        """Writes a claim where `found` lies; tells whether that is ours now."""
        expected = None if found is None else found.version
        version = cloud_clients.write_version(self._path, data, expected)
        if version is None:
            return self._is(data)  # it may be ours, and the answer was lost
        self._version = version
        # What is there now is ours, so a store that keeps conditions refuses this.
        again = cloud_clients.write_version(self._path, data, None)
        if again is None:
            return True
        pause(SETTLE_SECONDS)
        return self._is(data)

    def renew(self, data: bytes) -> bool:
        """Writes our claim anew where our last version of it lies."""
        version = cloud_clients.write_version(self._path, data, self._version)
        self._version = version or self._version
        return version is not None

    def remove(self) -> None:
        """Removes our claim."""
        cloud_clients.remove_version(self._path, self._version)

    def close(self) -> None:
        """Has nothing to let go of."""

    def _is(self, data: bytes) -> bool:
        there = self.read()
        if there is None or there.data != data:
            return False
        self._version = there.version
        return True


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _create(path: str, data: bytes) -> bool:
    """Makes a file that holds `data` from its first moment, if there is none."""
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            storage.write_through(file, data)
        os.link(temporary, path)
    except FileExistsError:
        return _read(path) == data  # over NFS an answer may be lost, and asked again
    except FileNotFoundError:
        # Who ended there has removed the directory, or this file as a leftover.
        os.makedirs(directory, exist_ok=True)
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _create_in_place(path, data)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    return True


def _create_in_place(path: str, data: bytes) -> bool:
    """Makes a file where a disk knows no links: for a moment it is empty."""
    try:
        with open(path, "xb") as file:
            storage.write_through(file, data)
    except FileExistsError:
        return False
    return True
