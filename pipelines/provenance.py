# SPDX-License-Identifier: Apache-2.0
"""Provenance tables: which document, and which part of it, each segment of a row is.

`provenance-{split}-{i:05d}-of-{n:05d}.parquet` has a line per segment, in file order:
row (in the split), segment, document (key in hex), path, offset, start.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.blobs import from_bytes
from pipelines.pack_shard import provenance_work_path
from pipelines.plan import Job
from pipelines.steps import read_record, write_record
from preprocessing import storage

KIND = "provenance-records"
_HEX = np.array([f"{byte:02x}".encode() for byte in range(256)])


def provenance_name(split: str, index: int, count: int) -> str:
    """Returns the name of one shard's provenance."""
    return f"provenance-{split}-{index:05d}-of-{count:05d}.parquet"


def write_provenance(job: Job, index: int, first_rows: Mapping[str, int]) -> None:
    """Publishes the tables of one shard's rows, numbered within their splits.

    Args:
        job: the job.
        index: the shard.
        first_rows: the split's row that is the shard's first, for each split.
    """
    if read_record(job, KIND, index) is not None:
        return
    for split, first in first_rows.items():
        name = provenance_name(split, index, job.shards)
        table = _table(job, split, index, first)
        with storage.atomic_file(storage.join(job.output, name)) as file:
            # Keys are unique: a dictionary of them would only cost time.
            pq.write_table(
                table, file, compression="zstd", use_dictionary=["path", "segment"]
            )
    write_record(job, KIND, index, {})


def _table(job: Job, split: str, index: int, first: int) -> pa.Table:
    blob = from_bytes(storage.read_bytes(provenance_work_path(job, split, index)))
    paths = pa.DictionaryArray.from_arrays(
        pa.array(blob["files"]), pa.array(job.plan().files, pa.string())
    )
    return pa.table(
        {
            "row": blob["row"] + first,
            "segment": blob["segment"],
            "document": _hex(blob["keys"]),
            "path": paths.cast(pa.string()),
            "offset": blob["offsets"],
            "start": blob["start"],
        }
    )


def _hex(keys: np.ndarray) -> pa.StringArray:
    """Returns keys [n, 16] as 32 hexadecimal digits each."""
    digits = _HEX[keys].view(np.uint8)
    offsets = np.arange(len(keys) + 1, dtype=np.int32) * 32
    return pa.StringArray.from_buffers(
        len(keys), pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(digits))
    )
