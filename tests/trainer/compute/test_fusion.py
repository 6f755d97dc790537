# SPDX-License-Identifier: Apache-2.0
"""What XLA compiles in parts is what is computed without it, and is compiled once."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.compute.fusion import fused, fuses, fusing, max_of, softmax, sum_of

# Rows below and above the size from which halves are joined, some that halve once or
# never.
WIDTHS = [1, 7, 96, 97, 110, 256, 1000]


@fused
def reduced(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    return sum_of(x, -1), max_of(x, -1), sum_of(x, 0), softmax(x)


@pytest.mark.parametrize("width", WIDTHS)
def test_sums_maxima_and_softmax_equal_those_of_numpy(width: int) -> None:
    x = np.random.default_rng(0).normal(scale=9.0, size=[256, width]).astype("float32")
    powers = np.exp(x.astype("float64") - x.max(-1, keepdims=True))
    wanted = (
        x.astype("float64").sum(-1, keepdims=True),
        x.max(-1, keepdims=True),
        x.astype("float64").sum(0, keepdims=True),
        powers / powers.sum(-1, keepdims=True),
    )
    # Of sums of 1,000 numbers of size 9 that cancel.
    bounds = (1e-3, 0.0, 1e-3, 1e-7)
    for active in (False, True):
        with fusing(active):
            found = reduced(tf.constant(x))
        for mine, theirs, bound in zip(found, wanted, bounds, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=bound)


def test_a_part_is_traced_once_for_each_shape_and_constant() -> None:
    traces = []

    @fused
    def scaled(x: tf.Tensor, factor: float) -> tf.Tensor:
        traces.append((x.shape[0], factor, fuses()))
        return x * factor

    with fusing(True):
        for _ in range(2):
            scaled(tf.ones([3]), 2.0)
            scaled(tf.ones([4]), 2.0)
            scaled(tf.ones([4]), 5.0)
    assert traces == [(3, 2.0, True), (4, 2.0, True), (4, 5.0, True)]
    assert not fuses()


def test_a_part_is_compiled_by_xla_and_keeps_nothing_for_a_gradient() -> None:
    square = fused(lambda x: tf.exp(x) * tf.exp(-x))

    @tf.function(autograph=False)
    def watched(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape, fusing(True):
            tape.watch(x)
            y = square(x)
        assert tape.gradient(y, x) is None
        return y

    graph = watched.get_concrete_function(tf.TensorSpec([3])).graph
    (call,) = [op for op in graph.get_operations() if "Call" in op.type]
    assert call.get_attr("_XlaMustCompile")
    assert len(call.outputs) == 1


def test_fusing_ends_with_its_block_also_after_an_error() -> None:
    with pytest.raises(RuntimeError), fusing(True):
        with fusing(False):
            assert not fuses()
        assert fuses()
        raise RuntimeError
    assert not fuses()
