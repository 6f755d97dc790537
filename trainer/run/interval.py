# SPDX-License-Identifier: Apache-2.0
"""What happened between two lines of metrics."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """What happened since the last line of metrics; times are of this process.

    Names are those of `StepMetrics`, whose sums and last values these are.

    Attributes:
        step: the last step of it.
        loss_sum: nats over its targets, those of skipped steps left out.
        weight_sum: number of those targets.
        gradient_norm: of the last step, before clipping.
        learning_rate: of the last step.
        loss_scale: of the last step.
        rows: rows read.
        seconds: of training.
        wait_seconds: of those, waiting for rows.
        skipped: number of updates skipped, whatever the reason.
        spikes: of those, because of a gradient norm far beyond the last ones.
        overflows: of those, because float16 overflowed.
    """

    step: int
    loss_sum: float = 0.0
    weight_sum: float = 0.0
    gradient_norm: float = 0.0
    learning_rate: float = 0.0
    loss_scale: float = 1.0
    rows: int = 0
    seconds: float = 0.0
    wait_seconds: float = 0.0
    skipped: int = 0
    spikes: int = 0
    overflows: int = 0
