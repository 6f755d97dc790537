# SPDX-License-Identifier: Apache-2.0
"""Slices of a micro-batch side by side on a CPU, each on threads of its own.

TensorFlow shares each operation among all threads, and the next one waits for the
slowest of them. Where operations take a millisecond or two the waits add up: two cores
stood idle for an eighth of a step of the 13.8 M parameter model. A lane takes its rows
through all operations alone, and lanes wait for each other once a micro-batch. Its
price is memory: every lane has gradients of its own until they are summed.
"""

import os
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from trainer.compute.fusion import fused

# Lanes are copies of a graph, which costs as many times its tracing.
_MOST = 8
# A lane's share of a micro-batch has to repay the tracing: half of what repays the
# compilation of parts (`trainer.compute.compilation`).
_LEAST_FLOPS = 2e9


def count_cores() -> int:
    """Returns the cores this process may run on."""
    return len(os.sched_getaffinity(0))


def choose_lanes(rows: int, row_flops: float, cores: int) -> int:
    """Returns how many lanes a micro-batch is best spread over.

    Args:
        rows: of a micro-batch, which lanes divide evenly.
        row_flops: what a row costs, forward and backward.
        cores: for those rows.
    """
    fitting = [
        lanes
        for lanes in range(1, min(rows, cores, _MOST) + 1)
        if rows % lanes == 0 and rows // lanes * row_flops >= _LEAST_FLOPS
    ]
    return max(fitting, default=1)


def share_threads(lanes: int, cores: int) -> None:
    """Has TensorFlow run each operation on a lane's share of the cores.

    It can only be told before it has started its devices; after that, lanes share
    whatever threads there are.

    Args:
        lanes: of all replicas of this process; 1 changes nothing.
        cores: for all of them.
    """
    if lanes == 1:
        return
    threading = tf.config.threading
    try:
        threading.set_intra_op_parallelism_threads(max(1, cores // lanes))
        # Two more than lanes, so that none waits while the host prepares or a small
        # operation is done: with two lanes 3 and 4 threads were 5 % faster than 2.
        threading.set_inter_op_parallelism_threads(lanes + 2)
    except RuntimeError:
        # Sums are the same on any threads, up to rounding.
        return


def side_by_side(
    function: Callable[[dict[str, tf.Tensor], int], Sequence[tf.Tensor]],
    features: Mapping[str, tf.Tensor],
    lanes: int,
) -> list[tf.Tensor]:
    """Returns the sums of what a function gives for each of `lanes` slices of rows.

    Narrower floating types than float32 are summed in float32.

    Args:
        function: of a slice, `[rows / lanes, …]` each, and the number of its first row.
        features: `[rows, …]` each.
        lanes: how many slices; they divide the rows.
    """
    rows = next(iter(features.values())).shape[0] // lanes
    results = [
        function({n: x[first : first + rows] for n, x in features.items()}, first)
        for first in range(0, rows * lanes, rows)
    ]
    return [_sum(parts) for parts in zip(*results, strict=True)]


def _sum(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    if parts[0].dtype in (tf.bfloat16, tf.float16):
        return _widened(*parts) if len(parts) > 1 else tf.cast(parts[0], tf.float32)
    return tf.add_n(list(parts)) if len(parts) > 1 else parts[0]


@fused
def _widened(*parts: tf.Tensor) -> tf.Tensor:
    return tf.add_n([tf.cast(part, tf.float32) for part in parts])
