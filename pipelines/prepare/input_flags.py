# SPDX-License-Identifier: Apache-2.0
"""The flags that say what the input is, shared by the commands that read documents."""

import argparse

from preprocessing.foundation.commands import CommandParser, UsageError
from preprocessing.foundation.user_code import is_import_path, load
from preprocessing.reading.extents import FORMATS, ReaderConfig
from preprocessing.rules.normalize import CleaningConfig

_LIGHT, _NONE = "light", "none"


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
        "--quote",
        default=default.quote,
        metavar="CHARACTER",
        help='what quotes fields of CSV and TSV, or none; auto is " in CSV and none '
        "in TSV, as their standards have it",
    )
    parser.add_argument(
        "--max_document_bytes",
        type=int,
        default=default.max_document_bytes,
        metavar="N",
        help="a larger document is rejected (too_large)",
    )
    parser.add_argument(
        "--max_unread_fraction",
        type=float,
        metavar="F",
        help="fail only if more of the input's bytes, as they are stored, cannot be "
        "read; without it, if any file cannot be read to its end",
    )


def add_cleaning_flags(parser: CommandParser) -> None:
    """Adds the flags of cleaning; defaults are those of `CleaningConfig`."""
    parser.add_argument(
        "--cleaning",
        default=_LIGHT,
        choices=[_LIGHT, _NONE],
        help="light takes control characters, blanks at the ends of lines and runs of "
        "blank lines out of texts, and makes line ends \\n; none leaves them as read",
    )
    parser.add_argument(
        "--compose_nfc",
        action="store_true",
        help="light cleaning composes letters with their marks too (Unicode NFC)",
    )
    parser.add_argument(
        "--max_blank_lines",
        type=int,
        metavar="N",
        help="light cleaning cuts longer runs of blank lines to N (default: "
        f"{CleaningConfig().max_blank_lines})",
    )


def cleaning_config(values: argparse.Namespace) -> CleaningConfig | None:
    """Returns the cleaning that the flags describe; None where they ask for none.

    Raises:
        UsageError: a value out of range, or of a cleaning that is not done.
    """
    blank_lines = values.max_blank_lines
    if values.cleaning == _NONE:
        if values.compose_nfc or blank_lines is not None:
            asked = "--compose_nfc" if values.compose_nfc else "--max_blank_lines"
            raise UsageError(
                f"wanted {asked} with --cleaning {_LIGHT}, found {_NONE}. Leave one of "
                "them out"
            )
        return None
    if blank_lines is None:
        return CleaningConfig(compose=values.compose_nfc)
    return CleaningConfig(values.compose_nfc, blank_lines)


def reader_config(values: argparse.Namespace) -> ReaderConfig:
    """Returns the reader that the flags describe.

    Raises:
        UsageError: a value out of range, or a format's function that is not there.
    """
    unread = values.max_unread_fraction
    if unread is not None and not 0 <= unread <= 1:
        raise UsageError(
            f"wanted --max_unread_fraction between 0 and 1, found {unread}. Leave it "
            "out to want every file read to its end"
        )
    if is_import_path(values.format):
        load(values.format)
    return ReaderConfig(
        format=values.format,
        text_field=values.text_field,
        id_field=values.id_field,
        url_field=values.url_field,
        max_document_bytes=values.max_document_bytes,
        quote=values.quote,
    )
