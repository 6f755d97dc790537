# SPDX-License-Identifier: Apache-2.0
"""Judges the releases of one command, and refuses those that miss what is required.

before work   the split can be read, and every reference has its figures
a release     checked, not visible yet -> figures, kept in it -> met or refused
at the end    the tree's releases beside each other, with those refused
"""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata

from preprocessing.claims.claims import claimed
from preprocessing.contracts import releases
from preprocessing.contracts.manifest import read_manifest
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError, WorkError
from trainer.batch_export.figures import (
    LASTING,
    ReleaseFigures,
    read_figures,
    write_figures,
)
from trainer.batch_export.gate import Figures, Requirements, references_of
from trainer.batch_export.judged import local_release, measure_release, release_size
from trainer.batch_export.plan import ExportTask
from trainer.batch_export.releases_page import write_listing
from trainer.batch_export.releases_table import (
    ListedRelease,
    judged_releases,
    listed,
    read_refused,
    table_lines,
)
from trainer.batch_export.split_texts import check_readable
from trainer.labels.labels import labels_of
from trainer.run.run_directory import read_run

# (Run, step) -> bits per byte of the split, as the trainer finds it.
TrainerBits = Callable[[str, int], float | None]


@dataclass(frozen=True)
class JudgedText:
    """What releases are judged on.

    Attributes:
        dataset: encoded with the tokenizer of all runs, local or cloud.
        split: of the dataset.
        sha256: of the dataset's manifest.
        trainer_bits: asked once for each checkpoint.
    """

    dataset: str
    split: str
    sha256: str
    trainer_bits: TrainerBits


def open_text(
    dataset: str, split: str, runs: Iterable[str], trainer_bits: TrainerBits
) -> JudgedText:
    """Returns what releases are judged on.

    Raises:
        UsageError: it has no such split, or is none that releases of the runs can read.
    """
    manifest = read_manifest(dataset)
    if split not in manifest.splits:
        raise UsageError(
            f"wanted one of {', '.join(manifest.splits)}, the splits of {dataset}, for "
            f"--split, found {split}. Change it"
        )
    for run in runs:
        check_readable(manifest, dataset, read_run(run).manifest.tokenizer_sha256)
    return JudgedText(dataset, split, manifest.dataset_hash, trainer_bits)


class Judging:
    """Judges the releases of one command.

    Args:
        models: their tree, local or cloud.
        names: models that get releases; references are what their labels show now, and
            their highest version now.
        required: what each release must meet.
        text: what bits per byte are measured on; None measures sizes alone.

    Raises:
        UsageError: a reference, or a figure of it, is missing.
    """

    def __init__(
        self,
        models: str,
        names: Iterable[str],
        required: Requirements,
        text: JudgedText | None,
    ) -> None:
        self._models, self._required, self._text = models, required, text
        self._references: dict[str, Figures] = {}
        self._refused: list[ListedRelease] = []
        for name in dict.fromkeys(names) if required.each else ():
            self._references[name] = references_of(
                storage.join(models, name),
                required.references(),
                labels_of(models, name),
                None if text is None else (text.sha256, text.split),
            )
            required.check(name, self._references[name])
        self._known = {
            (line.name, line.checkpoint_sha256, line.weights): line
            for line in read_refused(models)
            if line.quern == metadata.version("quern") and self._of_text(line.figures)
        }

    def refuse_known(self, task: ExportTask) -> None:
        """Refuses what the last command here measured, and would be refused again.

        Not by speed or memory, which may be others now.

        Raises:
            WorkError: its figures of then miss what is required now.
        """
        line = self._known.get((task.name, task.digest, task.weights))
        if line is None or not self._required.metrics() <= LASTING:
            return
        references = self._references.get(task.name, {})
        refusals = "; ".join(self._required.refusals(line.figures, references))
        if refusals:
            self._refused.append(dataclasses.replace(line, refused=refusals))
            raise WorkError(
                f"refused by --require: {refusals}, as it was measured before. It was "
                "not exported again"
            )

    def judge(self, task: ExportTask, staging: str) -> str:
        """Measures a release that is not visible yet, which keeps its figures.

        Returns:
            Its line of the table, with the head.

        Raises:
            UsageError: the release cannot read the dataset.
            WorkError: it cannot be measured, or is refused.
        """
        figures = self._measured(task, staging)
        write_figures(staging, figures)
        references = self._references.get(task.name, {})
        refusals = "; ".join(self._required.refusals(figures, references))
        version = None if refusals else task.version
        line = listed(staging, task.name, version, figures, refusals)
        if refusals:
            self._refused.append(line)
            raise WorkError(f"refused by --require: {refusals}. It was not published")
        return "\n".join(table_lines([line]))

    def lacks(self, task: ExportTask) -> bool:
        """Tells whether a release that is there was never judged on the text."""
        if self._text is None:
            return False
        found = read_figures(self._directory(task))
        return found is None or not self._of_text(found)

    def judge_there(self, task: ExportTask) -> None:
        """Measures a release that is there; its figures take the place of others.

        No requirement is asked: it is published.

        Raises:
            UsageError: an export is at work in its model, or as `judge`.
            WorkError: it cannot be measured.
        """
        release = self._directory(task)
        # So that nobody prunes it meanwhile.
        model = storage.join(self._models, task.name)
        with claimed(model, f"the versions of {model}") as claim:
            with local_release(release) as directory:
                figures = self._measured(task, directory)
            claim.check()
            write_figures(release, figures)

    def lines(self) -> list[ListedRelease]:
        """Returns the judged releases of the tree, and those refused."""
        return [*judged_releases(self._models), *self._refused]

    def tell(self) -> None:
        """Prints the releases of the tree beside each other, and writes their page."""
        lines = self.lines()
        if lines:
            print("\n".join(table_lines(lines)), flush=True)
            write_listing(self._models, lines)

    def _of_text(self, figures: ReleaseFigures) -> bool:
        """Tells whether figures are of the split, where releases are judged on one."""
        text, found = self._text, (figures.dataset, figures.split)
        return text is None or found == (text.sha256, text.split)

    def _directory(self, task: ExportTask) -> str:
        model = storage.join(self._models, task.name)
        return storage.join(model, releases.versions(model)[task.version])

    def _measured(self, task: ExportTask, directory: str) -> ReleaseFigures:
        if self._text is None:
            return ReleaseFigures(release_size(directory))
        text = self._text
        bits = text.trainer_bits(task.run, task.step)
        return measure_release(directory, text.dataset, text.split, bits)
