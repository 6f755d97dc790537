# SPDX-License-Identifier: Apache-2.0
"""Measures a release before it is published: started apart, figures read back."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from preprocessing.claims.scratch import scratch_directory
from preprocessing.contracts import releases
from preprocessing.foundation import storage, strict_json
from trainer.batch_export.figures import ReleaseFigures
from trainer.release.check_apart import run_apart

_PROCESS = "trainer.batch_export.release_process"


def measure_release(
    directory: str, dataset: str, split: str, trainer_bits: float | None
) -> ReleaseFigures:
    """Measures an unpublished release in a process of its own.

    A process's high-water mark is one release's where it loads no other.

    Args:
        directory: of the release, local.
        dataset: encoded with its tokenizer, local or cloud.
        split: of the dataset.
        trainer_bits: bits per byte that the trainer finds of the split.

    Raises:
        UsageError: the dataset is none that the release can read.
        WorkError: the release does not load or answer, or the dataset is damaged.
    """
    printed = run_apart(_PROCESS, directory, dataset, split)
    measured = strict_json.loads(printed.splitlines()[-1])
    return ReleaseFigures(
        size=release_size(directory), trainer_bits_per_byte=trainer_bits, **measured
    )


def release_size(directory: str) -> int:
    """Returns the bytes of all files of a local release, but for what is judged."""
    paths = set(Path(directory).rglob("*")) - {Path(directory, releases.FIGURES_NAME)}
    return sum(path.stat().st_size for path in paths if path.is_file())


@contextlib.contextmanager
def local_release(release: str) -> Iterator[str]:
    """Gives a release's directory; of one in a bucket, a copy."""
    if not storage.is_cloud(release):
        yield release
        return
    with scratch_directory() as copy:
        releases.copy_tree(release, copy)
        yield copy
