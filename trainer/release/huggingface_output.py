# SPDX-License-Identifier: Apache-2.0
"""Makes a directory in Hugging Face's form visible, whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator

from preprocessing.claims.claims import claimed
from preprocessing.claims.scratch import scratch_directory
from preprocessing.contracts import releases
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError, WorkError

# Without it nothing reads the other files.
_LAST_NAME = "config.json"


def check_new(output: str) -> None:
    """Raises `UsageError` where there is something at `output` already."""
    if storage.exists(output) and (
        not storage.is_dir(output) or storage.list_names(output)
    ):
        raise UsageError(
            f"wanted nothing at --output {output} yet, found it there. Name another: "
            "exports are never overwritten"
        )


@contextlib.contextmanager
def staged_directory(output: str) -> Iterator[str]:
    """Gives an empty local directory, which becomes `output` when the block succeeds.

    In a bucket its files are uploaded then, `config.json` last: without it nothing
    reads the others.

    Raises:
        UsageError: something is there, or another export writes there.
        WorkError: it could not be published.
    """
    output = output.rstrip("/")
    parent, name = os.path.split(output)
    with claimed(parent or ".", f"--output {output}", name=f".{name}.claim") as claim:
        check_new(output)
        with _staging(output) as staging:
            yield staging
            claim.check()
            try:
                _publish(staging, output)
            except OSError as error:
                raise WorkError(
                    f"wanted to publish {output}, found: {error}. Export again"
                ) from error


@contextlib.contextmanager
def _staging(output: str) -> Iterator[str]:
    """Gives an empty local directory; for who holds the claim on the output."""
    if storage.is_cloud(output):
        with scratch_directory() as staging:
            yield staging
        return
    parent, name = os.path.split(output)
    staging = os.path.join(parent or ".", f".{name}.unfinished")
    # Whoever left it is gone: the claim is ours.
    shutil.rmtree(staging, ignore_errors=True)
    os.mkdir(staging)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _publish(staging: str, output: str) -> None:
    if storage.is_cloud(output):
        releases.copy_tree(staging, output, last=_LAST_NAME)
        return
    storage.sync_tree(staging)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(output)  # an empty one
    os.rename(staging, output)
    storage.sync_directory(os.path.dirname(output))
