# SPDX-License-Identifier: Apache-2.0
"""Claims: one process at a time writes an output, on a disk or in a bucket.

    OUTPUT/.claim.json   {"host", "kernel", "process", "start",   who holds it
                          "since",       for people: by the holder's clock
                          "token",       drawn for this claim
                          "renewals"}    counted up every 20 seconds

A holder is gone when its process is, on the same host; seen from another host, or from
a container that does not share its numbers, when its claim was not renewed for three
minutes by the observer's own clock: clocks of two hosts are never compared. A living
holder is never disturbed, and a holder looks whether it is one before it publishes.

`claim_places.py` says how one of several wins.
"""

import contextlib
import dataclasses
import hashlib
import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from preprocessing.claims.claim_places import BucketPlace, FilePlace, Place
from preprocessing.claims.processes import ProcessId, lives, this_process
from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError, WorkError

CLAIM_NAME = ".claim.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClaimTimes:
    """How claims and time go together, in seconds.

    Attributes:
        renewal: between two renewals.
        gone: without a renewal for so long, a holder that cannot be seen is gone.
        look: between two looks of who waits.
    """

    renewal: float = 20.0
    gone: float = 180.0
    look: float = 1.0


TIMES = ClaimTimes()


class Held(UsageError):
    """Another process, which lives, is at work there."""


class Claim:
    """A claim, renewed by a thread that dies with the process.

    Attributes:
        path: the claim's file.
        token: what no other claim has.
    """

    def __init__(self, path: str, what: str, times: ClaimTimes = TIMES) -> None:
        """Draws a claim; `acquire` makes it one. `what` is its place in errors."""
        self.path, self.token = path, uuid.uuid4().hex
        self._place, self._what, self._times = _place_of(path, times), what, times
        self._process = this_process()
        self._renewals, self._renewed = 0, time.monotonic()
        self._since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        self._lock, self._done = threading.Lock(), threading.Event()

    def acquire(self, pause: Callable[[float], object] = time.sleep) -> None:
        """Waits until the place is free or its holder is seen to be gone.

        Args:
            pause: waits for some seconds; what it raises ends the waiting.

        Raises:
            Held: a holder lives.
        """
        watch = _Watch(self._what, self._times)
        while True:
            found = self._place.read()
            if found is not None and not watch.is_gone(found.data):
                pause(self._times.look)
            elif self._place.take(found, self._data(), pause):
                break
            else:
                pause(min(self._times.look, 0.01))  # another is at it
        self._renewed = time.monotonic()
        threading.Thread(target=self._renew_on, name="claim", daemon=True).start()

    def check(self) -> None:
        """Checks that the claim is still this one's; call it before each publication.

        Raises:
            WorkError: it was taken over: this process stood still for too long.
        """
        # Who stood still says that it lives before it looks, or it may be taken for
        # gone between the look and what it publishes.
        if time.monotonic() - self._renewed > 2 * self._times.renewal:
            self._renew()
        found = self._place.read()
        _check_own(None if found is None else found.data, self.token, self._what)

    def release(self) -> None:
        """Gives the place free, if it is still this one's."""
        self._done.set()
        with self._lock:
            try:
                found = self._place.read()
                if found is not None and found.name == self.token:
                    self._place.remove()
                self._place.close()
            except Exception as error:  # of any SDK; it is gone when this process is
                _log.warning("the claim %s is left there: %s", self.path, error)

    def _renew_on(self) -> None:
        while not self._done.wait(self._times.renewal):
            self._renew()

    def _renew(self) -> None:
        """Renews the claim; where that fails, `check` sees what became of it."""
        with self._lock:
            if self._done.is_set():
                return
            self._renewals += 1
            try:
                if self._place.renew(self._data()):
                    self._renewed = time.monotonic()
            except Exception as error:  # of any SDK: the next renewal may do better
                _log.info("the claim %s is not renewed: %s", self.path, error)

    def _data(self) -> bytes:
        # Always as long: a renewal of a file writes over the bytes that are there.
        fields = {
            **dataclasses.asdict(self._process),
            "since": self._since,
            "token": self.token,
            "renewals": f"{self._renewals:010d}",
        }
        return (strict_json.dumps(fields, indent=1) + "\n").encode()


