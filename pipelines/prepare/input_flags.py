# SPDX-License-Identifier: Apache-2.0
"""The flags that say what the input is, shared by the commands that read documents."""

import argparse

from preprocessing.foundation.commands import CommandParser
from preprocessing.foundation.user_code import is_import_path, load
from preprocessing.reading.extents import FORMATS, ReaderConfig


def add_input_flags(parser: CommandParser, required: bool = True) -> None:
    """Adds `--input` and the reader flags; defaults are those of `ReaderConfig`."""
    default = ReaderConfig()
    parser.add_argument(
        "--input",
        nargs="+",
        required=required,
        default=[],
        metavar="GLOB",
        help="files to read: globs of local or cloud paths (quote them), ** allowed",
    )
    parser.add_argument(
        "--format",
        default=default.format,
        metavar="NAME",
        help=f"how files hold documents: {', '.join(FORMATS)}. One per file (text), "
        "per line, per block between blank lines (paragraphs), or in records; auto "
        "goes by the file name. Or a function of yours, my_package.module:function, "
        "which takes an open binary file and yields dicts",
    )
    parser.add_argument(
        "--text_field",
        default=default.text_field,
        metavar="NAME",
        help="the field or column that holds the text",
    )
    parser.add_argument(
        "--id_field",
        default=default.id_field,
        metavar="NAME",
        help="the field that names a document; its byte offset does where it is absent",
    )
    parser.add_argument(
        "--url_field",
        default=default.url_field,
        metavar="NAME",
        help="the field that holds the address a document is from, for address lists",
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
        UsageError: a value out of range, or a format's function that is not there.
    """
    if is_import_path(values.format):
        load(values.format)
    return ReaderConfig(
        format=values.format,
        text_field=values.text_field,
        id_field=values.id_field,
        url_field=values.url_field,
        max_document_bytes=values.max_document_bytes,
    )
