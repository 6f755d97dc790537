# SPDX-License-Identifier: Apache-2.0
"""Removes old versions of a model, never one that a label shows or a server loads."""

import os
import shutil

from preprocessing.claims.claims import claimed
from preprocessing.contracts import releases
from preprocessing.contracts.releases import LINEAGE_NAME, SAVED_MODEL_NAME
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError, count_of, note
from trainer.labels.label_history import read_moves, shown_before
from trainer.labels.label_tree import ModelPlace, one_at_a_time, place_of
from trainer.labels.labels import entries_of
from trainer.labels.model_config_file import ModelEntry

_REMOVED = ".pruned-"


def prune(path: str, keep: int) -> list[int]:
    """Removes all versions but the newest ones and those that are in use.

    What a removal that was killed, or an upload that was cut short, has left goes too.

    Args:
        path: the model's directory, MODELS/NAME.
        keep: how many of the newest stay, labels or not.

    Returns:
        The versions that are gone.

    Raises:
        UsageError: a version is no release of Quern's, an export is at work there, or
            `models.config` is not TensorFlow Serving's; nothing is removed.
    """
    if keep < 1:
        raise UsageError(f"wanted --keep 1 or more, found {keep}. Change it")
    place = place_of(path)
    with (
        one_at_a_time(place.models) as claim,
        claimed(place.directory, f"the versions of {place.directory}") as versions,
    ):
        entry = entries_of(place.models).get(place.name, ModelEntry(""))
        shown = {*entry.labels.values(), *entry.versions}
        whole, parts = _sorted_out(place)
        old = [version for version in list(whole)[:-keep] if version not in shown]
        _note_rollbacks(place, entry, old)
        for version in old:
            claim.check()
            versions.check()
            _remove(place.directory, whole[version])
        for name in parts:
            _remove(place.directory, name)
        _clear(place.directory)
    return old


def _sorted_out(place: ModelPlace) -> tuple[dict[int, str], list[str]]:
    """Returns (the releases, oldest first, the names of what is left of others)."""
    whole: dict[int, str] = {}
    parts: list[str] = []
    for version, name in reversed(releases.versions(place.directory).items()):
        release = storage.join(place.directory, name)
        if storage.exists(storage.join(release, SAVED_MODEL_NAME)):
            releases.read_lineage(release)
            whole[version] = name
        elif whole and storage.exists(storage.join(release, LINEAGE_NAME)):
            # No export is at work, for we hold its claim; what a person copies there
            # by hand is newer than all.
            parts.append(name)
        else:
            note(f"{release} is no whole release, and is left there")
    return dict(sorted(whole.items())), parts


def _note_rollbacks(place: ModelPlace, entry: ModelEntry, old: list[int]) -> None:
    moves = read_moves(place.directory)
    for label, version in entry.labels.items():
        before = shown_before(moves, label, version)
        if before and before[-1] in old:
            note(
                f"{label} of {place.name} showed {before[-1]} before, which goes: it "
                "cannot be rolled back"
            )


def _remove(directory: str, name: str) -> None:
    """Removes a version; at no moment is half of one there by its name."""
    path = storage.join(directory, name)
    if storage.is_cloud(path):
        # A bucket renames nothing: without this file a version counts as no release,
        # and with the other one a removal that was cut short is known by the next.
        storage.remove_file(storage.join(path, SAVED_MODEL_NAME))
        for each in sorted(
            releases.file_names(path), key=lambda each: each == LINEAGE_NAME
        ):
            storage.remove_file(storage.join(path, each))
        return
    if os.path.islink(path):
        os.unlink(path)
        return
    hidden = os.path.join(directory, f"{_REMOVED}{name.strip()}")
    shutil.rmtree(hidden, ignore_errors=True)
    os.rename(path, hidden)
    shutil.rmtree(hidden)


def _clear(directory: str) -> None:
    """Removes what a removal that was killed has left on a disk."""
    for name in storage.list_names(directory):
        if name.startswith(_REMOVED):
            storage.remove_tree(storage.join(directory, name))


def described(removed: list[int]) -> str:
    """Returns what was removed, in words."""
    if not removed:
        return "nothing to remove"
    listed = ", ".join(map(str, removed))
    return f"removed {count_of(len(removed), 'version')}: {listed}"
