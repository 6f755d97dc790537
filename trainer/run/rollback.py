# SPDX-License-Identifier: Apache-2.0
"""Rollbacks of a run: to which checkpoint, and which rows are left out from then on.

    RUN/rollbacks.jsonl   {"to_step", "omitted": [[first, end], …]}   one per rollback
    RUN/omitted.jsonl     one line per row left out: where it stands, its documents

The first file is what a resume reads; the second says to people what the rows were.
Positions count the rows of the training stream from the beginning of the run.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import WorkError, count_of
from trainer.run.position import Fault
from trainer.step.guard import GuardConfig

ROLLBACKS_NAME = "rollbacks.jsonl"
OMITTED_NAME = "omitted.jsonl"
Range = tuple[int, int]


@dataclass(frozen=True)
class Rollback:
    """One rollback.

    Attributes:
        to_step: the checkpoint it went back to; 0 is the beginning.
        omitted: stream positions [first, end) left out since then.
    """

    to_step: int
    omitted: tuple[Range, ...]


def read_rollbacks(run: str) -> list[Rollback]:
    """Returns the rollbacks of a run, oldest first; none if there were none."""
    return [
        Rollback(line["to_step"], tuple((a, b) for a, b in line["omitted"]))
        for line in _lines(storage.join(run, ROLLBACKS_NAME))
    ]


def omitted_ranges(rollbacks: Iterable[Rollback]) -> list[Range]:
    """Returns all omitted ranges, ascending, touching ones joined."""
    joined: list[Range] = []
    for first, end in sorted(r for each in rollbacks for r in each.omitted):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((first, end))
    return joined


def plan_rollback(
    faults: Sequence[Fault],
    checkpoints: Sequence[int],
    rollbacks: Sequence[Rollback],
    config: GuardConfig,
) -> int:
    """Returns the step to go back to: the last checkpoint before the first fault.

    Where every checkpoint is later than that, it is the earliest of them; where there
    is none, the beginning.

    Args:
        faults: the skipped steps, oldest first.
        checkpoints: steps of the complete checkpoints, ascending.
        rollbacks: those of before.
        config: says how many may be made.

    Raises:
        WorkError: there have been too many.
    """
    first, last = faults[0].step, faults[-1].step
    if len(rollbacks) >= config.max_rollbacks:
        raise WorkError(
            f"wanted updates to be used, found {len(faults)} skipped from step {first} "
            f"to {last} after {count_of(len(rollbacks), 'rollback')}. Lower "
            "optimizer.peak_learning_rate, or look at omitted.jsonl in the run"
        )
    before = [step for step in checkpoints if step < first]
    return before[-1] if before else min(checkpoints, default=0)


def record(run: str, rollback: Rollback, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes one more rollback, the rows it leaves out first; the chief alone does.

    Raises:
        WorkError: the files cannot be written.
    """
    try:
        _append(storage.join(run, OMITTED_NAME), rows)
        fields = dataclasses.asdict(rollback)
        _append(storage.join(run, ROLLBACKS_NAME), [fields])
    except OSError as error:
        raise WorkError(
            f"wanted to record the rows left out in {run}, failed: {error.strerror}. "
            "Free some space; the same command resumes"
        ) from error


def _append(path: str, lines: Iterable[Mapping[str, Any]]) -> None:
    # Whole and at once: a bucket cannot append, and a kill must not leave half a line.
    everything = [*_lines(path), *lines]
    text = "".join(strict_json.dumps(line) + "\n" for line in everything)
    storage.write_atomically(path, text.encode(), durable=True)


def _lines(path: str) -> list[dict[str, Any]]:
    try:
        text = storage.read_bytes(path).decode()
    except (FileNotFoundError, NotADirectoryError):  # what it is is judged later
        return []
    return [strict_json.loads(line) for line in text.splitlines()]
