# SPDX-License-Identifier: Apache-2.0
"""Where a run stands, and which updates were skipped on the way."""

from dataclasses import dataclass

from preprocessing.foundation.commands import count_of


@dataclass(frozen=True)
class Fault:
    """A step whose update was skipped, and the stream positions it read."""

    step: int
    first_row: int
    end_row: int


@dataclass(frozen=True)
class Position:
    """Where a run stands; with weights and moments, all a resume needs.

    Attributes:
        step: optimizer steps done.
        rows_consumed: rows of the training stream read, omitted ones included.
        loss_sum: nats over the targets since the last line of metrics.
        weight_sum: number of those targets.
        faults: skipped updates among the last steps, which may lead to a rollback.
    """

    step: int = 0
    rows_consumed: int = 0
    loss_sum: float = 0.0
    weight_sum: float = 0.0
    faults: tuple[Fault, ...] = ()


class RollBack(Exception):
    """More updates were skipped than the budget allows.

    Attributes:
        faults: the skipped steps, oldest first.
    """

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__(f"{count_of(len(faults), 'update')} skipped")
        self.faults = faults
