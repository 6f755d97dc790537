# SPDX-License-Identifier: Apache-2.0
"""Which releases are wanted of some runs, and which of them are there already.

    MODELS/{name of the run}[-{bfloat16|int8}]/{version}

A release is there where a whole one was made of the same values (the digest of the
checkpoint's index), with the same weights, by this version of Quern. What is missing
gets the next versions, the earlier step the lower one.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from preprocessing.contracts import releases
from preprocessing.contracts.releases import WEIGHT_TYPES, Lineage
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from trainer.labels.whole_release import check_whole
from trainer.release.publish import check_own_versions
from trainer.release.run_facts import checkpoint_sha256
from trainer.release.servable import check_servable
from trainer.run.checkpoint_files import choose_step, steps
from trainer.run.run_directory import read_run

# Which checkpoints of a run: its newest, that of the lowest validation loss, all, or
# the one of a step.
Chosen = int | Literal["last", "best", "all"]


@dataclass(frozen=True)
class ExportTask:
    """A release that is wanted.

    Attributes:
        run: the run's directory, local or cloud.
        step: of the checkpoint.
        weights: one of `WEIGHT_TYPES`.
        name: the model's, `{run name}[-{weights}]`.
        version: its directory's name, or of what is missing the one that it gets where
            all before it are made: a release that fails takes none.
        digest: SHA-256 of the checkpoint's index.
    """

    run: str
    step: int
    weights: str
    name: str
    version: int
    digest: str

    def __str__(self) -> str:
        return f"{self.name}/{self.version} (step {self.step:,})"

    @property
    def source(self) -> str:
        """What it is called that has no version: by what it was to be made of."""
        return f"{self.name} (step {self.step:,})"


@dataclass(frozen=True)
class ExportPlan:
    """What is wanted, in the order of runs, weights and steps.

    Attributes:
        missing: what is to be exported; versions are those it gets.
        there: what need not be; versions are those it has.
    """

    missing: tuple[ExportTask, ...]
    there: tuple[ExportTask, ...]


@dataclass(frozen=True)
class _Found:
    """What a model's directory holds: the next version, and releases by their source.

    A source is (digest of the checkpoint, step).
    """

    following: int
    whole: Mapping[tuple[str, int], int]


def plan_exports(
    runs: Sequence[str],
    checkpoints: Sequence[Chosen],
    weights: Sequence[str],
    models: str,
) -> ExportPlan:
    """Returns what is to be exported; changes nothing.

    Args:
        runs: their directories, local or cloud.
        checkpoints: which of each run; what two of them name counts once.
        weights: some of `WEIGHT_TYPES`.
        models: the tree of releases, local or cloud.

    Raises:
        UsageError: a run is none, has no such checkpoint or cannot be served, two
            releases would have one name, or something that quern-export did not write
            lies where they belong.
    """
    names = _names(runs, list(dict.fromkeys(weights)))
    check_tree(models)
    sources = {run: _sources(run, checkpoints) for run in dict.fromkeys(runs)}
    missing, there = [], []
    for name, (run, kind) in names.items():
        found = _found(storage.join(models, name), kind)
        following = found.following
        for digest, step in sources[run]:
            version = found.whole.get((digest, step))
            if version is None:
                task = ExportTask(run, step, kind, name, following, digest)
                missing.append(task)
                following += 1
            else:
                there.append(ExportTask(run, step, kind, name, version, digest))
    return ExportPlan(tuple(missing), tuple(there))


def run_name(run: str) -> str:
    """Returns the name of a run's directory.

    Raises:
        UsageError: it has none, or one that a server reads as a version.
    """
    path = run.rstrip("/") if storage.is_cloud(run) else os.path.abspath(run)
    name = path.rpartition("/")[2]
    if not name or releases.version_of(name) is not None:
        raise UsageError(
            f"wanted a run with a name that can be a model's, found {run}, whose name "
            f"is {repr(name) if name else 'empty'}. Rename its directory"
        )
    return name


def _names(runs: Sequence[str], weights: list[str]) -> dict[str, tuple[str, str]]:
    """Returns model's name -> (run, weights)."""
    names: dict[str, tuple[str, str]] = {}
    for run in runs:
        for kind in weights:
            plain = kind == WEIGHT_TYPES[0]
            name = run_name(run) + ("" if plain else f"-{kind}")
            if name in names:
                raise UsageError(
                    f"wanted --runs with a name each, found {names[name][0]} and {run} "
                    f"which both give {name}. Export them into two trees, or rename one"
                )
            names[name] = run, kind
    return names


def check_tree(models: str) -> None:
    """Raises `UsageError` where no tree of models is or can be."""
    if storage.exists(models) and not storage.is_dir(models):
        raise UsageError(
            f"wanted a directory of models for --output, {models} is a file. Name a "
            "directory"
        )
    found = releases.versions(models)
    if found:
        raise UsageError(
            f"wanted a directory of models for --output, found {next(iter(found))} in "
            f"{models}, a version of one model. Name the directory above it"
        )


def _sources(run: str, checkpoints: Sequence[Chosen]) -> list[tuple[str, int]]:
    """Returns (digest, step) of the checkpoints that are wanted, ascending by step."""
    check_servable(read_run(run).manifest)
    chosen = {step for each in checkpoints for step in _steps(run, each)}
    return [(checkpoint_sha256(run, step), step) for step in sorted(chosen)]


def _steps(run: str, chosen: Chosen) -> Iterator[int]:
    if chosen == "all":
        choose_step(run, None)  # refuses a run that has none
        yield from steps(run)
    else:
        yield choose_step(run, None if chosen == "last" else chosen)


def _found(model: str, weights: str) -> _Found:
    """Returns what is in a model's directory.

    Raises:
        UsageError: another tool wrote there, or there is no next version.
    """
    if storage.exists(model) and not storage.is_dir(model):
        raise UsageError(
            f"wanted a model's directory at {model}, found a file. Move it away"
        )
    check_own_versions(model)
    named = releases.versions(model)
    following = max([0, *named]) + 1
    if following > releases.LARGEST_VERSION:
        raise UsageError(
            f"wanted a version after those in {model}, found {following - 1}, the "
            "highest that TensorFlow Serving reads. Choose another --output"
        )
    whole = {}
    for version, name in named.items():
        lineage = _lineage(storage.join(model, name))
        if lineage is not None and _same_make(lineage, weights):
            whole[lineage.checkpoint_sha256, lineage.step] = version
    return _Found(following, whole)


def _lineage(release: str) -> Lineage | None:
    """Returns the lineage of a whole release; None of one that was cut short."""
    try:
        return check_whole(release)
    except UsageError:
        return None


def _same_make(lineage: Lineage, weights: str) -> bool:
    """Tells whether a release was made as it would be now."""
    quern = metadata.version("quern")
    return lineage.weights == weights and lineage.versions.get("quern") == quern
