# SPDX-License-Identifier: Apache-2.0
"""Imports apache_beam without its warnings, and without what a local job never uses.

Beam loads the SDKs of three clouds and a database at import: 0.8 of its 2.2 CPU
seconds, in every process of a job that may last ten.
"""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_OPTIONAL = (
    "azure",
    "boto3",
    "google.auth",
    "google.cloud",
    "google.cloud.storage",
    "pymongo",
)


def import_beam_without_clouds() -> None:
    """Imports Beam for a job on this machine; its own cloud file systems stay out.

    This project reads and writes clouds through cloudpathlib, which imports the same
    SDKs itself when a path asks for them, so the names are free again afterwards.
    """
    blocked = [name for name in _OPTIONAL if name not in sys.modules]
    for name in blocked:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        with quiet_import():
            import apache_beam
            import apache_beam.runners.worker.sdk_worker_main  # noqa: F401
    finally:
        for name in blocked:
            sys.modules.pop(name, None)


@contextmanager
def quiet_import() -> Iterator[None]:
    """Keeps import-time warnings (old Pythons, missing options) off the terminal."""
    with logging_off(logging.WARNING), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def logging_off(level: int) -> Iterator[None]:
    """Drops what is logged at `level` and below; afterwards all is as it was before."""
    # Python tells nobody what `logging.disable` was last called with.
    before = logging.root.manager.disable
    logging.disable(level)
    try:
        yield
    finally:
        logging.disable(before)
