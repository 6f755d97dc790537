# SPDX-License-Identifier: Apache-2.0
"""Attention in chunks and layers computed again give what the plain ones give."""

import functools
import itertools
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from trainer.compute.compilation import Compilation
from trainer.data.batch import unpack_rows
from trainer.models.decoder import DecoderConfig
from trainer.models.functional import weight_places
from trainer.models.model import ModelConfig, PrecisionConfig, build_model
from trainer.step.gradients import LocalSums, Seeds
from trainer.step.layout import Layout
from trainer.step.losses import LossConfig

pytestmark = pytest.mark.slow

LENGTH, VOCAB = 21, 16
PLAIN = DecoderConfig(
    num_layers=2, d_model=32, num_heads=4, num_kv_heads=2, ffn_dim=48, attention="full"
)


def rows(prefix: bool = False) -> dict[str, tf.Tensor]:
    """Returns packed rows of several segments, some padding among them."""
    random = np.random.default_rng(0)
    lengths = np.array([[9, 13, 0, 0], [3, 4, 2, 11], [22, 0, 0, 0]], np.int32)
    tokens = random.integers(0, VOCAB, [3, LENGTH + 1]).astype(np.int32)
    features = {"tokens": tokens, "segment_lengths": lengths}
    if prefix:
        features["prefix_lengths"] = np.minimum(lengths, [[4, 9, 1, 5]]).astype("int32")
    return {name: tf.constant(x) for name, x in features.items()}


@functools.cache
def sums(
    config: ModelConfig, prefix: bool = False, xla: str = "none"
) -> list[tf.Tensor]:
    """Returns [weight, loss, *gradients], with dropout where the model has it."""
    features = rows(prefix)
    model = build_model(config, VOCAB, PrecisionConfig(), seed=0)
    places = weight_places(model)
    local = LocalSums(model, places, Layout(3, 3, 1), LossConfig(), Compilation(xla))
    seed = tf.constant([1, 2]) if config.dropout else None

    @tf.function(autograph=False)
    def run() -> list[tf.Tensor]:
        values = [tf.convert_to_tensor(place.variable) for place in places]
        return local(values, features, Seeds(seed, tf.constant(0), None))

    results = run()
    # Nothing of the trace is left in the model.
    assert all(
        isinstance(vars(p.module)[p.name], tf.Variable) and p.variable is not None
        for p in places
    )
    return results


def assert_same(one: list[tf.Tensor], other: list[tf.Tensor], atol: float) -> None:
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=atol)


def drilled(*case: object) -> object:
    """Leaves a case that takes XLA seconds to a drill; another holds the same law."""
    return pytest.param(*case, marks=pytest.mark.drill)


# The last chunk is cut short, or full, or longer than the row.
@pytest.mark.parametrize(
    ("chunk", "xla", "prefix"),
    [
        *itertools.product([4, 7, 64], ["none", "parts"], [False, True]),
        (4, "whole", True),
        *itertools.starmap(
            drilled, itertools.product([7, 64], ["whole"], [False, True])
        ),
        drilled(4, "whole", False),
    ],
)
def test_chunks_give_the_loss_and_gradients_of_full_attention(
    chunk: int, xla: str, prefix: bool
) -> None:
    full = replace(PLAIN, num_layers=1)
    chunked = replace(full, attention="chunked", attention_chunk=chunk)
    assert_same(sums(chunked, prefix, xla), sums(full, prefix), atol=2e-5)


@pytest.mark.parametrize("xla", ["none", drilled("parts"), drilled("whole")])
@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("window", [1, 5, 12])
def test_chunks_hide_what_a_window_hides_and_cap_what_is_capped(
    window: int, prefix: bool, xla: str
) -> None:
    full = replace(
        PLAIN, num_layers=1, layer_pattern="w", window=window, attention_cap=0.5
    )
    chunked = replace(full, attention="chunked", attention_chunk=4)
    assert_same(sums(chunked, prefix, xla), sums(full, prefix), atol=2e-5)


@pytest.mark.parametrize(
    ("attention", "xla", "layers"),
    [
        *(("full", "none", 2), ("full", "parts", 1), ("chunked", "none", 2)),
        *(("chunked", "parts", 1), ("chunked", "whole", 1)),
        *(drilled("full", "parts", 2), drilled("full", "whole", 2)),
        *(drilled("chunked", "parts", 2), drilled("chunked", "whole", 2)),
    ],
)
def test_layers_computed_again_give_the_same_gradients_dropout_included(
    attention: str, xla: str, layers: int
) -> None:
    plain = replace(PLAIN, num_layers=layers, dropout=0.3)
    once = replace(plain, attention=attention, attention_chunk=4)
    twice = replace(once, remat="full")
    assert_same(sums(twice, xla=xla), sums(once, xla=xla), atol=5e-5)


def test_no_tensor_of_a_long_row_holds_a_score_for_each_pair() -> None:
    length = 128
    config = replace(PLAIN, attention="chunked", attention_chunk=16)
    model = build_model(config, VOCAB, PrecisionConfig(), seed=0)
    tokens = np.zeros([1, length + 1], np.int32)
    features = {"tokens": tokens, "segment_lengths": np.array([[length + 1]], np.int32)}
    places = weight_places(model)
    local = LocalSums(model, places, Layout(1, 1, 1), LossConfig(), Compilation.NONE)

    @tf.function(autograph=False)
    def run() -> list[tf.Tensor]:
        values = [tf.convert_to_tensor(place.variable) for place in places]
        placed = {name: tf.constant(x) for name, x in features.items()}
        return local(values, placed, Seeds(None, tf.constant(0), None))

    graph = run.get_concrete_function().graph
    graphs = [
        graph,
        *(f.graph for f in graph._functions.values() if hasattr(f, "graph")),
    ]
    shapes = [
        output.shape.as_list()
        for each in graphs
        for operation in each.get_operations()
        for output in operation.outputs
        if output.shape.is_fully_defined() and output.dtype.is_floating
    ]
    assert [length, length] not in [shape[-2:] for shape in shapes]
    assert unpack_rows({n: tf.constant(x) for n, x in features.items()}).prefix is None
