# SPDX-License-Identifier: Apache-2.0
"""Which checkpoints of a run are kept: the last, every so many steps, and the best.

What is best is read from `metrics.jsonl`, so it survives restarts and is stored once.
A checkpoint is written before its evaluation: it can be the best from the next one on.
"""

import math
from collections.abc import Collection, Iterable

from preprocessing.foundation import storage
from trainer.run.loop_config import LoopConfig
from trainer.run.metrics import read_lines
from trainer.run.run_directory import METRICS_NAME


def retained(
    steps: Collection[int], keep_last: int, keep_every: int, best: Iterable[int]
) -> set[int]:
    """Returns those of `steps` that are kept; the newest always is.

    Args:
        steps: of the checkpoints that are there.
        keep_last: how many of the newest are kept, 1 or more.
        keep_every: all multiples of it are kept; 0 is none.
        best: steps kept for their validation loss; those not in `steps` are ignored.
    """
    kept = set(sorted(steps)[-keep_last:])
    if keep_every:
        kept |= {step for step in steps if step % keep_every == 0}
    return kept | (set(best) & set(steps))


def best_steps(run: str) -> list[int]:
    """Returns the steps evaluated in `run`, the lowest validation loss first.

    Of equal losses the later step comes first; a loss that is not finite is none.
    """
    lines = read_lines(storage.join(run, METRICS_NAME))
    losses = {
        line["step"]: loss
        for line in lines
        if (loss := line.get("validation_loss")) is not None and math.isfinite(loss)
    }
    return sorted(losses, key=lambda step: (losses[step], -step))


def kept_steps(run: str, config: LoopConfig, steps: Collection[int]) -> set[int]:
    """Returns those of a run's checkpoints that its configuration keeps."""
    best = [step for step in best_steps(run) if step in steps][: config.keep_best]
    return retained(steps, config.keep_last, config.keep_every, best)
