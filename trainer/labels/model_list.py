# SPDX-License-Identifier: Apache-2.0
"""The versions of a tree of models, and what labels show, as a table."""

from preprocessing.contracts.releases import versions
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from trainer.labels.labels import entries_of
from trainer.labels.model_config_file import ModelEntry
from trainer.labels.whole_release import check_whole

_HEADER = ("name", "version", "labels", "run", "step", "weights", "MB")


def list_models(models: str) -> list[str]:
    """Returns a line for each version of each model, below a header.

    A version that is not whole is told with what is wrong; so is a label on a version
    that is not there.

    Raises:
        UsageError: there is no model, or `models.config` is not TensorFlow Serving's.
    """
    entries = entries_of(models)
    found = {name: versions(storage.join(models, name)) for name in _names(models)}
    found = {name: those for name, those in found.items() if those}
    if not found and not entries:
        raise UsageError(
            f"wanted a tree of models MODELS/NAME/VERSION at {models}, found no "
            "version. Name the directory above the models"
        )
    rows: list[tuple[str, ...]] = [_HEADER]
    for name in sorted({*found, *entries}):
        entry = entries.get(name, ModelEntry(""))
        there = found.get(name, {})
        shown = {*entry.labels.values(), *entry.versions}
        for version in sorted({*there, *shown}):
            rows.append(_row(models, name, version, there.get(version), entry))
    columns = range(len(_HEADER))
    widths = [max(len(row[column]) for row in rows) for column in columns]
    return [
        "  ".join(row[column].ljust(widths[column]) for column in columns).rstrip()
        + "".join(f"  {remark}" for remark in row[len(_HEADER) :])
        for row in rows
    ]


def _names(models: str) -> list[str]:
    return [
        name
        for name in storage.list_names(models)
        if not name.startswith(".") and storage.is_dir(storage.join(models, name))
    ]


def _row(
    models: str, name: str, version: int, place: str | None, entry: ModelEntry
) -> tuple[str, ...]:
    labels = [label for label, shown in entry.labels.items() if shown == version]
    first = (name, str(version), ", ".join(labels) or "-")
    if place is None:
        return (*first, "-", "-", "-", "-", "is not there")
    try:
        lineage = check_whole(storage.join(models, name, place))
    except UsageError as error:
        found = str(error).partition(", found ")[2].partition(". ")[0]
        return (*first, "-", "-", "-", "-", f"not whole: {found}")
    size = sum(lineage.files.values()) / 1e6
    return (
        *first,
        lineage.run or "-",
        f"{lineage.step:,}",
        lineage.weights,
        f"{size:,.1f}" if lineage.files else "-",
    )
