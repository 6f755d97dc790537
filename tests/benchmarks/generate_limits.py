# SPDX-License-Identifier: Apache-2.0
"""What the machine allows of a step of decoding, measured on it.

No step is faster than reading what it must from memory, the weights as they are stored
and the live part of the cache, nor than its matrix products alone, which TensorFlow
computes here one behind another as the model does, in a loop.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tests.benchmarks.train_step import SHAPE

_STEPS, _REPEATS = 8, 9
_READ_BYTES = 1 << 28
_STORED_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


@dataclass(frozen=True)
class StepLimit:
    """A step of the benchmark's decoder.

    Attributes:
        weights: the type they are stored in.
        rows: rows that decode together.
        positions: of a row that are live, on average.
    """

    weights: str
    rows: int
    positions: float

    def seconds(self) -> float:
        """Returns the longer of reading and products, in seconds."""
        reading = self.num_bytes / read_bandwidth()
        return max(reading, self.products())

    @property
    def num_bytes(self) -> float:
        """Bytes that a step reads."""
        held = sum(a * b for a, b in _shapes()) * _STORED_BYTES[self.weights]
        of_position = 2 * SHAPE["num_layers"] * SHAPE["d_model"] * self._compute.size
        return held + self.rows * self.positions * of_position

    @property
    def _compute(self) -> tf.DType:
        return tf.bfloat16 if self.weights == "bfloat16" else tf.float32

    def products(self) -> float:
        """Returns the seconds of a step's products, each of the one before."""
        weights = [
            tf.cast(tf.random.normal(shape, stddev=0.02), self._compute)
            for shape in _shapes()
        ]
        first = tf.cast(
            tf.random.normal([self.rows, SHAPE["vocab_size"]]), self._compute
        )

        @tf.function(autograph=False)
        def run(x: tf.Tensor, weights: list[tf.Tensor]) -> tf.Tensor:
            def body(step: tf.Tensor, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                for weight in weights:
                    x = tf.matmul(x[:, : weight.shape[0]], weight)
                return step + 1, x

            return tf.while_loop(lambda step, x: step < _STEPS, body, (0, x))[1]

        return median_seconds(lambda: run(first, weights)) / _STEPS


def read_bandwidth() -> float:
    """Returns bytes a second of a sum over more than any cache holds."""
    values = tf.random.normal([_READ_BYTES // 4])
    total = tf.function(lambda: tf.reduce_sum(values), autograph=False)
    return _READ_BYTES / median_seconds(total)


def median_seconds(work: Callable[[], tf.Tensor]) -> float:
    """Returns the median of some runs, after one to wake up."""
    seen = []
    for _ in range(_REPEATS + 1):
        began = time.perf_counter()
        tf.cast(work(), tf.float32).numpy()
        seen.append(time.perf_counter() - began)
    return float(np.median(seen[1:]))


def _shapes() -> list[tuple[int, int]]:
    width, inner = SHAPE["d_model"], SHAPE["ffn_dim"]
    layer = [(width, 3 * width), (width, width), (width, 2 * inner), (inner, width)]
    return SHAPE["num_layers"] * layer + [(width, SHAPE["vocab_size"])]
