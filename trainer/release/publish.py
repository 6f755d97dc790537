# SPDX-License-Identifier: Apache-2.0
"""Makes a release visible under its version, whole or not at all.

TensorFlow Serving looks at a model's directory every second and loads each name made of
digits. A release is therefore built under a hidden name beside its versions and renamed
at the end; on an object store it is built locally and uploaded, `saved_model.pb` last.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator

from preprocessing.contracts import releases
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError, WorkError

_LOCK_NAME = ".lock"
_STAGING_NAME = ".unfinished"


def choose_version(output: str, version: int | None) -> int:
    """Returns `version`, or one more than the highest there is.

    Raises:
        UsageError: the version is there already, or is not a positive number.
    """
    found = releases.versions(output)
    if version is None:
        return found[-1] + 1 if found else 1
    if version < 1:
        raise UsageError(f"wanted --version of 1 or more, found {version}")
    if version in found:
        raise UsageError(
            f"wanted a version that {output} does not have, found {version} there. "
            f"Leave --version out for {found[-1] + 1}: releases are never overwritten"
        )
    return version


@contextlib.contextmanager
def staged(output: str, version: int | None) -> Iterator[tuple[str, int]]:
    """Gives (an empty directory, the version); publishes it when the block succeeds.

    Raises:
        UsageError: `output` cannot be written, has the version already, or is being
            written by another export.
        WorkError: the version appeared, or could not be published, meanwhile.
    """
    if storage.is_cloud(output):
        with tempfile.TemporaryDirectory(prefix="quern-") as staging:
            chosen = choose_version(output, version)
            yield staging, chosen
            releases.copy_tree(staging, storage.join(output, str(chosen)))
        return
    with _locked(output):
        chosen = choose_version(output, version)
        staging = os.path.join(output, _STAGING_NAME)
        # Whoever left it is gone: the lock is ours.
        shutil.rmtree(staging, ignore_errors=True)
        os.mkdir(staging)
        try:
            yield staging, chosen
            _rename(staging, os.path.join(output, str(chosen)))
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextlib.contextmanager
def _locked(output: str) -> Iterator[None]:
    """Keeps other exports out of a local directory; the system frees it with us."""
    try:
        os.makedirs(output, exist_ok=True)
        lock = open(os.path.join(output, _LOCK_NAME), "a")  # noqa: SIM115
    except OSError as error:
        raise UsageError(
            f"wanted to write a release under {output}, found: {error.strerror}. "
            "Choose another --output"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"wanted {output} to ourselves, found another export writing there. "
                "Wait for it to end"
            ) from None
        yield


def _rename(staging: str, release: str) -> None:
    try:
        os.rename(staging, release)
    except OSError as error:
        raise WorkError(
            f"wanted to publish {release}, found: {error.strerror}. Export again"
        ) from error
