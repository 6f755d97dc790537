# SPDX-License-Identifier: Apache-2.0
"""Provenance tables: which document, and which part of it, each segment of a row is.

`provenance-{split}-{i:05d}-of-{n:05d}.parquet` has a line per segment, in file order:
row (in the split), segment, document (key in hex), path, offset, start.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import pack_shard
from pipelines.blobs import from_bytes
from pipelines.plan import Job
from pipelines.steps import read_record, write_record
from preprocessing import storage
from preprocessing.commands import WorkError

KIND = "provenance-records"
_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("segment", pa.int32()),
        ("document", pa.string()),
        ("path", pa.string()),
        ("offset", pa.int64()),
        ("start", pa.int64()),
    ]
)
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
    packed = read_record(job, pack_shard.KIND, index)
    if packed is None:
        raise WorkError(
            f"wanted the record of shard {index}, found none: the work directory was "
            "damaged. Remove the output and run again"
        )
    for split, first in first_rows.items():
        name = provenance_name(split, index, job.shards)
        with (
            storage.atomic_file(storage.join(job.output, name)) as file,
            # Keys are unique: a dictionary of them would only cost time.
            pq.ParquetWriter(
                file, _SCHEMA, compression="zstd", use_dictionary=["path", "segment"]
            ) as writer,
        ):
            for part in range(packed["parts"]):
                writer.write_table(_table(job, split, index, part, first))
    write_record(job, KIND, index, {})


def _table(job: Job, split: str, index: int, part: int, first: int) -> pa.Table:
    path = pack_shard.provenance_work_path(job, split, index, part)
    blob = from_bytes(storage.read_bytes(path))
    paths = pa.DictionaryArray.from_arrays(
        pa.array(blob["files"]), pa.array(job.plan().files, pa.string())
    )
    columns = {
        "row": blob["row"] + first,
        "segment": blob["segment"],
        "document": _hex(blob["keys"]),
        "path": paths.cast(pa.string()),
        "offset": blob["offsets"],
        "start": blob["start"],
    }
    return pa.table(columns, schema=_SCHEMA)


def _hex(keys: np.ndarray) -> pa.StringArray:
    """Returns keys [n, 16] as 32 hexadecimal digits each."""
    digits = _HEX[keys].view(np.uint8)
    offsets = np.arange(len(keys) + 1, dtype=np.int32) * 32
    return pa.StringArray.from_buffers(
        len(keys), pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(digits))
    )
