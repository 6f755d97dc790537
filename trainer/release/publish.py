# SPDX-License-Identifier: Apache-2.0
"""Makes a release visible under its version, whole or not at all.

TensorFlow Serving looks at a model's directory every second and loads each name made of
digits. A release is therefore built under a hidden name beside its versions and renamed
at the end.

An object store renames nothing, and a directory is there with its first file. A release
is built locally and uploaded, its lineage first and `saved_model.pb` last: that file is
what makes it a version to `quern-export`, `promote` and `quern-generate`. A server that
polls a bucket for the latest version may find it before; one that reads `models.config`
loads what labels show, which `promote` refuses until all files are there. What a killed
upload left goes with the next export, under a claim; its number is not used again.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator

from preprocessing.claims.claims import claimed
from preprocessing.claims.scratch import scratch_directory
from preprocessing.contracts import releases
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError, WorkError

_STAGING_NAME = ".unfinished"


def choose_version(output: str, version: int | None) -> int:
    """Returns `version`, or one more than the highest there is.

    Raises:
        UsageError: the version is there already, or is none that a server reads; or
            the highest possible one is there, so that there is no next.
    """
    found, largest = releases.versions(output), releases.LARGEST_VERSION
    after = max([0, *found]) + 1
    chosen = after if version is None else version
    if chosen > largest and version is None:
        raise UsageError(
            f"wanted a version after those in {output}, found {found[largest]} there, "
            "the highest that TensorFlow Serving reads. Name a lower one by --version"
        )
    if not 1 <= chosen <= largest:
        raise UsageError(
            f"wanted --version from 1 to {largest}, found {version}. TensorFlow "
            "Serving takes no other for a version. Change it"
        )
    if chosen in found:
        raise UsageError(
            f"wanted a version that {output} does not have, found {found[chosen]} "
            "there. Leave --version out for the next: releases are never overwritten"
        )
    return chosen


def check_own_versions(output: str) -> None:
    """Raises `UsageError` where a version is none that quern-export wrote."""
    for name in releases.versions(output).values():
        release = storage.join(output, name)
        if not storage.exists(storage.join(release, releases.LINEAGE_NAME)):
            raise UsageError(
                f"wanted versions that quern-export wrote, found {release} without "
                f"{releases.LINEAGE_NAME}, another tool's. Choose another --output"
            )


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
        if storage.is_cloud(output):
            _clear_cut_short(output)
        release = storage.join(output, str(chosen))
        with _staging(output) as staging:
            yield staging, chosen
            claim.check()
            if storage.is_cloud(output):
                releases.copy_tree(staging, release)
            else:
                storage.sync_tree(staging)
                _rename(staging, release)


def _clear_cut_short(output: str) -> None:
    """Removes what killed uploads left; for who holds the claim on the output."""
    for name in releases.versions(output).values():
        release = storage.join(output, name)
        if storage.exists(storage.join(release, releases.SAVED_MODEL_NAME)):
            continue
        if storage.exists(storage.join(release, releases.LINEAGE_NAME)):
            # The lineage last: by it a removal that is cut short is known again.
            for each in sorted(
                releases.file_names(release), key=lambda x: x == releases.LINEAGE_NAME
            ):
                storage.remove_file(storage.join(release, each))


@contextlib.contextmanager
def _staging(output: str) -> Iterator[str]:
    """Gives an empty directory for a release; for who holds the claim on the output."""
    if storage.is_cloud(output):
        with scratch_directory() as staging:
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
