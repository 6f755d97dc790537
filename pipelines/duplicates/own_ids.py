# SPDX-License-Identifier: Apache-2.0
"""The own ids of documents that near duplicates are looked for among.

They travel with fingerprints as far as exact duplicates go. Behind that a document has
a row for each of its bands, so its id waits in a file instead, for the one step that
rejects near duplicates: it goes through all of these files once.
"""

import numpy as np

from pipelines.job.blobs import Arrays, read_blob, write_blob
from pipelines.job.plan import Job
from preprocessing.foundation import storage

DIRECTORY = "own_ids"
_COLUMNS = ("keys", "own_ids")


def keep_ids(job: Job, name: str, rows: Arrays) -> Arrays:
    """Writes the ids of rows that have one, and returns the rows without them."""
    there = rows["own_ids"] != b""
    if there.any():
        kept = {column: rows[column][there] for column in _COLUMNS}
        write_blob(job.path(DIRECTORY, name), kept)
    return {name: column for name, column in rows.items() if name != "own_ids"}


def find_ids(job: Job, keys: np.ndarray) -> list[str | None]:
    """Returns the ids of documents by their keys, uint8 [n, 16].

    Holds one file at a time, of a bucket's documents at most.

    Raises:
        WorkError: a file of ids is not as it was written.
    """
    found: list[str | None] = [None] * len(keys)
    if not len(keys):
        return found
    wanted = _comparable(keys)
    order = np.argsort(wanted)
    wanted = wanted[order]
    names = storage.list_names(job.path(DIRECTORY))
    for name in (name for name in names if not name.startswith(".")):
        rows = read_blob(job.path(DIRECTORY, name))
        own = _comparable(rows["keys"])
        at = np.minimum(np.searchsorted(wanted, own), len(wanted) - 1)
        for row in np.flatnonzero(wanted[at] == own).tolist():
            found[order[at[row]]] = rows["own_ids"][row].decode()
    return found


def _comparable(keys: np.ndarray) -> np.ndarray:
    """Returns keys as values that sort; of one length, they keep what tells them."""
    return np.ascontiguousarray(keys).view("S16")[:, 0]
