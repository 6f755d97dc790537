# SPDX-License-Identifier: Apache-2.0
"""What training steps measured, by the names that sums of them have too."""

from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

Array = TypeVar("Array")


class StepMetrics(NamedTuple, Generic[Array]):
    """What each step of a loop measured; each `[num_steps]`, float32.

    They are tensors where steps are traced, and arrays once those are done; of one
    step alone they are scalars.

    Attributes:
        loss_sum: nats, the cross-entropy summed over the global batch's targets; of a
            skipped step it is no part of a line's loss.
        weight_sum: number of those targets.
        gradient_norm: global norm before clipping.
        learning_rate: the step's rate.
        skipped: 0, or why the step was skipped (`trainer.step.guard`).
        loss_scale: what the loss was multiplied by, 1 but for float16.
    """

    loss_sum: Array
    weight_sum: Array
    gradient_norm: Array
    learning_rate: Array
    skipped: Array
    loss_scale: Array


def as_arrays(metrics: StepMetrics[Any]) -> StepMetrics[np.ndarray]:
    """Returns tensors' values, for which it waits."""
    return StepMetrics(*(tensor.numpy() for tensor in metrics))
