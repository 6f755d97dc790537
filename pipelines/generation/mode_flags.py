# SPDX-License-Identifier: Apache-2.0
"""The flags that say what is made of records, and by whom."""

import argparse

from pipelines.generation.modes import EMBED, GENERATE, MODES, POOLINGS, SCORE, Wanted
from pipelines.generation.remote_answers import RemoteModel, find_remote
from pipelines.generation.remote_requests import RequestRules
from preprocessing.contracts import releases
from preprocessing.contracts.generation_config import GenerationConfig
from preprocessing.foundation.commands import CommandParser, UsageError

CONTINUATION = "continuation"


def add_mode_flags(parser: CommandParser) -> None:
    """Adds the flags of modes."""
    add = parser.add_argument
    add(
        "--mode",
        choices=MODES,
        default=GENERATE,
        help=f"{GENERATE} continues prompts; {SCORE} gives the likelihood of texts "
        f"and of continuations of prompts; {EMBED} turns texts into vectors",
    )
    add(
        "--continuation_field",
        metavar="NAME",
        help=f"of --mode {SCORE}: holds what follows the prompt; a record without it "
        f"is scored as a whole document (default: {CONTINUATION})",
    )
    add(
        "--pooling",
        choices=POOLINGS,
        help=f"of --mode {EMBED}: the mean of the last hidden states of a text's ids "
        "(default), or that of its last id",
    )


def add_remote_flags(parser: CommandParser) -> None:
    """Adds the flags of servers."""
    add, rules = parser.add_argument, RequestRules()
    add(
        "--remote",
        metavar="URL",
        help="ask a server instead of a release: TensorFlow Serving at "
        "http://HOST:8501/v1/models/NAME, with /versions/N or /labels/L behind it if "
        "need be, or one like OpenAI's at http://HOST:8000/v1, where --model is the "
        "model's name there",
    )
    add(
        "--concurrency",
        type=int,
        default=rules.concurrency,
        metavar="N",
        help="requests to a server at a time, all workers together",
    )
    add(
        "--retries",
        type=int,
        default=rules.retries,
        metavar="N",
        help="further tries of a request that a server was too busy for, or broke off",
    )
    add(
        "--request_seconds",
        type=float,
        default=rules.seconds,
        metavar="X",
        help="how long a server may leave a request without an answer",
    )
    add(
        "--api_key_variable",
        default=rules.key_variable,
        metavar="NAME",
        help="of the environment of workers, holds the key for a server like OpenAI's",
    )


def wanted_of(values: argparse.Namespace, config: GenerationConfig) -> Wanted:
    """Returns what is made of each record.

    Raises:
        UsageError: a flag is of another mode.
    """
    for name, mode in (("continuation_field", SCORE), ("pooling", EMBED)):
        if getattr(values, name) is not None and values.mode != mode:
            raise UsageError(
                f"wanted --{name} with --mode {mode}, found --mode {values.mode}. "
                "Leave one out"
            )
    return Wanted(values.mode, values.pooling or POOLINGS[0], config)


def continuation_field(values: argparse.Namespace) -> str:
    """Returns the field that holds what follows a prompt; "" where none is read."""
    if values.mode != SCORE:
        return ""
    return values.continuation_field or CONTINUATION


def source_of(values: argparse.Namespace, wanted: Wanted) -> str | RemoteModel:
    """Returns the release's directory, or the server's model.

    Raises:
        UsageError: there is no such release, it is too old, or the server cannot do
            what is wanted.
        WorkError: the server does not answer.
    """
    if values.remote is None:
        if values.model is None:
            raise UsageError(
                "wanted --model MODELS/NAME, or --remote URL, found neither. Name one"
            )
        release = releases.find_release(values.model)
        releases.check_used(release)
        return release
    for name, lowest in (("concurrency", 1), ("retries", 0)):
        if getattr(values, name) < lowest:
            raise UsageError(
                f"wanted --{name} of {lowest} or more, found {getattr(values, name)}"
            )
    if not 0 < values.request_seconds <= 86_400:
        raise UsageError(
            "wanted --request_seconds above 0 and up to a day, found "
            f"{values.request_seconds}. Change it"
        )
    rules = RequestRules(
        concurrency=values.concurrency,
        retries=values.retries,
        seconds=values.request_seconds,
        key_variable=values.api_key_variable,
        seed=wanted.config.seed,
    )
    return find_remote(values.remote, values.model, rules, wanted)
