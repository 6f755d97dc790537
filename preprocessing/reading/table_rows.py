# SPDX-License-Identifier: Apache-2.0
"""Documents out of a record batch: its columns, checked row by row."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from preprocessing.reading.documents import Documents, Trouble, documents_of
from preprocessing.reading.extents import Extent, ReaderConfig
from preprocessing.reading.foreign_bytes import listed, shortened

# Reason and detail by a row's place in its batch.
_Faults = dict[int, tuple[str, str]]


def rows_of_batch(
    batch: pa.RecordBatch,
    row: int,
    extent: Extent,
    reader: ReaderConfig,
    columns: Sequence[str],
) -> Documents:
    """Turns a record batch whose first row is `row` into documents and rejects.

    Args:
        batch: rows with the columns that are wanted.
        row: the first one's number.
        extent: what is read.
        reader: how.
        columns: the names of all columns that the file has.
    """
    offsets = np.arange(row, row + batch.num_rows)
    faults: _Faults = {}
    texts = _text_column(batch, reader.text_field, faults, reader, columns)
    targets = None
    if reader.target_field:
        targets = _text_column(batch, reader.target_field, faults, reader, columns)
    names = _ids(batch, reader.id_field, faults)
    urls = _string_column(batch, reader.url_field)
    troubles = [
        Trouble(row + at, *faults[at], id=None if names is None else names[at].as_py())
        for at in sorted(faults)
    ]
    if faults:  # as a rule all are kept, and a text may be huge
        keep = np.ones(batch.num_rows, bool)
        keep[list(faults)] = False
        mask, offsets = pa.array(keep), offsets[keep]
        texts, names, urls, targets = (
            column if column is None else column.filter(mask)
            for column in (texts, names, urls, targets)
        )
    return documents_of(
        extent,
        texts,
        offsets,
        names,
        None if urls is None else _without_bad(urls),
        targets,
        troubles,
    )


def _text_column(
    batch: pa.RecordBatch,
    name: str,
    faults: _Faults,
    reader: ReaderConfig,
    columns: Sequence[str],
) -> pa.LargeStringArray:
    """Returns a column of texts; `faults` gets the rows that have none, and why."""
    texts = _string_column(batch, name)
    if texts is None:
        fault = "missing_field", f"no column {name}, the file has {listed(columns)}"
        if name in batch.schema.names:
            fault = "wrong_type", f"{_called(batch, name)}, wanted one of strings"
        faults.update(dict.fromkeys(range(batch.num_rows), fault))
        return pa.nulls(batch.num_rows, pa.large_string())
    sizes = pc.fill_null(pc.binary_length(texts), 0).to_numpy()
    no_utf8 = "invalid_utf8", f"column {name} holds bytes that are not UTF-8"
    faults.update(dict.fromkeys(_not_utf8(texts).tolist(), no_utf8))
    most = reader.max_document_bytes
    for at in np.flatnonzero(sizes > most).tolist():
        faults[at] = "too_large", f"column {name}: {sizes[at]} bytes, limit {most}"
    null = np.flatnonzero(texts.is_null().to_numpy(zero_copy_only=False)).tolist()
    faults.update(dict.fromkeys(null, ("missing_field", f"column {name} is null")))
    return texts


def _ids(
    batch: pa.RecordBatch, name: str, faults: _Faults
) -> pa.LargeStringArray | None:
    """Returns the ids; `faults` gets rows, all perhaps, whose id cannot be read."""
    ids = _id_column(batch, name)
    if ids is not None:
        bad = "invalid_utf8", f"column {name}, the id's, holds bytes that are not UTF-8"
        for at in _not_utf8(ids).tolist():
            faults.setdefault(at, bad)
        return _without_bad(ids)
    if name in batch.schema.names:
        what = f"{_called(batch, name)}, wanted ids (strings or numbers)"
        for at in range(batch.num_rows):
            faults.setdefault(at, ("wrong_type", f"{what}; --id_field names others"))
    return None


def _called(batch: pa.RecordBatch, name: str) -> str:
    """Says what a column that cannot be used is."""
    count = batch.schema.names.count(name)
    if count > 1:
        return f"{count} columns are called {name}"
    return f"column {name} is of type {shortened(str(batch.schema.field(name).type))}"


def _string_column(batch: pa.RecordBatch, name: str) -> pa.LargeStringArray | None:
    """Returns a column of strings, or None where not just one has that name."""
    if batch.schema.names.count(name) != 1:
        return None
    column = batch.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_null(column.type) or _is_string(column.type):
        return column.cast(pa.large_string(), safe=False)
    return None


def _id_column(batch: pa.RecordBatch, name: str) -> pa.LargeStringArray | None:
    """Returns a column of ids spelled out, or None where it cannot name anything."""
    column = _string_column(batch, name)
    if column is not None or batch.schema.names.count(name) != 1:
        return column
    column = batch.column(name)
    kind = column.type
    spelled = (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_temporal(kind)
    )
    return column.cast(pa.large_string()) if spelled else None


def _is_string(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
    )


def _not_utf8(texts: pa.LargeStringArray) -> np.ndarray:
    """Returns the places of texts that are not UTF-8, int64 [at most n]."""
    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        values = texts.cast(pa.large_binary()).to_pylist()
        return np.flatnonzero([not _decodes(value or b"") for value in values])
    return np.zeros(0, np.int64)


def _without_bad(texts: pa.LargeStringArray) -> pa.LargeStringArray | None:
    """Returns the strings with null for those that are not UTF-8; None if all null.

    For columns that a document can do without.
    """
    places = _not_utf8(texts)
    if len(places):
        bad = np.zeros(len(texts), bool)
        bad[places] = True
        null = pa.scalar(None, pa.large_string())
        texts = pa.compute.if_else(pa.array(bad), null, texts)
    return None if texts.null_count == len(texts) else texts


def _decodes(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
