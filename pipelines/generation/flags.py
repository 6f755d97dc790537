# SPDX-License-Identifier: Apache-2.0
"""The flags of batch generation, and what they say."""

import argparse
import dataclasses
import re
from typing import Any

from pipelines.beam.runners import add_runner_flags
from pipelines.generation import answer_files, prompt_files
from pipelines.generation.mode_flags import (
    add_mode_flags,
    add_remote_flags,
    continuation_field,
)
from pipelines.generation.prompt_files import LARGEST_RECORD_BYTES
from pipelines.generation.prompts import PROMPT_NAMES, PromptFields
from preprocessing.contracts.generation_config import GenerationConfig
from preprocessing.foundation.commands import CommandParser, UsageError

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]?)(i?)B?", re.IGNORECASE)
_POWERS = "KMGT"
_SIZES = ("cache_memory",)
# Of the fields of `GenerationConfig`.
_WORDS = {
    "max_new_tokens": "most ids to add to a prompt",
    "temperature": "0 takes the likeliest id each time",
    "top_k": "sample among the N likeliest ids; 0 sets no limit",
    "top_p": "sample among the fewest ids of that mass; 1 sets no limit",
    "min_p": "sample among ids of X times the likeliest one's mass or more; 0 sets no "
    "limit",
    "repetition_penalty": "makes ids that were there before less likely; 1 changes "
    "nothing",
    "stop": "a text that ends an answer, and is not part of it; may be repeated",
    "seed": "with a prompt's id it gives the row's own seed",
    "batch_size": "prompts that a worker answers together",
    "cache_memory": "most memory for their keys and values, as 2GB; 0 sets no limit",
    "time_limit": "seconds after which an answer ends as it is; 0 sets no limit",
}


def generation_parser() -> CommandParser:
    """Returns the parser of `quern-generate`."""
    parser = CommandParser(
        "quern-generate",
        "Continues, scores or embeds every text of an input with a release, or a "
        "server's model, in Beam workers. Run the same command again to go on where a "
        "job stopped.",
    )
    add = parser.add_argument
    add("--model", metavar="MODELS/NAME[/VERSION]", help="the release")
    add_mode_flags(parser)
    _add_input_flags(parser)
    add("--output", required=True, metavar="DIR", help="where answers go")
    add(
        "--output_format",
        choices=answer_files.FORMATS,
        default="jsonl",
        help="of the files of answers",
    )
    _add_generation_flags(parser)
    add(
        "--threads",
        type=_at_least_one,
        metavar="N",
        help="cores that each worker computes on, which the last bits of its sums "
        "depend on (default: the cores over the chunks that the input is cut into: "
        "one, but for short inputs); --workers then defaults to the cores over this",
    )
    add_remote_flags(parser)
    add_runner_flags(parser)
    return parser


def _add_input_flags(parser: CommandParser) -> None:
    add = parser.add_argument
    add(
        "--input",
        required=True,
        nargs="+",
        metavar="GLOB",
        help="JSONL, Parquet, TFRecord (tf.train.Example), or text with a prompt a "
        f"line; a prompt has up to {LARGEST_RECORD_BYTES:,} bytes; .gz and .zst too",
    )
    add(
        "--input_format",
        choices=(prompt_files.AUTO, *prompt_files.FORMATS),
        default=prompt_files.AUTO,
        help="auto goes by each file's name",
    )
    add(
        "--prompt_field",
        metavar="NAME",
        help=f"holds the text (default: {PROMPT_NAMES[0]}, else {PROMPT_NAMES[1]})",
    )
    add(
        "--id_field",
        default=PromptFields().id,
        metavar="NAME",
        help="holds the id, a string or a whole number; a record without one has its "
        "file and line, as prompts.jsonl:7",
    )
    add(
        "--keep_fields",
        nargs="+",
        default=[],
        metavar="NAME",
        help="fields of the input that answers carry",
    )


def _add_generation_flags(parser: CommandParser) -> None:
    for field in dataclasses.fields(GenerationConfig):
        name, default = field.name, field.default
        flag, words = f"--{name}", _WORDS[name]
        if isinstance(default, tuple):
            parser.add_argument(
                flag, action="append", default=[], metavar="TEXT", help=words
            )
            continue
        kind: Any = _size if name in _SIZES else type(default)
        metavar = {int: "N", float: "X"}.get(kind, "SIZE")
        parser.add_argument(
            flag, type=kind, default=default, metavar=metavar, help=words
        )


def generation_config(values: argparse.Namespace) -> GenerationConfig:
    """Returns how prompts are continued.

    Raises:
        UsageError: a value is out of its range.
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(GenerationConfig):
        value = getattr(values, field.name)
        found[field.name] = tuple(value) if isinstance(value, list) else value
    return GenerationConfig(**found)


def prompt_fields(values: argparse.Namespace, reserved: list[str]) -> PromptFields:
    """Returns where a record has what.

    Args:
        values: of the flags.
        reserved: names that answers use themselves.

    Raises:
        UsageError: a field to keep has one of these names.
    """
    clash = [name for name in values.keep_fields if name in reserved]
    if clash:
        raise UsageError(
            f"wanted --keep_fields other than {', '.join(reserved)}, which answers "
            f"have themselves, found {clash[0]}. Rename it in the input"
        )
    names = PROMPT_NAMES if values.prompt_field is None else (values.prompt_field,)
    kept = tuple(dict.fromkeys(values.keep_fields))
    return PromptFields(names, values.id_field, kept, continuation_field(values))


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"wanted 1 or more, found {text}")
    return int(text)


def _size(text: str) -> int:
    """Returns a number of bytes, as 2GB, 512MiB or 1000 spell it."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"wanted a size such as 2GB, 512MiB or 1000, found {text}"
        )
    number, power, binary = found.groups()
    base = 1024 if binary else 1000
    exponent = _POWERS.index(power.upper()) + 1 if power else 0
    return int(float(number) * base**exponent)
