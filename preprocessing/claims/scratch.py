# SPDX-License-Identifier: Apache-2.0
"""Directories for what is only passing through, as a release on its way to a bucket.

Who is killed leaves its own, which may hold gigabytes. Its name says whose it is, so
the next process that wants one removes it.
"""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator

from preprocessing.claims.processes import ProcessId, lives, this_process

# Number of the process, its start, and the machine and namespaces that it is of.
_NAME = re.compile(r"quern-(\d+)-(\d+)-([0-9a-f]{16})-.*")


@contextlib.contextmanager
def scratch_directory() -> Iterator[str]:
    """Gives an empty directory below TMPDIR, which is gone behind the block.

    Those of processes of this machine that live no longer go as well.
    """
    us = this_process()
    place = hashlib.sha256(f"{us.host} {us.kernel}".encode()).hexdigest()[:16]
    _remove_leftovers(us, place)
    prefix = f"quern-{us.process}-{us.start}-{place}-"
    with tempfile.TemporaryDirectory(prefix=prefix) as directory:
        yield directory


def _remove_leftovers(us: ProcessId, place: str) -> None:
    """Removes directories of processes that are known to have ended."""
    root = tempfile.gettempdir()
    for name in os.listdir(root):
        found = _NAME.fullmatch(name)
        if found is None or found[3] != place:
            continue
        other = ProcessId(us.host, us.kernel, int(found[1]), int(found[2]))
        if lives(other) is False:
            # Another user's, or another process removes it as well.
            shutil.rmtree(os.path.join(root, name), ignore_errors=True)
