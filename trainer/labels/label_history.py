# SPDX-License-Identifier: Apache-2.0
"""What labels of a model showed before: `MODELS/NAME/labels.jsonl`, a line each time.

A line is written before `models.config` is, so a command that is killed between the two
leaves a line that says what never was; and a person may edit `models.config` alone. So
what a label shows is what `models.config` says, and lines that do not lead there are
passed over.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError

HISTORY_NAME = "labels.jsonl"


@dataclass(frozen=True)
class LabelMove:
    """A label moved from one version to another.

    Attributes:
        label: which.
        before: the version it showed; None where it was new.
        version: the version it shows.
        action: what moved it.
        time: for people, in UTC.
    """

    label: str
    before: int | None
    version: int
    action: Literal["promote", "rollback"]
    time: str


def read_moves(directory: str) -> list[LabelMove]:
    """Returns the moves of a model's labels, oldest first.

    Raises:
        UsageError: the file is damaged.
    """
    path = storage.join(directory, HISTORY_NAME)
    try:
        lines = storage.read_bytes(path).splitlines()
    except FileNotFoundError:
        return []
    try:
        return [LabelMove(**strict_json.loads(line)) for line in lines]
    except (ValueError, TypeError):
        raise UsageError(
            f"wanted the history of labels in {path}, found something else. Restore "
            "it, or remove it: no label can then be rolled back"
        ) from None


def write_moves(directory: str, moves: Iterable[LabelMove]) -> None:
    """Publishes the moves of a model's labels in one piece."""
    lines = [strict_json.dumps(dataclasses.asdict(move)) + "\n" for move in moves]
    path = storage.join(directory, HISTORY_NAME)
    storage.write_atomically(path, "".join(lines).encode(), durable=True)


def shown_before(moves: Iterable[LabelMove], label: str, shown: int) -> list[int]:
    """Returns the versions that a label showed on its way to `shown`, newest last.

    A rollback takes the way back: after promotions to 1, 2 and 3 and a rollback, the
    label shows 2, and what it showed before is 1.
    """
    mine = [move for move in moves if move.label == label]
    found = [*(move.before for move in mine), shown][1:]
    way: list[int] = []
    for move, after in zip(mine, found, strict=False):
        if after == move.before:
            continue  # it never was
        if move.before is not None and way[-1:] != [move.before]:
            way.append(move.before)  # where a person had moved it
        if move.action == "rollback" and move.version in way:
            while way[-1] != move.version:
                way.pop()
        else:
            way.append(move.version)
    return way[:-1] if way[-1:] == [shown] else way
