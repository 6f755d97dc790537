# SPDX-License-Identifier: Apache-2.0
"""Documents that a user's own function finds in a file.

    def notes(file: BinaryIO) -> Iterator[dict]:
        for line in file:
            yield {"text": line.decode(), "url": "https://example.com/notes"}

`--format my_package.module:notes` reads every file whole through it. It yields dicts
with the text, and where there are some the id, the URL and the target, all strings,
under the names that the reader flags give them ("text", "id", "url"); other keys are
ignored. A file named .gz or .zst arrives decompressed and cannot seek.
"""

from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any, BinaryIO

from preprocessing.foundation.commands import WorkError
from preprocessing.foundation.read_sizes import ReadSizes
from preprocessing.foundation.user_code import load
from preprocessing.reading.documents import Documents, Gathered
from preprocessing.reading.extents import Extent, ReaderConfig
from preprocessing.reading.foreign_bytes import is_unicode
from preprocessing.reading.streams import damage_of, uncompressed


def read_with_function(
    file: BinaryIO, extent: Extent, reader: ReaderConfig, sizes: ReadSizes
) -> Iterator[Documents]:
    """Yields what the function that `extent.format` names finds; an offset counts them.

    Raises:
        WorkError: the function raised; its name and the file's are in the message.
    """
    gathered, number = Gathered(extent, reader), 0
    stream = uncompressed(file, extent)
    found = _found(extent, stream)
    for number, record in enumerate(found):
        _add(gathered, number, record, reader)
        if gathered.size >= sizes.batch_bytes:
            yield gathered.drain()
    for trouble in damage_of(stream, number, stream.tell()):
        gathered.reject(*trouble)
    yield gathered.drain()


def _found(extent: Extent, stream: BinaryIO) -> Iterator[Any]:
    """Yields what the function yields, until it ends or meets damage."""
    function = load(extent.format)
    try:
        yield from function(stream)
    except Exception as error:  # the user's code may raise anything
        if damage_of(stream, 0):
            return  # it met an end that the file does not have: the reject says so
        raise WorkError(
            f"wanted documents of {extent.relative} from {extent.format}, found "
            f"{type(error).__name__}: {error}. Repair the function, or leave the file "
            "out of --input"
        ) from error


def _add(gathered: Gathered, number: int, record: Any, reader: ReaderConfig) -> None:
    """Adds one record, or why it is none."""
    trouble = _trouble(record, reader)
    name = _own_id(record, reader)
    if trouble:
        known = name if isinstance(name, str) and is_unicode(name) else None
        gathered.reject(number, *trouble, name=known)
        return
    gathered.add(
        record[reader.text_field],
        name,
        number,
        record.get(reader.url_field),
        record[reader.target_field] if reader.target_field else None,
    )


def _own_id(record: Any, reader: ReaderConfig) -> Any:
    """Returns a record's id, None where it has none: a NaN, as of tables, is none."""
    value = record.get(reader.id_field) if isinstance(record, Mapping) else None
    return None if isinstance(value, Real) and value != value else value


def _trouble(record: Any, reader: ReaderConfig) -> tuple[str, str] | None:
    """Returns (reason, detail) of a record that is no document."""
    if not isinstance(record, Mapping):
        return "wrong_type", f"a {type(record).__name__}, not a dict"
    for field in filter(None, (reader.text_field, reader.target_field)):
        if record.get(field) is None:
            return "missing_field", f"no {field}"
    wanted = (reader.text_field, reader.target_field, reader.id_field, reader.url_field)
    for field in filter(None, wanted):
        value = record.get(field)
        if field == reader.id_field:
            value = _own_id(record, reader)
        if value is None:
            continue
        if not isinstance(value, str):
            return "wrong_type", f"{field} is a {type(value).__name__}, not a str"
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            return "invalid_utf8", f"{field} holds a lone surrogate"
        if size > reader.max_document_bytes:
            return "too_large", f"{field} of {size} bytes"
    return None
