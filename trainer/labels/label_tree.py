# SPDX-License-Identifier: Apache-2.0
"""The tree of served models, changed by one at a time.

    MODELS/
        models.config                       what servers load and what labels show
        batching.config  monitoring.config  a server's further settings
        .labels-claim.json                  while one is at work
        NAME/labels.jsonl                   what labels showed before
        NAME/3/                             a release

Whoever changes labels, or removes versions that labels might show, holds a claim, and
waits for the one who does. `models.config` is read and written back in one put: in a
bucket on the condition that it is still the one that was read, on a disk, which knows
no conditions, after another look.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from preprocessing.claims.claims import Claim, Held, claimed
from preprocessing.foundation import cloud_clients, storage
from preprocessing.foundation.commands import UsageError, WorkError
from trainer.labels.model_config_file import CONFIG_NAME

CLAIM_NAME = ".labels-claim.json"
# A change takes milliseconds on a disk and a second in a bucket.
_WAIT_SECONDS = 120.0
# Each look is a request in a bucket.
_LOOK_SECONDS, _BUCKET_LOOK_SECONDS = 0.05, 0.3
_MOST_TRIES = 20


@dataclass(frozen=True)
class ModelPlace:
    """Where a model lies in its tree.

    Attributes:
        models: the tree, MODELS.
        name: the model's.
    """

    models: str
    name: str

    @property
    def directory(self) -> str:
        """The directory of its versions."""
        return storage.join(self.models, self.name)

    @property
    def config(self) -> str:
        """The path of `models.config`."""
        return storage.join(self.models, CONFIG_NAME)


def place_of(path: str) -> ModelPlace:
    """Returns where the model `MODELS/NAME` lies.

    Raises:
        UsageError: there is no directory, or the path has no NAME.
    """
    whole = path.rstrip("/") if storage.is_cloud(path) else os.path.abspath(path)
    models, _, name = whole.rpartition("/")
    if not name or models.endswith(":/"):
        raise UsageError(
            f"wanted a model's directory MODELS/NAME, found {path}. Name the model"
        )
    if not storage.is_dir(whole):
        raise UsageError(
            f"wanted a model's directory at {path}, found none. Check the path"
        )
    return ModelPlace(models or "/", name)


def read_config(models: str) -> str:
    """Returns the text of a tree's `models.config`, empty where there is none.

    Raises:
        UsageError: it is no text.
    """
    return _read(storage.join(models, CONFIG_NAME))[0]


@contextlib.contextmanager
def one_at_a_time(models: str) -> Iterator[Claim]:
    """Holds the claim on a tree's labels; waits while another process does.

    Raises:
        Held: another one held it all the time.
        UsageError: nothing can be written there.
    """
    until = time.monotonic() + _WAIT_SECONDS
    with contextlib.ExitStack() as stack:
        while True:
            try:
                what = f"the labels of {models}"
                claim = stack.enter_context(claimed(models, what, CLAIM_NAME))
                break
            except Held:
                if time.monotonic() > until:
                    raise
            time.sleep(
                _BUCKET_LOOK_SECONDS if storage.is_cloud(models) else _LOOK_SECONDS
            )
        yield claim


def rewrite(models: str, claim: Claim, change: Callable[[str], str | None]) -> None:
    """Changes `models.config` in one put.

    Args:
        models: the tree.
        claim: held on it.
        change: returns the new text for the one that is there, None to leave it; is
            called again where another program has written meanwhile.

    Raises:
        WorkError: another program writes all the time, or the claim is lost.
    """
    path = storage.join(models, CONFIG_NAME)
    for _ in range(_MOST_TRIES):
        text, version = _read(path)
        new = change(text)
        if new is None:
            return
        claim.check()
        if _put(path, new.encode(), version):
            return
    raise WorkError(
        f"wanted to write {path}, found it changed by another program "
        f"{_MOST_TRIES} times. See what writes there, and try again"
    )


def write_once(path: str, data: bytes) -> None:
    """Writes a file where none is; for who holds the claim."""
    if not storage.exists(path):
        _put(path, data, None)


def _read(path: str) -> tuple[str, bytes | str | None]:
    """Returns a text, and what is known it by: in a bucket its version."""
    version: bytes | str | None
    if storage.is_cloud(path):
        found = cloud_clients.read_version(path)
        data, version = (b"", None) if found is None else found
    else:
        try:
            data = version = storage.read_bytes(path)
        except FileNotFoundError:
            data, version = b"", None
    try:
        return data.decode(), version
    except UnicodeDecodeError:
        raise UsageError(
            f"wanted text in {path}, found bytes that are not. Correct it, or move it "
            "away"
        ) from None


def _put(path: str, data: bytes, version: bytes | str | None) -> bool:
    """Writes a file unless it is another than the one that was read."""
    if storage.is_cloud(path):
        expected = None if version is None else str(version)
        return cloud_clients.write_version(path, data, expected) is not None
    if _read(path)[1] != version:
        return False
    storage.write_atomically(path, data, durable=True)
    return True
