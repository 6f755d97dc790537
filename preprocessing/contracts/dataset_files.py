# SPDX-License-Identifier: Apache-2.0
"""Reads the files of a finished dataset, and names the one that cannot be read."""

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from preprocessing.contracts.manifest import Shard
from preprocessing.foundation import storage
from preprocessing.foundation.commands import WorkError

# A line for each segment of a row, in file order.
PROVENANCE = pa.schema(
    [
        ("row", pa.int64()),
        ("segment", pa.int32()),
        ("document", pa.string()),
        ("path", pa.string()),
        ("offset", pa.int64()),
        ("start", pa.int64()),
    ]
)

# A line for each input file, in the order of the manifest's sources. `reason` is null
# where all of a file was read.
INPUTS = pa.schema(
    [
        ("path", pa.string()),
        ("bytes", pa.int64()),
        ("bytes_read", pa.int64()),
        ("documents", pa.int64()),
        ("reason", pa.string()),
    ]
)
INPUTS_NAME = "inputs.parquet"


def read_file(dataset: str, name: str) -> bytes:
    """Returns a file's bytes.

    Raises:
        WorkError: there is none.
    """
    try:
        return storage.read_bytes(storage.join(dataset, name))
    except FileNotFoundError:
        raise fault(f"{name} in {dataset}", "no such file") from None


def provenance_of(shard: Shard) -> str:
    """Returns the name of a shard's provenance."""
    return f"provenance-{shard.name.removesuffix('.tfrecord')}.parquet"


def read_provenance(
    dataset: str, shard: Shard, columns: Sequence[str] | None = None
) -> pa.Table:
    """Returns a shard's provenance, all of it or some columns.

    Raises:
        WorkError: the file is missing or damaged.
    """
    name = provenance_of(shard)
    return parse_provenance(read_file(dataset, name), name, columns)


def parse_provenance(
    data: bytes, name: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """Returns the table in the bytes of a provenance file; `name` is for errors.

    Raises:
        WorkError: they are damaged.
    """
    names = PROVENANCE.names if columns is None else list(columns)
    return _parse(data, name, pa.schema([PROVENANCE.field(each) for each in names]))


def parse_inputs(data: bytes) -> pa.Table:
    """Returns the table in the bytes of `inputs.parquet`.

    Raises:
        WorkError: they are damaged.
    """
    return _parse(data, INPUTS_NAME, INPUTS)


def _parse(data: bytes, name: str, schema: pa.Schema) -> pa.Table:
    try:
        table = pq.read_table(io.BytesIO(data), columns=schema.names)
        table.validate(full=True)
        return table.cast(schema)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise fault(f"a whole {name}", f"a damaged one: {reason}") from None


def fault(wanted: str, found: str) -> WorkError:
    """Returns the error for a dataset that is not as it was written."""
    return WorkError(
        f"wanted {wanted}, found {found}. Copy the dataset again, or prepare it again"
    )
