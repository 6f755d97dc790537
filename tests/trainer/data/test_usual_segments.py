# SPDX-License-Identifier: Apache-2.0
"""Rows with as many segments as usual go through a function of their own."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.compute.compilation import Compilation
from trainer.data.usual_segments import usual_segments
from trainer.models.decoder import DecoderConfig
from trainer.models.functional import weight_places
from trainer.models.model import PrecisionConfig, build_model
from trainer.step.gradients import LocalSums, Seeds
from trainer.step.layout import Layout
from trainer.step.losses import LossConfig

ROOM = 16


class DrawnRows:
    """Rows whose numbers of segments are drawn, one or more of each."""

    def __init__(self, mean: float, seed: int) -> None:
        draw = np.random.default_rng(seed)
        self.counts = np.minimum(1 + draw.poisson(mean - 1, 5000), ROOM)
        self.num_rows = len(self.counts)

    def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        used = np.arange(ROOM) < self.counts[rows][:, None]
        return {"segment_lengths": used.astype(np.int32)}


@pytest.mark.parametrize("size", [1, 4, 32])
@pytest.mark.parametrize("mean", [1.0, 3.5, 9.0])
def test_hardly_any_micro_batch_has_more(mean: float, size: int) -> None:
    rows = DrawnRows(mean, seed=0)
    usual = usual_segments(rows, size)
    draw = np.random.default_rng(1)
    batches = rows.counts[draw.integers(0, rows.num_rows, [20_000, size])] + 1
    assert (batches.mean(axis=1) > usual).mean() < 1e-3
    # And it is no wider than it has to be.
    assert usual <= mean + 2 + 6.5 * rows.counts.std() / np.sqrt(size)


class Told(tf.Module):
    """A decoder whose result tells what it was told of its rows."""

    def __init__(self) -> None:
        super().__init__()
        config = DecoderConfig(num_layers=1, d_model=8, num_heads=1, ffn_dim=8)
        self.inner = build_model(config, 32, PrecisionConfig(), seed=0)
        self.config, self.compute_dtype = config, self.inner.compute_dtype

    def __call__(self, *inputs: tf.Tensor, max_segments: int, **more: object):
        return self.inner(*inputs, **more) * float(max_segments)

    def output_weights(self) -> tf.Variable:
        return self.inner.output_weights()


def features(*segments: int) -> dict[str, tf.Tensor]:
    """Returns rows of 8 ids in so many segments each."""
    lengths = np.zeros([len(segments), 8], np.int32)
    for row, count in enumerate(segments):
        lengths[row, :count] = [len(part) for part in np.array_split(range(8), count)]
    tokens = np.arange(8 * len(segments)).reshape(-1, 8) % 32
    return {
        "tokens": tf.constant(tokens, tf.int32),
        "segment_lengths": tf.constant(lengths),
    }


@pytest.mark.parametrize("compilation", [Compilation.NONE, Compilation.WHOLE])
def test_rows_take_the_narrow_function_unless_one_micro_batch_does_not_fit(
    compilation: Compilation,
) -> None:
    model = Told()
    places = weight_places(model)
    values = [tf.convert_to_tensor(place.variable) for place in places]
    seeds = Seeds(None, tf.constant(0), None)

    def loss_sum(rows: dict[str, tf.Tensor], usual: int | None) -> float:
        layout = Layout(4, 2, 1)
        local = LocalSums(model, places, layout, LossConfig(), compilation, usual)
        run = tf.function(lambda *given: local(*given, seeds)[1], autograph=False)
        return float(run(values, rows))

    def trimmed(rows: dict[str, tf.Tensor], most: int) -> dict[str, tf.Tensor]:
        return {**rows, "segment_lengths": rows["segment_lengths"][:, : most - 1]}

    few, many = features(1, 2, 2, 1), features(1, 1, 3, 2)
    assert loss_sum(few, 3) == pytest.approx(loss_sum(trimmed(few, 3), None))
    assert loss_sum(few, 3) != pytest.approx(loss_sum(few, None), rel=1e-3)
    # Five segments and two of padding do not fit in two rows of three.
    assert loss_sum(many, 3) == pytest.approx(loss_sum(many, None))
    assert loss_sum(many, 4) == pytest.approx(loss_sum(trimmed(many, 4), None))
