# SPDX-License-Identifier: Apache-2.0
"""Which extents of files are read, and how they become documents.

An extent is what one worker reads at a time; however a file is cut into extents, its
documents, keys and offsets are the same.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError, first_of, suggest
from preprocessing.foundation.decompression import (
    compression_of,
    known_compression,
)
from preprocessing.foundation.user_code import is_import_path
from preprocessing.reading.first_bytes import check_first_bytes
from preprocessing.reading.format_names import format_by_name

FORMATS = (
    *("auto", "text", "lines", "paragraphs", "jsonl", "parquet"),
    *("arrow", "csv", "tsv", "warc", "wet"),
)
TO_THE_END = -1
# What `ReaderConfig.quote` may be besides a character.
QUOTE_BY_FORMAT, NO_QUOTE = "auto", "none"
_EXTENT_BYTES = 64 << 20
# Compressed inside, by column; a compression around them would keep them from seeking.
_COLUMNAR = ("parquet", "arrow")
_QUOTE = re.compile(r"[!-+\--~]")  # ASCII that is seen, and no comma
_CUT_ANYWHERE = ("lines", "paragraphs", "jsonl")


@dataclass(frozen=True)
class ReaderConfig:
    """How files become documents.

    Attributes:
        format: one of `FORMATS`; "auto" decides by each file's extension; or a user's
            function as `my_package.module:function`
            (`preprocessing.reading.user_readers`).
        text_field: the field or column that holds the text.
        id_field: the field or column that holds the id, where there is one.
        url_field: the one that holds the address a document is from, where there is
            one, as a string; whatever else it holds counts as none.
        target_field: the one that holds a pair's second text; a document without it is
            a reject. None where documents are no pairs.
        max_document_bytes: a larger document is a reject (`too_large`). In JSONL, CSV
            and web archives the whole line or record counts.
        quote: the character that quotes fields of CSV and TSV, "none" where none does,
            or "auto": " in CSV (RFC 4180) and none in TSV (IANA).
    """

    format: str = "auto"
    text_field: str = "text"
    id_field: str = "id"
    url_field: str = "url"
    target_field: str | None = None
    max_document_bytes: int = 64 << 20
    quote: str = QUOTE_BY_FORMAT

    def __post_init__(self) -> None:
        if self.format not in FORMATS and not is_import_path(self.format):
            raise UsageError(
                f"wanted --format {', '.join(FORMATS)}, or a function of yours as "
                f"my_package.module:function, found {self.format}."
                f"{suggest(self.format, FORMATS)} Name one"
            )
        if not self.text_field or self.text_field == self.id_field:
            raise UsageError(
                f"wanted a --text_field other than --id_field, found "
                f"'{self.text_field}' and '{self.id_field}'. Name the text's field"
            )
        if self.target_field in ("", self.text_field, self.id_field):
            raise UsageError(
                "wanted a --target_field other than --text_field and --id_field, found "
                f"'{self.target_field}'. Name the field of the pair's second text"
            )
        if self.max_document_bytes < 1:
            raise UsageError(
                "wanted --max_document_bytes of 1 or more, found "
                f"{self.max_document_bytes}. Leave it out for 64 MiB"
            )
        known = self.quote in (QUOTE_BY_FORMAT, NO_QUOTE)
        if not known and not _QUOTE.fullmatch(self.quote):
            raise UsageError(
                f"wanted a --quote of one character, {QUOTE_BY_FORMAT} or {NO_QUOTE}, "
                f'found {self.quote!r}. Leave it out for " in CSV and none in TSV'
            )


@dataclass(frozen=True)
class Extent:
    """What one worker reads at a time.

    Attributes:
        index: its place among all extents.
        path: the file.
        relative: the file's path relative to the glob's fixed prefix.
        start: bytes of a plain file, else 0; of Parquet, the first row group.
        end: where it ends, exclusive, likewise; `TO_THE_END` for whole files. A
            document belongs to the extent in which it starts.
        size: bytes of the stored file that the extent stands for.
        format: one of `FORMATS` but "auto", or a user's function.
        compression: "none", "gzip" or "zstd".
    """

    index: int
    path: str
    relative: str
    start: int
    end: int
    size: int
    format: str
    compression: str


def format_of(path: str, reader: ReaderConfig) -> str:
    """Returns the format a file is read as.

    Raises:
        UsageError: neither the reader nor the file's name tells it.
    """
    kind = format_by_name(path) if reader.format == "auto" else reader.format
    if kind is None:
        raise _formless([path])
    return kind


def _formats(files: Sequence[storage.InputFile], reader: ReaderConfig) -> list[str]:
    """Returns each file's format; an empty one, as `_SUCCESS` is, may be any.

    Raises:
        UsageError: naming the first of the files whose format nobody tells.
    """
    if reader.format != "auto":
        return [reader.format] * len(files)
    kinds = [format_by_name(file.path) for file in files]
    pairs = list(zip(files, kinds, strict=True))
    unknown = [file.path for file, kind in pairs if kind is None and file.size]
    if unknown:
        raise _formless(unknown)
    return [kind or "text" for kind in kinds]


def _formless(paths: Sequence[str]) -> UsageError:
    return UsageError(
        "wanted file names that tell the format, such as .jsonl or .txt, found "
        f"{first_of(paths)}. Say --format ({', '.join(FORMATS[1:])}; text "
        "is one document a file), or narrow the glob"
    )


def _compressions(
    files: Sequence[storage.InputFile], reader: ReaderConfig
) -> list[str]:
    """Returns what each file is unpacked with before it is read.

    Raises:
        UsageError: one is packed in a way that is not known; a function of the user's
            may know it.
    """
    own = is_import_path(reader.format)
    find = known_compression if own else compression_of
    return [find(file.path) for file in files]


def plan_extents(
    files: Sequence[storage.InputFile],
    reader: ReaderConfig,
    extent_bytes: int = _EXTENT_BYTES,
) -> list[Extent]:
    """Cuts files into extents of about `extent_bytes`, in the files' order.

    Plain JSONL, lines and paragraphs are cut anywhere, Parquet at row groups, all else
    is read whole.

    Raises:
        UsageError: the format of a file is told neither by its name nor by the reader,
            or it is packed in a way that is not known, or not what its name says.
    """
    extents: list[Extent] = []
    compressions = _compressions(files, reader)
    kinds = _formats(files, reader)
    for number, kind in enumerate(kinds):
        if kind in _COLUMNAR:
            compressions[number] = "none"
    own = is_import_path(reader.format)
    check_first_bytes(files, [None] * len(files) if own else compressions)
    for file, kind, compression in zip(files, kinds, compressions, strict=True):
        for start, end, size in _ranges(file, kind, compression, extent_bytes):
            extents.append(
                Extent(
                    index=len(extents),
                    path=file.path,
                    relative=file.relative,
                    start=start,
                    end=end,
                    size=size,
                    format=kind,
                    compression=compression,
                )
            )
    return extents


def _ranges(
    file: storage.InputFile, kind: str, compression: str, extent_bytes: int
) -> list[tuple[int, int, int]]:
    """Returns (start, end, stored bytes) of a file's extents."""
    whole = [(0, TO_THE_END, file.size)]
    if file.size <= extent_bytes or compression != "none":
        return whole
    if kind == "parquet":
        return _row_group_ranges(file, extent_bytes) or whole
    if kind not in _CUT_ANYWHERE:
        return whole
    count = -(-file.size // extent_bytes)
    cuts = [file.size * part // count for part in range(count + 1)]
    return [(start, end, end - start) for start, end in itertools.pairwise(cuts)]


def _row_group_ranges(
    file: storage.InputFile, extent_bytes: int
) -> list[tuple[int, int, int]]:
    """Returns ranges of row groups; none for a file whose footer cannot be read."""
    try:
        with storage.open_input(file.path) as stream:
            groups = pq.ParquetFile(stream).metadata.num_row_groups
    except pa.ArrowInvalid:
        return []  # read_extent meets the damage again and counts it
    count = min(groups, -(-file.size // extent_bytes))
    cuts = [groups * part // count for part in range(count + 1)] if count else []
    sizes = [file.size * part // count for part in range(count + 1)] if count else []
    return [
        (cuts[part], cuts[part + 1], sizes[part + 1] - sizes[part])
        for part in range(count)
    ]
