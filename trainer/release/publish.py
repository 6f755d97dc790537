# SPDX-License-Identifier: Apache-2.0
"""Makes a release visible under its version, whole or not at all.

TensorFlow Serving looks at a model's directory every second and loads each name made of
digits. A release is therefore built under a hidden name beside its versions and renamed
at the end; on an object store it is built locally and uploaded, `saved_model.pb` last.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator

from preprocessing.claims.claims import claimed
from preprocessing.contracts import releases
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError, WorkError

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
    with claimed(output, f"--output {output}") as claim:
        chosen = choose_version(output, version)
        release = storage.join(output, str(chosen))
        with _staging(output) as staging:
            yield staging, chosen
            claim.check()
            if storage.is_cloud(output):
                releases.copy_tree(staging, release)
            else:
                storage.sync_tree(staging)
                _rename(staging, release)


@contextlib.contextmanager
def _staging(output: str) -> Iterator[str]:
    """Gives an empty directory for a release; for who holds the claim on the output."""
    if storage.is_cloud(output):
        with tempfile.TemporaryDirectory(prefix="quern-") as staging:
            yield staging
        return
    staging = os.path.join(output, _STAGING_NAME)
    # Whoever left it is gone: the claim is ours.
    shutil.rmtree(staging, ignore_errors=True)
    os.mkdir(staging)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _rename(staging: str, release: str) -> None:
    try:
        os.rename(staging, release)
        storage.sync_directory(os.path.dirname(release))
    except OSError as error:
        raise WorkError(
            f"wanted to publish {release}, found: {error.strerror}. Export again"
        ) from error
