# SPDX-License-Identifier: Apache-2.0
"""Sub-commands of quern-export for what is exported already.

promote and rollback move a label, prune removes versions, list and show tell.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence

from preprocessing.contracts.releases import CARD_NAME, find_release, read_lineage
from preprocessing.foundation import storage
from preprocessing.foundation.commands import CommandParser, stopping_on_request
from trainer.labels.labels import STABLE, ShownVersion, promote, rollback
from trainer.labels.loaded_versions import NO_SERVERS, Servers
from trainer.labels.model_list import list_models
from trainer.labels.pruning import described, prune
from trainer.release.card import model_card

_MODEL = "MODELS/NAME"


def run_subcommand(name: str, argv: Sequence[str]) -> None:
    """Runs one of `SUBCOMMANDS` on its arguments.

    Raises:
        UsageError: what it is asked for cannot be; nothing has changed.
        WorkError: it failed at work.
    """
    with stopping_on_request():
        SUBCOMMANDS[name](argv)


def _promote(argv: Sequence[str]) -> None:
    parser = _parser(
        "promote",
        "Has a label show a version: what clients ask for by that label, and what "
        "servers that read MODELS/models.config load. The version has to be a whole "
        "release. See docs/deploying.md.",
        _MODEL,
    )
    add = parser.add_argument
    add("--version", type=int, required=True, metavar="N", help="which version")
    _add_label(parser)
    _add_servers(parser)
    add(
        "--base_path",
        metavar="DIR",
        help="where servers find MODELS/NAME, if not at that path; for the first "
        "promotion (default: beside the other models in models.config)",
    )
    values = parser.parse_args(argv)
    shown = promote(
        values.path, values.version, values.label, values.base_path, _servers(values)
    )
    print(_told(shown, values.path))


def _rollback(argv: Sequence[str]) -> None:
    parser = _parser(
        "rollback",
        "Has a label show the version that it showed before, which has to be there "
        "still. Once more goes back one further.",
        _MODEL,
    )
    _add_label(parser)
    _add_servers(parser)
    values = parser.parse_args(argv)
    shown = rollback(values.path, values.label, _servers(values))
    print(_told(shown, values.path))


def _prune(argv: Sequence[str]) -> None:
    parser = _parser(
        "prune",
        "Removes old versions, never one that a label shows or MODELS/models.config "
        "has servers load; and what an upload that was cut short has left.",
        _MODEL,
    )
    parser.add_argument(
        "--keep",
        type=int,
        required=True,
        metavar="N",
        help="how many of the newest versions stay in any case",
    )
    values = parser.parse_args(argv)
    print(described(prune(values.path, values.keep)))


def _list(argv: Sequence[str]) -> None:
    parser = _parser("list", "Lists models, versions and labels of a tree.", "MODELS")
    print("\n".join(list_models(parser.parse_args(argv).path)))


def _show(argv: Sequence[str]) -> None:
    parser = _parser(
        "show",
        f"Prints what a release is: its {CARD_NAME}, or for one of an earlier Quern "
        "what its lineage tells.",
        "MODELS/NAME/N",
    )
    release = find_release(parser.parse_args(argv).path)
    try:
        card = storage.read_bytes(storage.join(release, CARD_NAME)).decode()
    except FileNotFoundError:
        card = model_card(read_lineage(release))
    print(card, end="")


def _told(shown: ShownVersion, path: str) -> str:
    if shown.before == shown.version:
        return f"{shown.label} of {path} shows version {shown.version} already"
    before = "nothing" if shown.before is None else f"version {shown.before}"
    return (
        f"{shown.label} of {path} shows version {shown.version}; it showed {before} "
        "before"
    )


def _parser(name: str, words: str, path: str) -> CommandParser:
    parser = CommandParser(f"quern-export {name}", words)
    parser.add_argument("path", metavar=path, help="local or in a bucket")
    return parser


def _add_label(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--label", default=STABLE, metavar="LABEL", help="which label to move"
    )


def _add_servers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--server",
        action="append",
        default=[],
        metavar="URL",
        help="a TensorFlow Serving that reads MODELS/models.config, as "
        "http://localhost:8501: it loads the version first, and the label moves when "
        "it has; may be given several times",
    )
    parser.add_argument(
        "--wait",
        type=float,
        default=NO_SERVERS.seconds,
        metavar="SECONDS",
        help="how long servers may take to load it",
    )


def _servers(values: argparse.Namespace) -> Servers:
    return Servers(tuple(values.server), values.wait)


SUBCOMMANDS: Mapping[str, Callable[[Sequence[str]], None]] = {
    "promote": _promote,
    "rollback": _rollback,
    "prune": _prune,
    "list": _list,
    "show": _show,
}
