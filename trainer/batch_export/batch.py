# SPDX-License-Identifier: Apache-2.0
"""One command's releases: planned, exported, judged and shown, under one claim."""

from collections.abc import Sequence
from dataclasses import dataclass

from preprocessing.claims.claims import Claim, claimed
from preprocessing.foundation.commands import WorkError, count_of, first_of
from trainer.batch_export.exporting import Exporter, by_checkpoint, each_told
from trainer.batch_export.gate import Requirements
from trainer.batch_export.judging import JudgedText, Judging
from trainer.batch_export.plan import Chosen, ExportPlan, check_tree, plan_exports
from trainer.batch_export.plan import ExportTask as Task

# Beside the models: a model's own claim is taken and given for each release.
CLAIM_NAME = ".export-claim.json"


@dataclass(frozen=True)
class ExportBatch:
    """What one command was asked for.

    Attributes:
        runs: their directories, local or cloud.
        checkpoints: which of each.
        weights: some of `WEIGHT_TYPES`.
        models: the tree of releases, local or cloud.
        required: what each new release must meet.
        text: what all are judged on; None judges none but by size, where required.
    """

    runs: Sequence[str]
    checkpoints: Sequence[Chosen]
    weights: Sequence[str]
    models: str
    required: Requirements
    text: JudgedText | None


def export_batch(asked: ExportBatch) -> None:
    """Exports what is missing, judges what was not, and shows what is there.

    Raises:
        UsageError: another batch export is at work in the tree, or what is asked for
            cannot be; nothing was changed.
        WorkError: some failed or were refused; all others are there.
    """
    models = asked.models
    check_tree(models)
    what = f"the tree {models} for a batch export"
    with claimed(models, what, CLAIM_NAME) as claim:
        plan = plan_exports(asked.runs, asked.checkpoints, asked.weights, models)
        judging = _judging(asked, plan)
        failures = _exported(plan, models, judging, claim)
        if judging is not None:
            judging.tell()
    if failures:
        wanted = len(plan.missing) + len(plan.there)
        raise WorkError(_told(failures, wanted))


def _judging(asked: ExportBatch, plan: ExportPlan) -> Judging | None:
    if asked.text is None and not asked.required.each:
        return None
    names = [task.name for task in plan.missing]
    return Judging(asked.models, names, asked.required, asked.text)


def _exported(
    plan: ExportPlan, models: str, judging: Judging | None, claim: Claim
) -> list[str]:
    """Returns the sources of the releases that failed; why was told."""
    exporter = Exporter(models, None if judging is None else judging.judge)

    def export(task: Task) -> Task:
        claim.check()
        if judging is not None:
            judging.refuse_known(task)
        return exporter.export(task)

    def judge(task: Task) -> Task:
        assert judging is not None
        judging.judge_there(task)
        return task

    if plan.there:
        wanted = len(plan.missing) + len(plan.there)
        print(f"{len(plan.there)} of {count_of(wanted, 'release')} there already")
    unjudged = [] if judging is None else [*filter(judging.lacks, plan.there)]
    failures = each_told(by_checkpoint(unjudged), "judged", judge)
    return failures + each_told(by_checkpoint(plan.missing), "exported", export)


def _told(failed: Sequence[str], wanted: int) -> str:
    return (
        f"wanted {count_of(wanted, 'release')}, found {len(failed)} failed: "
        f"{first_of(failed)}, for what is told above. Correct the cause and run the "
        "same command again: it does what is missing"
    )
