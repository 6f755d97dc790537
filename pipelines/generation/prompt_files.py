# SPDX-License-Identifier: Apache-2.0
"""Files of prompts, record by record, whatever their format.

    jsonl     an object a line                      plain, .gz or .zst
    lines     a prompt a line, and nothing else     plain, .gz or .zst
    parquet   a row
    tfrecord  a `tf.train.Example`                  plain, .gz or .zst

Each record is read in bounded memory and by itself: what is wrong with one is its own.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from preprocessing.contracts.tf_records import decode_example, read_frames
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.decompression import (
    DamagedInput,
    compression_of,
    decompress,
)
from preprocessing.foundation.storage import InputFile
from preprocessing.reading.first_bytes import check_first_bytes
from preprocessing.reading.foreign_bytes import listed, not_json_line, not_utf8
from preprocessing.reading.format_names import ending_of, format_by_name

AUTO = "auto"
FORMATS = ("jsonl", "lines", "parquet", "tfrecord")
# Some 250,000 ids, more than any context; a chunk of such records fits in memory.
LARGEST_RECORD_BYTES = 1 << 20
_READ_BYTES = 1 << 20
_ROWS = 256  # of Parquet, decoded at once
_TFRECORD_ENDINGS = ("tfrecord", "tfrecords")
_MARK = b"\xef\xbb\xbf"  # UTF-8's, with which some editors begin a file


@dataclass(frozen=True)
class Record:
    """A record of an input file.

    Attributes:
        place: its file and its number in it, from 1, as `prompts.jsonl:7`.
        fields: what it holds.
        fault: why that cannot be told; nothing as a rule.
    """

    place: str
    fields: Mapping[str, Any]
    fault: str = ""


def formats_of(files: Sequence[InputFile], chosen: str) -> list[str]:
    """Returns the format of each file: the one chosen, or what its name tells.

    Raises:
        UsageError: a name tells none that is read here, or a file is packed in a way
            that its name does not tell.
    """
    formats = [_format_of(file, chosen) for file in files]
    packed = [
        "none" if each == "parquet" else compression_of(file.path)
        for file, each in zip(files, formats, strict=True)
    ]
    check_first_bytes(files, packed)
    return formats


def _format_of(file: InputFile, chosen: str) -> str:
    if chosen != AUTO:
        return chosen
    if ending_of(file.path) in _TFRECORD_ENDINGS:
        return "tfrecord"
    told = format_by_name(file.path)
    if told == "text" or not file.size:  # an empty one, as _SUCCESS is, may be any
        return "lines"
    if told in FORMATS:
        return told
    raise UsageError(
        "wanted files of prompts named .jsonl, .parquet, .tfrecord or .txt, found "
        f"{file.path}. Say --input_format ({', '.join(FORMATS)}), or narrow the glob"
    )


def read_records(
    file: InputFile, kind: str, names: Sequence[str], optional: Sequence[str]
) -> Iterator[Record]:
    """Yields the records of a file in their order; blank lines are none.

    Args:
        file: the file.
        kind: its format.
        names: fields of which each record wants one; a line of text is the first.
        optional: further fields that are asked for.

    Raises:
        UsageError: the file is damaged, or is a table with none of the `names`.
    """
    readers: dict[str, Callable[[BinaryIO], Iterator[Record]]] = {
        "jsonl": lambda stream: map(_of_json, _lines(file, stream)),
        "lines": lambda stream: map(partial(_of_text, names[0]), _lines(file, stream)),
        "parquet": partial(_rows, file, names, optional),
        "tfrecord": partial(_examples, file),
    }
    with storage.open_input(file.path) as stream:
        try:
            yield from readers[kind](stream)
        except DamagedInput as error:
            raise _damaged(file, error.detail) from None
        except (pa.ArrowException, ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's; Arrow's own have no number
            raise _damaged(file, str(error).splitlines()[0].rstrip(".")) from None


def _damaged(file: InputFile, found: str) -> UsageError:
    return UsageError(
        f"wanted a whole file at {file.path}, found: {found}. Copy it again"
    )


def split_lines(
    parts: Iterable[bytes], limit: int = LARGEST_RECORD_BYTES
) -> Iterator[bytes]:
    """Yields the lines of a stream; one above the limit ends a byte or more past it."""
    held = bytearray()
    for part in parts:
        first, *others = part.split(b"\n")
        held += first[: max(0, limit + 1 - len(held))]
        if others:
            yield bytes(held)
            yield from others[:-1]
            held = bytearray(others[-1])
    yield bytes(held)


def _lines(file: InputFile, stream: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Yields (place, bytes without line end) of every line that is not blank."""
    for number, line in enumerate(split_lines(_parts(file, stream)), 1):
        if number == 1:
            line = line.removeprefix(_MARK)
        if len(line) > LARGEST_RECORD_BYTES or line.strip():
            yield f"{file.relative}:{number}", line.removesuffix(b"\r")


