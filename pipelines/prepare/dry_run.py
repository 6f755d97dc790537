# SPDX-License-Identifier: Apache-2.0
"""What a dry run prints: what each stage keeps, and what it drops for which reason."""

from pipelines.prepare.results import Results
from preprocessing.foundation.commands import count_of

_MOST_CHECKS = 20
_MOST_FILES = 100


def contamination_lines(results: Results) -> list[str]:
    """Returns a line for each evaluation file: what of it was found in the corpus."""
    return [
        f"{task.name}: {count_of(task.documents, 'document')} rejected, which share "
        f"{count_of(task.ngrams, 'run')} with {task.touched:,} of its "
        f"{count_of(task.texts, 'text')}; "
        f"{task.short:,} are too short to be found"
        for task in results.contamination
    ]


def dry_run_table(results: Results) -> str:
    """Returns the waterfall of documents and bytes, then the reasons by frequency."""
    lines = [f"{'after':<24}{'documents':>12}{'dropped':>10}{'text bytes':>16}"]
    before = results.stages[0].documents
    for stage in results.stages:
        dropped = before - stage.documents
        before = stage.documents
        lines.append(
            f"{stage.name:<24}{stage.documents:>12,}{dropped or '':>10}"
            f"{stage.text_bytes:>16,}"
        )
    ranked = sorted(results.checks.items(), key=lambda item: (-item[1], item[0]))
    if ranked:
        lines.append("")
        lines.append(f"{'dropped':>12}  reason")
        lines += [f"{count:>12,}  {name}" for name, count in ranked[:_MOST_CHECKS]]
        rest = sum(count for _, count in ranked[_MOST_CHECKS:])
        lines += [f"{rest:>12,}  others"] if rest else []
    lines += contamination_lines(results)
    lines += results.inputs.lines(_MOST_FILES)
    lines.append("nothing was written (--dry_run)")
    return "\n".join(lines)
