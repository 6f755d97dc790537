# SPDX-License-Identifier: Apache-2.0
"""What of a train step XLA compiles: chosen once, and handed to whatever is traced."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any

import tensorflow as tf

from trainer.compute.fusion import compiling, fusing

# XLA takes 1 to 2 s for a decoder's parts, which shorter steps are too short to repay:
# 4 GFLOP take a core some 40 ms, and parts save a tenth of them.
_PARTS_FROM = 4e9


class Compilation(Enum):
    """What of a step XLA compiles.

    Attributes:
        NONE: nothing.
        PARTS: what lies between matrix products (`trainer.compute.fusion`).
        WHOLE: all that a device does alone.
    """

    NONE = "none"
    PARTS = "parts"
    WHOLE = "whole"

    def alone(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps a function that runs on one device; XLA compiles what is chosen.

        The function takes tensors, and reaches neither variables nor other devices.
        """

        def call(*arguments: Any) -> Any:
            with self.tracing():
                return function(*arguments)

        if self is not Compilation.WHOLE:
            return call
        return tf.function(call, autograph=False, jit_compile=True)

    def tracing(self) -> AbstractContextManager[None]:
        """Returns a context in which functions are traced as `alone` traces them."""
        if self is Compilation.WHOLE:
            return compiling()
        return fusing(self is Compilation.PARTS)

    def together(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps a function that may reach variables: at most its parts are compiled."""

        def call(*arguments: Any) -> Any:
            with fusing(self is not Compilation.NONE):
                return function(*arguments)

        return call


def choose_compilation(
    asked: str, micro_batch_flops: float, coordinated: bool
) -> Compilation:
    """Chooses what XLA compiles: as asked for, or what is fastest on these devices.

    Args:
        asked: `compute.xla`.
        micro_batch_flops: what a micro-batch costs, forward and backward.
        coordinated: whether a coordinator hands the steps to workers.
    """
    if asked != "auto":
        return Compilation(asked)
    if tf.config.list_physical_devices("GPU") or tf.config.list_logical_devices("TPU"):
        return Compilation.WHOLE
    if micro_batch_flops >= _PARTS_FROM and not coordinated:
        return Compilation.PARTS
    return Compilation.NONE


def choose_for_evaluation(asked: str) -> Compilation:
    """Chooses what of an evaluation XLA compiles: all of it, or nothing.

    Parts repay their compilation in a thousand steps, not in an evaluation's.
    """
    chosen = choose_compilation(asked, 0.0, coordinated=False)
    return chosen if chosen is Compilation.WHOLE else Compilation.NONE
