# SPDX-License-Identifier: Apache-2.0
"""Labels of a model's versions: shown, moved to another version, and moved back.

A label is what clients ask for in place of a version. One put of `models.config` says
both what it shows and what servers load, so a server never loads what no label shows,
what is still arriving least of all.
"""

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from preprocessing.contracts.releases import SAVED_MODEL_NAME, versions
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from trainer.labels.label_history import (
    LabelMove,
    read_moves,
    shown_before,
    write_moves,
)
from trainer.labels.label_tree import (
    ModelPlace,
    one_at_a_time,
    place_of,
    read_config,
    rewrite,
    write_once,
)
from trainer.labels.loaded_versions import (
    NO_SERVERS,
    Servers,
    wait_until_loaded,
)
from trainer.labels.model_config_file import (
    CONFIG_NAME,
    ModelEntry,
    read_models,
    with_labels,
)
from trainer.labels.server_settings import SETTINGS
from trainer.labels.whole_release import check_whole

STABLE = "stable"
# What a URL takes: `/v1/models/NAME/labels/LABEL:predict`.
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class ShownVersion:
    """What a label shows now, and what it showed before the command.

    Attributes:
        label: which.
        before: None where it is new.
        version: the same as `before` where nothing had to change.
    """

    label: str
    before: int | None
    version: int


def entries_of(models: str) -> dict[str, ModelEntry]:
    """Returns what a tree's `models.config` says of each model.

    Raises:
        UsageError: it is not TensorFlow Serving's.
    """
    return read_models(read_config(models), storage.join(models, CONFIG_NAME))


def labels_of(models: str, name: str) -> dict[str, int]:
    """Returns label -> version of a model; none where no label was ever given.

    Args:
        models: the tree, MODELS.
        name: the model's.

    Raises:
        UsageError: `models.config` is not TensorFlow Serving's.
    """
    entry = entries_of(models).get(name)
    return {} if entry is None else dict(entry.labels)


def promote(
    path: str,
    version: int,
    label: str = STABLE,
    served_at: str | None = None,
    servers: Servers = NO_SERVERS,
) -> ShownVersion:
    """Has a label show a version.

    Args:
        path: the model's directory, MODELS/NAME.
        version: a whole release there.
        label: a new one, or one that shows another version.
        served_at: where servers find the model's directory, if not at its own path;
            of a model that `models.config` does not know yet.
        servers: load the version before the label moves.

    Raises:
        UsageError: the version is not there or no whole release, or `models.config` is
            not what Quern changes.
        WorkError: another program changes it all the time, or a server does not load
            the version; the label stays where it was.
    """
    if _LABEL.fullmatch(label) is None:
        raise UsageError(
            f"wanted a label of letters, digits, _, . and -, found {label!r}. Change it"
        )
    place = place_of(path)
    if served_at is not None and not (
        os.path.isabs(served_at) or storage.is_cloud(served_at)
    ):
        raise UsageError(
            f"wanted --base_path from the root on, as servers do, found {served_at}. "
            "Name the whole path"
        )
    check_version(place, version)  # before anything is written, the claim included

    def target(shown: int | None, moves: list[LabelMove]) -> int:
        # Another one may have pruned it meanwhile, by its first file first.
        if not storage.exists(storage.join(_release(place, version), SAVED_MODEL_NAME)):
            check_version(place, version)
        return version

    move = _Move(place, label, "promote", target, served_at)
    return move.made() if not servers.urls else move.made_when_loaded(servers)


def rollback(
    path: str, label: str = STABLE, servers: Servers = NO_SERVERS
) -> ShownVersion:
    """Has a label show the version that it showed before.

    Args:
        path: the model's directory, MODELS/NAME.
        label: which.
        servers: load the version before the label moves.

    Raises:
        UsageError: the label shows nothing, it showed nothing before, or that version
            is gone.
        WorkError: as for `promote`.
    """
    place = place_of(path)

    def target(shown: int | None, moves: list[LabelMove]) -> int:
        if shown is None:
            raise UsageError(
                f"wanted the label {label} on a version of {place.name}, found it on "
                "none. Give it with quern-export promote"
            )
        before = shown_before(moves, label, shown)
        if not before:
            raise UsageError(
                f"wanted a version that {label} of {place.name} showed before "
                f"{shown}, found none. Name one with quern-export promote"
            )
        check_version(place, before[-1])
        return before[-1]

    move = _Move(place, label, "rollback", target)
    return move.made() if not servers.urls else move.made_when_loaded(servers)


