# SPDX-License-Identifier: Apache-2.0
"""The flags that say what the input is, shared by the commands that read documents."""

import argparse

from preprocessing.commands import CommandParser
from preprocessing.documents import FORMATS, ReaderConfig


def add_input_flags(parser: CommandParser) -> None:
    """Adds `--input` and the reader flags; defaults are those of `ReaderConfig`."""
    default = ReaderConfig()
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="GLOB",
        help="files to read: globs of local or cloud paths (quote them), ** allowed",
    )
    parser.add_argument(
        "--format",
        default=default.format,
        choices=FORMATS,
        help="how files hold documents: one per file (text), per line, per block "
        "between blank lines, or in records; auto goes by the file name",
    )
    parser.add_argument(
        "--text_field",
        default=default.text_field,
        metavar="NAME",
        help="the field of JSONL or Parquet that holds the text",
    )
    parser.add_argument(
        "--id_field",
        default=default.id_field,
        metavar="NAME",
        help="the field that names a document; its byte offset does where it is absent",
    )
    parser.add_argument(
        "--max_document_bytes",
        type=int,
        default=default.max_document_bytes,
        metavar="N",
        help="a larger document is rejected (too_large)",
    )


def reader_config(values: argparse.Namespace) -> ReaderConfig:
    """Returns the reader that the flags describe.

    Raises:
        UsageError: a value out of range.
    """
    return ReaderConfig(
        format=values.format,
        text_field=values.text_field,
        id_field=values.id_field,
        max_document_bytes=values.max_document_bytes,
    )
