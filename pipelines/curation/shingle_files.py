# SPDX-License-Identifier: Apache-2.0
"""Documents' sets of shingles, kept in the work directory until pairs are compared.

Only a job that checks the exact similarity of near duplicates writes them: 8 bytes for
each distinct shingle, about as many bytes again as text. They are read only for pairs
that met in a band.
"""

from itertools import pairwise

import google_crc32c
import numpy as np
import pyarrow as pa

from pipelines.job.blobs import Arrays
from pipelines.job.columns import SHINGLES, names
from pipelines.job.plan import Job
from preprocessing.foundation import storage
from preprocessing.foundation.commands import WorkError

_NAMES = names(SHINGLES)


def keep_shingles(
    job: Job, task: int, batch: int, texts: pa.LargeStringArray
) -> Arrays:
    """Writes a batch's shingles to a file of their own.

    Args:
        job: the job.
        task: the task's number.
        batch: which batch of the task it is; the file is named after both.
        texts: [n].

    Returns:
        `SHINGLES`, which travel with the documents' fingerprints.
    """
    # Imported here: a compiler comes with it.
    from preprocessing.duplicates.minhash import shingle_hashes

    found = shingle_hashes(texts, job.config.near)
    counts = np.array([len(shingles) for shingles in found], np.int64)
    checksums = np.zeros(len(found), np.int64)
    with storage.atomic_file(_path(job, task, batch)) as file:
        for at, shingles in enumerate(found):
            data = np.ascontiguousarray(shingles, "<u8").tobytes()
            checksums[at] = google_crc32c.value(data)
            file.write(data)
    columns = (
        np.full(len(found), task, np.int64),
        np.full(len(found), batch, np.int64),
        np.cumsum(counts) - counts,
        counts,
        checksums,
    )
    return dict(zip(_NAMES, columns, strict=True))


def similarities(job: Job, rows: Arrays, others: Arrays) -> np.ndarray:
    """Returns the exact Jaccard similarity of each row to its other, float64 [n].

    Both hold `SHINGLES`. Two sets are held at a time; pairs that share their other
    should lie together, since its set is read once for them. A read costs some 20
    microseconds on a disk; some 90 milliseconds in a bucket, where the check is dear.

    Raises:
        WorkError: a file of sets is gone or not as it was written.
    """
    from preprocessing.duplicates.minhash import jaccard

    count = len(rows["shingle_task"])
    places = np.stack([others[name] for name in _NAMES], axis=1)
    changes = np.flatnonzero((places[1:] != places[:-1]).any(axis=1)) + 1
    found = np.zeros(count)
    for start, end in pairwise([0, *changes.tolist(), count]):
        if end > start:
            other = _read(job, others, start)
            for at in range(start, end):
                found[at] = jaccard(_read(job, rows, at), other)
    return found


def _read(job: Job, rows: Arrays, at: int) -> np.ndarray:
    task, batch, start, count, checksum = (int(rows[name][at]) for name in _NAMES)
    path = _path(job, task, batch)
    try:
        words = storage.read_range(path, 8 * start, 8 * (start + count))
    except FileNotFoundError:
        words = b""
    if len(words) != 8 * count or google_crc32c.value(words) != checksum:
        raise WorkError(
            f"wanted {count} shingles from number {start} on in {path} as they were "
            "written, they are gone or their checksum differs: the work directory was "
            "damaged. Remove the output and run again"
        )
    return np.frombuffer(words, "<u8")


def _path(job: Job, task: int, batch: int) -> str:
    return job.path("shuffle", f"shingles-{task:05d}-{batch:05d}")
