# SPDX-License-Identifier: Apache-2.0
"""The rows by which near duplicates meet: one for each document and band."""

from collections.abc import Iterator

import numpy as np

from pipelines.job.blobs import Arrays
from pipelines.job.buckets import by_bucket
from pipelines.job.columns import BAND, row_bytes
from pipelines.job.plan import Job
from pipelines.job.shuffle import send

# 14 rows of 54 bytes for a document whose own row has 276: so a part's documents are
# taken some thousands at a time.
_CHUNK_BYTES = 16 << 20


def send_bands(job: Job, name: str, documents: Arrays) -> list[tuple[int, bytes]]:
    """Returns the elements that carry documents to the buckets of their bands.

    Args:
        job: the job.
        name: of the files in the work directory, as for `send`.
        documents: rows with `bands`, uint8 [n, bands x 16]: the digest of each band.
            All other columns but `hashes` go with every band.
    """
    elements: list[tuple[int, bytes]] = []
    for number, rows in enumerate(_chunks(job, documents)):
        blobs = by_bucket(job, rows, "hashes")
        elements += send(job.transport, job.work, f"{name}-{number:05d}", blobs)
    return elements


def _chunks(job: Job, documents: Arrays) -> Iterator[Arrays]:
    """Yields rows with `hashes` [m, 16], a band's digest, and `band`, its number."""
    bands = job.config.near.bands
    columns = {
        name: column
        for name, column in documents.items()
        if name not in ("hashes", "bands")
    }
    step = max(1, _CHUNK_BYTES // (bands * (row_bytes(columns) + BAND.itemsize)))
    for start in range(0, len(documents["bands"]), step):
        chunk = slice(start, start + step)
        digests = documents["bands"][chunk].reshape(-1, 16)
        rows = {
            name: np.repeat(column[chunk], bands, axis=0)
            for name, column in columns.items()
        }
        rows["hashes"] = digests
        rows["band"] = np.tile(
            np.arange(bands, dtype=BAND["band"]), len(digests) // bands
        )
        yield rows