def check_version(place: ModelPlace, version: int) -> None:
    """Checks that a version of a model is a whole release.

    Raises:
        UsageError: it is not there, or not whole.
    """
    check_whole(_release(place, version))


def _release(place: ModelPlace, version: int) -> str:
    found = versions(place.directory)
    if version not in found:
        listed = ", ".join(map(str, found)) or "none"
        raise UsageError(
            f"wanted version {version} of {place.directory}, found {listed}. Name one "
            "that is there"
        )
    return storage.join(place.directory, found[version])


@dataclass(frozen=True)
class _Move:
    """A label on its way to `target` of (what it shows, the moves so far)."""

    place: ModelPlace
    label: str
    action: Literal["promote", "rollback"]
    target: Callable[[int | None, list[LabelMove]], int]
    served_at: str | None = None

    def made(self, wanted: int | None = None) -> ShownVersion:
        """Moves the label; `wanted` is what its target has to be."""
        place, label = self.place, self.label
        shown: list[ShownVersion] = []

        def change(text: str) -> str | None:
            labels, base_path = self._entry(text)
            before = labels.get(label)
            version = self.target(before, moves)
            if wanted not in (None, version):
                raise UsageError(
                    f"wanted {label} of {place.name} to go back to {wanted}, found "
                    "that it was moved meanwhile. See what it shows, and try again"
                )
            shown.append(ShownVersion(label, before, version))
            labels[label] = version
            new = with_labels(text, place.config, place.name, base_path, labels)
            if before != version:
                now = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
                move = LabelMove(label, before, version, self.action, now)
                write_moves(place.directory, [*moves, move])
            return None if new == text else new

        with one_at_a_time(place.models) as claim:
            moves = read_moves(place.directory)
            rewrite(place.models, claim, change)
            for name, data in SETTINGS.items():
                write_once(storage.join(place.models, name), data)
        return shown[-1]

    def made_when_loaded(self, servers: Servers) -> ShownVersion:
        """Has servers load the version, and moves the label when all have."""
        version, new = self._named(None)
        try:
            wait_until_loaded(servers, self.place.name, version)
        except BaseException:
            if new:
                self._named(version)
            raise
        return self.made(version)

    def _named(self, withdrawn: int | None) -> tuple[int, bool]:
        """Has the policy name the target's version, or no longer `withdrawn`.

        Returns:
            The version, and whether that changed the file.
        """
        place = self.place
        found: list[tuple[int, bool]] = []

        def change(text: str) -> str | None:
            labels, base_path = self._entry(text)
            version = withdrawn
            if version is None:
                version = self.target(labels.get(self.label), moves)
            named = {version: withdrawn is None}
            new = with_labels(text, place.config, place.name, base_path, labels, named)
            found.append((version, new != text))
            return None if new == text else new

        with one_at_a_time(place.models) as claim:
            moves = read_moves(place.directory)
            rewrite(place.models, claim, change)
        return found[-1]

    def _entry(self, text: str) -> tuple[dict[str, int], str]:
        """Returns (the model's labels, where servers find it)."""
        models = read_models(text, self.place.config)
        entry = models.get(self.place.name)
        base_path = _base_path(models, self.place, self.served_at)
        return ({} if entry is None else dict(entry.labels)), base_path


def _base_path(
    models: Mapping[str, ModelEntry], place: ModelPlace, served_at: str | None
) -> str:
    """Returns where servers find a model: beside the other ones of the tree."""
    entry = models.get(place.name)
    if entry is not None:
        if served_at not in (None, entry.base_path):
            raise UsageError(
                f"wanted --base_path {served_at} for {place.name}, found "
                f"{entry.base_path} in {place.config}. Change it there"
            )
        return entry.base_path
    if served_at is not None:
        return served_at
    above = {
        each.base_path.rstrip("/").removesuffix(f"/{name}")
        for name, each in models.items()
        if each.base_path.rstrip("/").endswith(f"/{name}")
    }
    return f"{above.pop()}/{place.name}" if len(above) == 1 else place.directory
