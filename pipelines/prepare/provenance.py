# SPDX-License-Identifier: Apache-2.0
"""Provenance tables: which document, and which part of it, each segment of a row is.

`provenance-{split}-{i:05d}-of-{n:05d}.parquet` has a line per segment, in file order:
row (in the split), segment, document (key in hex), path, offset, start.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.job.blobs import Arrays, read_blob
from pipelines.job.checksums import FileSum, SummedFile, summed_file
from pipelines.job.plan import Job
from pipelines.job.steps import finished, write_record
from pipelines.prepare import pack_shard
from preprocessing.contracts.dataset_files import PROVENANCE
from preprocessing.foundation.string_buffers import array_of

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
    if finished(job, KIND, index) is not None:
        return
    files: list[FileSum] = []
    packed = pack_shard.packed_record(job, index)
    for split, first in first_rows.items():
        name = provenance_name(split, index, job.shards)
        with (
            summed_file(job.output, name) as file,
            table_writer(file) as writer,
        ):
            for part in range(packed["parts"]):
                path = pack_shard.provenance_work_path(job, split, index, part)
                blob = read_blob(path)
                blob["row"] = blob["row"] + first
                writer.write_table(table_of(job, blob))
        files.append(file.sum(name))
    write_record(job, KIND, index, {"files": files})


def table_writer(file: SummedFile) -> pq.ParquetWriter:
    """Returns what writes tables of `table_of` to a file."""
    # Keys are unique: a dictionary of them would only cost time.
    return pq.ParquetWriter(
        file, PROVENANCE, compression="zstd", use_dictionary=["path", "segment"]
    )


def table_of(job: Job, segments: Arrays) -> pa.Table:
    """Returns the lines of some segments, as `pack_shard` keeps them."""
    paths = pa.DictionaryArray.from_arrays(
        pa.array(segments["files"]), pa.array(job.plan().files, pa.string())
    )
    columns = {
        "row": segments["row"],
        "segment": segments["segment"],
        "document": _hex(segments["keys"]),
        "path": paths.cast(pa.string()),
        "offset": segments["offsets"],
        "start": segments["start"],
    }
    return pa.table(columns, schema=PROVENANCE)


def _hex(keys: np.ndarray) -> pa.StringArray:
    """Returns keys [n, 16] as 32 hexadecimal digits each."""
    digits = _HEX[keys].view(np.uint8)
    offsets = np.arange(len(keys) + 1, dtype=np.int32) * 32
    return array_of(np.ascontiguousarray(digits), offsets, pa.string())
