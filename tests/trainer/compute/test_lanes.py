# SPDX-License-Identifier: Apache-2.0
"""How many lanes a micro-batch is spread over, and what they add up to.

That a step's losses and gradients are those of one lane is tested with the strategies.
"""

import os
import subprocess
import sys

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given

from preprocessing.foundation.commands import UsageError
from trainer.compute.compilation import Compilation
from trainer.compute.fusion import fusing
from trainer.compute.lanes import choose_lanes, side_by_side
from trainer.data.batch import unpack_rows
from trainer.models.decoder import DecoderConfig
from trainer.models.functional import called_with, weight_places
from trainer.models.language_model import PrecisionConfig
from trainer.models.model import build_model, with_family
from trainer.step.gradients import LocalSums, Seeds
from trainer.step.layout import Layout
from trainer.step.losses import LossConfig, training_loss


@given(st.integers(1, 64), st.floats(1e6, 1e12), st.integers(1, 128))
def test_lanes_divide_the_rows_and_have_a_core_each(
    rows: int, row_flops: float, cores: int
) -> None:
    lanes = choose_lanes(rows, row_flops, cores)
    assert 1 <= lanes <= min(cores, rows)
    assert rows % lanes == 0


@pytest.mark.parametrize(
    ("rows", "row_flops", "cores", "lanes"),
    [
        (8, 1e10, 2, 2),
        (8, 1e10, 1, 1),
        (8, 1e10, 6, 4),
        (64, 1e10, 64, 8),
        (7, 1e10, 2, 1),
        (8, 1e8, 2, 1),
        (8, 5e8, 8, 2),
    ],
)
def test_lanes_are_as_many_as_pay(
    rows: int, row_flops: float, cores: int, lanes: int
) -> None:
    assert choose_lanes(rows, row_flops, cores) == lanes


def test_slices_are_told_their_first_row_and_added_up() -> None:
    features = {"tokens": tf.range(24)[:, None], "other": tf.range(24)[:, None] * 2}
    seen = []

    def function(part: dict[str, tf.Tensor], first: int) -> list[tf.Tensor]:
        seen.append((first, part["tokens"][:, 0].numpy().tolist()))
        both = part["tokens"] + part["other"]
        return [tf.reduce_sum(both), tf.constant([1, first])]

    total, counts = side_by_side(function, features, 3)
    assert seen == [(f, list(range(f, f + 8))) for f in (0, 8, 16)]
    assert int(total) == 3 * sum(range(24))
    np.testing.assert_array_equal(counts, [3, 24])


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize("lanes", [1, 2])
def test_narrow_parts_are_summed_in_float32(active: bool, lanes: int) -> None:
    rows = tf.constant([[1.0], [2.0**-12]], tf.bfloat16)
    with fusing(active):
        (total,) = side_by_side(
            lambda part, _: [tf.reduce_max(part["x"], keepdims=True)],
            {"x": rows[: 1 if lanes == 1 else 2]},
            lanes,
        )
    assert total.dtype == tf.float32
    assert float(total[0, 0]) == (1.0 if lanes == 1 else 1.0 + 2.0**-12)


@pytest.mark.parametrize("family", ["decoder", "recurrent"])
@pytest.mark.parametrize("compute", ["float32", "bfloat16", "float16"])
def test_sums_are_those_of_a_model_that_casts_its_own_weights(
    family: str, compute: str
) -> None:
    config = with_family(DecoderConfig(num_layers=2, d_model=16, num_heads=2), family)
    model = build_model(config, 20, PrecisionConfig(compute=compute), seed=0)
    places = weight_places(model)
    values = [tf.convert_to_tensor(place.variable) for place in places]
    random = np.random.default_rng(0)
    features = {
        "tokens": tf.constant(random.integers(0, 20, [4, 9]), tf.int32),
        "segment_lengths": tf.constant([[9, 0], [5, 4], [3, 3], [9, 0]], tf.int32),
    }
    batch = unpack_rows(features)
    with tf.GradientTape() as tape, called_with(places, values):
        tape.watch(values)
        hidden = model(batch.inputs, batch.segment_ids, batch.positions)
        objective, loss_sum, weight = training_loss(
            model, hidden, batch.targets, batch.weights, LossConfig()
        )
    wanted = [weight, loss_sum, *tape.gradient(objective, values)]
    local = LocalSums(model, places, Layout(4, 4, 1), LossConfig(), Compilation.NONE)
    found = local(values, features, Seeds(None, tf.constant(0), None))
    for one, two in zip(wanted, found, strict=True):
        assert two.dtype == tf.float32
        np.testing.assert_array_equal(one, two)


def test_rows_that_lanes_do_not_divide_are_refused() -> None:
    with pytest.raises(UsageError, match=r"found 6 and 4\. Set compute\.lanes=0"):
        Layout(12, 6, 1, 4)


@pytest.mark.slow
def test_threads_are_shared_before_tensorflow_starts_and_left_alone_after() -> None:
    program = """
import tensorflow as tf
from trainer.compute.lanes import share_threads
share_threads(1, 6)
print(tf.config.threading.get_intra_op_parallelism_threads())
share_threads(3, 6)
tf.constant(1)
share_threads(2, 6)
print(tf.config.threading.get_intra_op_parallelism_threads())
print(tf.config.threading.get_inter_op_parallelism_threads())
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )
    assert done.stdout.split() == ["0", "2", "5"]
