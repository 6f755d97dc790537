# SPDX-License-Identifier: Apache-2.0
"""Chains of small operations, which XLA makes one pass over memory where asked to.

On a CPU oneDNN's matrix products are faster than XLA's, and XLA's loops are faster than
the passes that TensorFlow makes between two products, one for each operation. So a
train step there compiles what lies between the products, and nothing else.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import tensorflow as tf

Function = TypeVar("Function", bound=Callable[..., Any])

# Axes up to this size are reduced as they are: of 32 to 256, 64 and 96 did best.
_UNFOLDED = 96

# Of a thread, since every replica of a mirrored strategy is traced in its own.
_tracing = threading.local()


@contextmanager
def fusing(active: bool) -> Iterator[None]:
    """Has XLA compile the `fused` functions traced inside the block, if `active`."""
    before = fuses()
    _tracing.active = active
    try:
        yield
    finally:
        _tracing.active = before


def fuses() -> bool:
    """Tells whether `fused` functions are compiled by XLA where this is traced."""
    return getattr(_tracing, "active", False)


@contextmanager
def compiling() -> Iterator[None]:
    """Marks what is traced inside the block as compiled by XLA as a whole."""
    before = compiled_whole()
    _tracing.whole = True
    try:
        yield
    finally:
        _tracing.whole = before


def compiled_whole() -> bool:
    """Tells whether XLA compiles the whole of what is traced here."""
    return getattr(_tracing, "whole", False)


def compiled() -> bool:
    """Tells whether XLA compiles what is traced here, as a part or with all else."""
    return fuses() or compiled_whole()


def fused(function: Function) -> Function:
    """Marks a function of tensors and constants that has no gradient of its own.

    Called within `fusing(True)` it is compiled, once a process for each combination of
    shapes and constants; elsewhere it is called as it stands. Either way no gradient
    flows through it: it belongs into a `tf.custom_gradient`, or behind all gradients.
    Arguments are positional; those that are not tensors must be hashable.
    """
    compiled = tf.function(function, autograph=False, jit_compile=True)

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        # A tape that saw them would keep everything computed on the way as outputs.
        cut = [tf.stop_gradient(x) if tf.is_tensor(x) else x for x in arguments]
        if fuses():
            return compiled(*cut)
        return function(*cut)

    return call  # type: ignore[return-value]


def sum_of(x: tf.Tensor, axis: int) -> tf.Tensor:
    """Returns the sums over one axis, which is kept with size 1."""
    return tf.reduce_sum(_folded(x, axis, tf.add), axis=axis, keepdims=True)


def max_of(x: tf.Tensor, axis: int) -> tf.Tensor:
    """Returns the largest over one axis, which is kept with size 1."""
    return tf.reduce_max(_folded(x, axis, tf.maximum), axis=axis, keepdims=True)


def softmax(x: tf.Tensor) -> tf.Tensor:
    """Returns the softmax over the last axis.

    oneDNN's is as fast as one that XLA makes of parts, but not within such a part.
    """
    if not fuses():
        return tf.nn.softmax(x)
    powers = tf.exp(x - max_of(x, -1))
    return powers / sum_of(powers, -1)


def _folded(
    x: tf.Tensor, axis: int, join: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """Joins the halves of an axis over and over, where XLA compiles parts.

    XLA reduces a row on a CPU one element after the other: for a softmax of 1,024 x
    8,192 and its gradient, 27 ms; halves are joined by vector instructions: 11 ms.
    """
    while fuses() and x.shape[axis] > _UNFOLDED and x.shape[axis] % 2 == 0:
        x = join(*tf.split(x, 2, axis=axis))
    return x
