# SPDX-License-Identifier: Apache-2.0
"""Small records that steps leave behind when they are done, one JSON file each.

They are at once the restart mechanism (a step whose record is there is skipped), the
progress bar's source, and what the driver adds up at the end.
"""

import hashlib
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.job.checksums import check_file, note_made_again
from pipelines.job.plan import Job
from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import WorkError

Record = dict[str, Any]


def record_path(job: Job, kind: str, index: int) -> str:
    """Returns where the record of step `index` of a kind lies."""
    return job.path(kind, f"{index:05d}.json")


def write_record(job: Job, kind: str, index: int, record: Record) -> None:
    """Publishes a record; the last act of a step. Adds the process's peak memory.

    Raises:
        WorkError: the output is not this job's any more.
    """
    job.check_claim()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux
    write_checked(record_path(job, kind, index), {**record, "peak_memory": peak * 1024})


def write_checked(path: str, record: Record, durable: bool = False) -> None:
    """Publishes JSON behind a line with its SHA-256 in hex; see `atomic_file`."""
    data = strict_json.dumps(record).encode()
    digest = hashlib.sha256(data).hexdigest().encode()
    storage.write_atomically(path, digest + b"\n" + data, durable)


def read_record(job: Job, kind: str, index: int) -> Record | None:
    """Returns the record of a finished step, or None."""
    try:
        return read_checked(record_path(job, kind, index))
    except FileNotFoundError:
        return None


def intact_record(job: Job, kind: str, index: int) -> Record | None:
    """Returns the record of a finished step; None too if it is damaged, saying so."""
    try:
        return read_record(job, kind, index)
    except WorkError as error:
        note_made_again(error)
        return None


def finished(job: Job, kind: str, index: int) -> Record | None:
    """Returns the record of a step that need not be done again, or None.

    The files it left for good are read once more, at the 0.5 to 2 GB/s of SHA-256:
    between two runs anything may have happened to them, a power cut before all: they
    are too large to wait for the disk. A piece that is not as it was written is made
    again, and that is said.

    Raises:
        WorkError: the output is not this job's.
    """
    job.check_claim()
    record = intact_record(job, kind, index)
    try:
        for file in record["files"] if record else ():
            check_file(job.output, file)
    except WorkError as error:
        note_made_again(error)
        return None
    return record


def record_number(name: str) -> int:
    """Returns the number in a record's name, which has five digits or more."""
    return int(name.split(".", 1)[0])


def read_records(job: Job, kind: str) -> list[Record]:
    """Returns all records of a kind, by index."""
    directory = job.path(kind)
    names = [
        name
        for name in storage.list_names(directory)
        if name.endswith(".json") and not name.startswith(".")
    ]
    return [
        read_checked(storage.join(directory, name))
        for name in sorted(names, key=record_number)
    ]


def read_checked(path: str) -> Record:
    """Reads what `write_checked` wrote; raises `FileNotFoundError` where none is.

    Raises:
        WorkError: it is not as it was written.
    """
    digest, _, data = storage.read_bytes(path).partition(b"\n")
    if hashlib.sha256(data).hexdigest().encode() != digest:
        raise WorkError(
            f"wanted {path} as it was written, its checksum differs: the "
            "work directory was damaged. Remove the output and run again"
        )
    return strict_json.loads(data)


class Clock:
    """Adds up the seconds spent in named stages of a step, and its processor time."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.process_time()

    @property
    def cpu_seconds(self) -> float:
        """Processor seconds of this process since the step began."""
        return time.process_time() - self._start

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Counts the block's wall time under `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + passed