def _place_of(path: str, times: ClaimTimes) -> Place:
    if storage.is_cloud(path):
        return BucketPlace(path, _token)
    return FilePlace(path, _token, times.gone)


class _Watch:
    """What one who wants a place has seen of those who hold it."""

    def __init__(self, what: str, times: ClaimTimes) -> None:
        self._what, self._times = what, times
        self._data, self._token, self._since = b"", "", 0.0

    def is_gone(self, data: bytes) -> bool:
        """Tells whether a holder is gone; False: not known yet.

        Raises:
            Held: it lives.
        """
        holder, now = _holder(data), time.monotonic()
        alive = None if holder is None else lives(holder)
        if alive is not None:
            return not self._refuse(data) if alive else True
        if _token(data) != self._token:
            self._data, self._token, self._since = data, _token(data), now
            print(
                f"waiting: {self._what} is claimed by {_described(data)}; it counts as "
                f"gone when its claim is not renewed for {self._times.gone:g} s",
                file=sys.stderr,
                flush=True,
            )
        elif data != self._data:
            self._refuse(data)
        return now - self._since >= self._times.gone

    def _refuse(self, data: bytes) -> bool:
        raise Held(
            f"wanted {self._what} to ourselves, found it in use by {_described(data)}. "
            "Wait until that has ended, or choose another place"
        )


@contextlib.contextmanager
def claimed(
    directory: str,
    what: str,
    name: str = CLAIM_NAME,
    times: ClaimTimes = TIMES,
    pause: Callable[[float], object] = time.sleep,
) -> Iterator[Claim]:
    """Holds the claim on an output while the block works on it.

    Args:
        directory: where the claim lies, local or cloud; made where it is absent, and
            removed at the end where nothing came to lie in it.
        what: the output, as errors call it.
        name: the claim's file.
        times: how long things take.
        pause: waits for some seconds; what it raises ends the waiting for a holder.

    Raises:
        Held: another process is at work there.
        UsageError: nothing can be written there.
    """
    claim = Claim(storage.join(directory, name), what, times)
    made = not storage.is_cloud(directory) and not os.path.isdir(directory)
    try:
        storage.make_directory(directory)
        claim.acquire(pause)
    except OSError as error:
        raise UsageError(
            f"wanted to write to {what}, found: {error.strerror or error}. Name a "
            "directory that can be written"
        ) from error
    try:
        yield claim
    finally:
        claim.release()
        if made:
            with contextlib.suppress(OSError):  # it holds what was made
                os.rmdir(directory)


def check_claim(path: str, token: str, what: str) -> None:
    """Checks for a holder's helpers, on any host, that it still is the holder.

    Args:
        path: the claim's file.
        token: the holder's; empty where nobody claims.
        what: how errors call the place.

    Raises:
        WorkError: it is not.
    """
    if token:
        found = _place_of(path, TIMES).read()
        _check_own(None if found is None else found.data, token, what)


def _check_own(data: bytes | None, token: str, what: str) -> None:
    if data is None or _token(data) != token:
        found = "no claim there" if data is None else f"that of {_described(data)}"
        raise WorkError(
            f"wanted our claim on {what}, found {found}: it was taken over while this "
            "process stood still. Nothing more is written; let the other one finish"
        )


def _fields(data: bytes) -> dict[str, Any]:
    """Returns what a claim says; nothing where it says nothing, as half a file does."""
    with contextlib.suppress(ValueError):
        fields = strict_json.loads(data)
        if isinstance(fields, dict):
            return fields
    return {}


def _holder(data: bytes) -> ProcessId | None:
    fields = _fields(data)
    try:
        known = {each.name: fields[each.name] for each in dataclasses.fields(ProcessId)}
        holder = ProcessId(**known)
        return holder if int(holder.process) > 0 else None
    except (KeyError, TypeError, ValueError):
        return None


def _token(data: bytes) -> str:
    """Returns a claim's token; of what is no claim, a hash of all that is there."""
    token = _fields(data).get("token")
    if isinstance(token, str) and token.isalnum():
        return token
    return hashlib.sha256(data).hexdigest()


def _described(data: bytes) -> str:
    fields = _fields(data)
    if _holder(data) is None:
        return "a process that its claim does not name"
    return (
        f"process {fields['process']} on {fields['host']}, since {fields.get('since')}"
    )
