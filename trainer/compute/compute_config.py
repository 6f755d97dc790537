# SPDX-License-Identifier: Apache-2.0
"""How a step is computed on the devices at hand: numbers are the same to rounding."""

from dataclasses import dataclass

from preprocessing.foundation.commands import UsageError, suggest
from trainer.compute.compilation import Compilation

XLA = ("auto", *(each.value for each in Compilation))


@dataclass(frozen=True)
class ComputeConfig:
    """What devices are made to do, which a resume on others may change.

    Attributes:
        xla: what of a step XLA compiles: "none", "parts" or "whole"; "auto" is whole on
            GPUs and TPUs, and on CPUs parts where a step is long enough to repay some
            seconds of compilation.
        lanes: slices of a micro-batch that a CPU computes side by side, each on its
            share of the cores (`trainer.compute.lanes`); they divide its rows. 0
            chooses: on CPUs as many as cores where a step is long enough, else 1.
        peak_flops: FLOP/s of one device that `mfu` is measured against; None takes
            the device's published or measured peak.
    """

    xla: str = "auto"
    lanes: int = 0
    peak_flops: float | None = None

    def __post_init__(self) -> None:
        if self.xla not in XLA:
            raise UsageError(
                f"wanted compute.xla to be one of {', '.join(XLA)}, found "
                f"{self.xla!r}.{suggest(self.xla, XLA)} Choose one"
            )
        if self.lanes < 0:
            raise UsageError(
                f"wanted compute.lanes of 0 or more, found {self.lanes}. Use 0 to have "
                "it chosen"
            )
        if self.peak_flops is not None and self.peak_flops <= 0:
            raise UsageError(
                f"wanted compute.peak_flops above 0, found {self.peak_flops}. Raise it"
            )