def _parts(file: InputFile, stream: BinaryIO) -> Iterator[bytes]:
    """Yields the (decompressed) bytes of a file, a few MB at most each."""
    kind = compression_of(file.path)
    if kind == "none":
        return iter(partial(stream.read, _READ_BYTES), b"")
    return decompress(stream, kind)


def _of_json(line: tuple[str, bytes]) -> Record:
    """Returns what a line of JSON says."""
    place, data = line
    if len(data) > LARGEST_RECORD_BYTES:
        return Record(place, {}, _too_large())
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        return Record(place, {}, f"not JSON: {not_json_line(data, str(error))}")
    if isinstance(fields, dict):
        return Record(place, fields)
    array = " but an array (jq -c '.[]' makes lines of it)"
    what = array if isinstance(fields, list) else ""
    return Record(place, {}, f"not a JSON object{what}")


def _of_text(name: str, line: tuple[str, bytes]) -> Record:
    """Returns a line as the field `name`."""
    place, data = line
    if len(data) > LARGEST_RECORD_BYTES:
        return Record(place, {}, _too_large())
    try:
        return Record(place, {name: data.decode()})
    except UnicodeDecodeError as error:
        return Record(place, {}, _not_utf8(data, error))


def _not_utf8(data: bytes, error: UnicodeDecodeError) -> str:
    return not_utf8(data, f"not UTF-8 at its byte {error.start}")


def _rows(
    file: InputFile,
    names: Sequence[str],
    optional: Sequence[str],
    stream: BinaryIO,
) -> Iterator[Record]:
    """Yields the rows of a Parquet file, of the columns that are asked for alone."""
    table = pq.ParquetFile(stream)
    columns = table.schema_arrow.names
    if not any(name in columns for name in names):
        raise UsageError(
            f"wanted a column {' or '.join(names)} in {file.path}, found "
            f"{listed(columns)}. Name it with --prompt_field"
        )
    wanted = [name for name in dict.fromkeys((*names, *optional)) if name in columns]
    number = 0
    for batch in table.iter_batches(batch_size=_ROWS, columns=wanted):
        for fields in batch.to_pylist():
            number += 1
            yield Record(f"{file.relative}:{number}", fields, _oversized(fields))


def _oversized(fields: Mapping[str, Any]) -> str:
    sizes = (len(value) for value in fields.values() if isinstance(value, str | bytes))
    return _too_large() if max(sizes, default=0) > LARGEST_RECORD_BYTES else ""


def _examples(file: InputFile, stream: BinaryIO) -> Iterator[Record]:
    """Yields the Examples of a TFRecord file: a single value is itself, no list."""
    frames = read_frames(_parts(file, stream), LARGEST_RECORD_BYTES)
    for number, frame in enumerate(frames, 1):
        place = f"{file.relative}:{number}"
        if frame.fault:
            yield Record(place, {}, frame.fault)
            continue
        try:
            features = decode_example(frame.payload)
        except ValueError:
            yield Record(place, {}, "not a tf.train.Example")
            continue
        single = {k: v[0] if len(v) == 1 else v for k, v in features.items()}
        yield Record(place, single)


def _too_large() -> str:
    return f"above {LARGEST_RECORD_BYTES:,} bytes"
