# SPDX-License-Identifier: Apache-2.0
"""How many rows each step takes: all of them alike, or more and more at the beginning.

A ramp goes from `initial_batch_size` to `global_batch_size` in equal increments, one
`initial_batch_size` each, spread evenly over `ramp_steps` steps. With 2, 8 and 6:

    step  0 1 2 3 4 5 6 7 8 …
    rows  2 2 4 4 6 6 8 8 8 …

It depends on the step alone, so a resumed run, or one on other devices, has the same.
Small batches suffice early on, where gradients of different rows agree the most
(McCandlish et al. 2018, "An empirical model of large-batch training").
"""

import functools
from dataclasses import dataclass

import numpy as np

from preprocessing.foundation.commands import UsageError


@dataclass(frozen=True)
class BatchSchedule:
    """Rows of each step, over all replicas; steps count from 0.

    Attributes:
        global_batch_size: rows of a step once the ramp is over.
        initial_batch_size: rows of the first step, a divisor of it; None has no ramp.
        ramp_steps: steps of fewer rows than `global_batch_size`.
    """

    global_batch_size: int
    initial_batch_size: int | None = None
    ramp_steps: int = 0

    def __post_init__(self) -> None:
        initial, full = self.initial_batch_size, self.global_batch_size
        if self.ramp_steps < 0 or (initial is None) != (self.ramp_steps == 0):
            raise UsageError(
                "wanted data.initial_batch_size and data.ramp_steps above 0 together, "
                f"found {initial} and {self.ramp_steps}. Set both or neither"
            )
        if initial is not None and not (0 < initial < full and full % initial == 0):
            raise UsageError(
                "wanted data.initial_batch_size below data.global_batch_size and a "
                f"divisor of it, found {initial} and {full}. Change one of them"
            )

    @property
    def smallest(self) -> int:
        """Rows of the first step; every step takes a multiple of them."""
        return self.initial_batch_size or self.global_batch_size

    @functools.cached_property
    def _beginnings(self) -> np.ndarray:
        """The step from which each increment counts, ascending, int64 [increments]."""
        last = self.global_batch_size // self.smallest - 1
        steps = [-(-level * self.ramp_steps // last) for level in range(1, last + 1)]
        return np.array([0, *steps], np.int64)

    def size(self, step: int) -> int:
        """Returns the rows of `step`."""
        begun = int(np.searchsorted(self._beginnings, step, side="right"))
        return begun * self.smallest

    def rows_before(self, step: int) -> int:
        """Returns the rows of all steps before `step`."""
        steps_of_each = np.maximum(step - self._beginnings, 0)
        return int(steps_of_each.sum()) * self.smallest

    def constant_until(self, step: int) -> int | None:
        """Returns the first step of another size than `step`; None if none follows."""
        begun = int(np.searchsorted(self._beginnings, step, side="right"))
        if begun == len(self._beginnings):
            return None
        return int(self._beginnings[begun])
