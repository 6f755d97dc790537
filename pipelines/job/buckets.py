# SPDX-License-Identifier: Apache-2.0
"""Rows on their way to the bucket of one of their hashes, as blobs of 4 MB."""

import numpy as np

from pipelines.job.blobs import Arrays, take, to_bytes
from pipelines.job.columns import row_bytes
from pipelines.job.plan import Job
from pipelines.job.shuffle import runs


def by_bucket(job: Job, rows: Arrays, column: str) -> list[tuple[int, bytes]]:
    """Returns blobs of rows by the bucket of their hashes in `column`, uint8 [n, 16].

    Rows of a bucket keep their order.
    """
    return by_key(job, rows, job.buckets(rows[column]))


def by_key(job: Job, rows: Arrays, keys: np.ndarray) -> list[tuple[int, bytes]]:
    """Returns blobs of rows, each row under its key, int64 [n]; their order stays."""
    order = np.argsort(keys, kind="stable")
    rows = take(rows, order)
    sizes = np.full(len(order), row_bytes(rows), np.int64)
    return [
        (key, to_bytes({name: column[at] for name, column in rows.items()}))
        for key, at in runs(keys[order], sizes, job.limits.blob_bytes)
    ]
