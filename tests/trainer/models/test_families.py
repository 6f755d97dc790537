# SPDX-License-Identifier: Apache-2.0
"""What both families promise, asked of each in turn."""

import functools
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.compute.compilation import Compilation
from trainer.data.batch import unpack_rows
from trainer.models.decoder import DecoderConfig
from trainer.models.functional import weight_places
from trainer.models.language_model import LanguageModel
from trainer.models.model import PrecisionConfig, build_model, with_family
from trainer.models.recurrent import RecurrentConfig
from trainer.run.presets import preset
from trainer.run.published_presets import SIZES
from trainer.step.gradients import LocalSums, Seeds
from trainer.step.layout import Layout
from trainer.step.losses import LossConfig, training_loss

VOCAB, LENGTH = 48, 16
# What published families change of the decoder, each in the fewest models.
PUBLISHED = {
    "learned positions, layer norms, biases": DecoderConfig(
        num_layers=1,
        d_model=16,
        num_heads=2,
        position="learned",
        max_positions=LENGTH + 2,
        norm="layer",
        norm_bias=True,
        attention_bias="all",
        ffn="plain",
        ffn_bias=True,
        activation="gelu_tanh",
    ),
    "windows, norms around, caps": DecoderConfig(
        num_layers=2,
        d_model=16,
        num_heads=2,
        num_kv_heads=1,
        layer_pattern="wf",
        window=4,
        window_rope_theta=100.0,
        qk_norm="head",
        norm_placement="around",
        norm_offset=1.0,
        activation="gelu_tanh",
        embedding_scale=4.0,
        attention_scale=0.4,
        attention_cap=2.0,
        logit_cap=3.0,
    ),
    "parallel halves, some columns turned": DecoderConfig(
        num_layers=1,
        d_model=16,
        num_heads=2,
        norm="layer",
        norm_bias=True,
        parallel_residual=True,
        rope_fraction=0.25,
        attention_bias="qkv",
        activation="gelu",
    ),
    "experts in some layers": DecoderConfig(
        num_layers=2,
        d_model=16,
        num_heads=2,
        ffn_dim=24,
        num_experts=4,
        expert_dim=12,
        expert_pattern="ed",
    ),
    "norms after, stretched positions": DecoderConfig(
        num_layers=2,
        d_model=16,
        num_heads=2,
        layer_pattern="fn",
        norm_placement="after",
        qk_norm="layer",
        rope_scaling="yarn",
        rope_factor=4.0,
        rope_original_positions=8,
        residual_scale=0.5,
        logit_scale=0.5,
    ),
}
CONFIGS = {
    "decoder": DecoderConfig(num_layers=2, d_model=32, num_heads=4, num_kv_heads=2),
    "decoder, untied": DecoderConfig(
        num_layers=1, d_model=16, num_heads=2, tie_embeddings=False
    ),
    "decoder, wide heads": DecoderConfig(
        num_layers=1, d_model=16, num_heads=4, num_kv_heads=2, head_dim=6
    ),
    **PUBLISHED,
    "recurrent": RecurrentConfig(num_layers=2, d_model=24),
    "recurrent, untied": RecurrentConfig(
        num_layers=1, d_model=16, tie_embeddings=False
    ),
}
# Every published family, small: the parts above have the same laws in less time.
SMALL = {name: preset(name).model for name in SIZES if name.startswith("tiny-")}
ALL = {**CONFIGS, **SMALL}
each_family = pytest.mark.parametrize(
    "name",
    [*CONFIGS, *(pytest.param(name, marks=pytest.mark.drill) for name in SMALL)],
)


def slack(name: str) -> float:
    """Returns how much further apart roundings may lie: sums of 64 and 96, not 16."""
    return 10.0 if name in SMALL else 1.0


def build(name: str, compute: str = "float32", seed: int = 0) -> LanguageModel:
    """Builds a model whose weights are large enough for mistakes to show."""
    model = build_model(ALL[name], VOCAB, PrecisionConfig(compute), seed)
    for weight in model.trainable_variables:
        weight.assign(weight * 2.0)
    return model


@functools.cache
def decoding_model(name: str) -> tuple[LanguageModel, Callable]:
    """Returns a model and its compiled `decode`, traced once for each shape."""
    model = build(name)
    return model, tf.function(model.decode, autograph=False, reduce_retracing=True)


def tokens(batch: int = 2, length: int = LENGTH) -> tf.Tensor:
    drawn = np.random.default_rng(7).integers(0, VOCAB, [batch, length])
    return tf.constant(drawn, tf.int32)


def read(model: LanguageModel, ids: tf.Tensor) -> np.ndarray:
    """Returns the logits of rows that are one segment each."""
    positions = tf.zeros_like(ids) + tf.range(ids.shape[1])
    hidden = model(ids, tf.ones_like(ids), positions)
    return model.logits(hidden).numpy()


def packed() -> dict[str, tf.Tensor]:
    """Returns two rows of several segments and padding."""
    lengths = tf.constant([[5, 7, 0], [9, 3, 2]])
    return {"tokens": tokens(2, LENGTH + 1), "segment_lengths": lengths}


@each_family
def test_a_later_token_never_changes_an_earlier_state(name: str) -> None:
    model, ids = build(name), tokens()
    changed = tf.concat([ids[:, :9], (ids[:, 9:] + 1) % VOCAB], axis=1)
    before, after = read(model, ids), read(model, changed)
    np.testing.assert_array_equal(before[:, :9], after[:, :9])
    assert np.abs(before[:, 9:] - after[:, 9:]).max() > 1e-3


@each_family
def test_a_packed_document_reads_as_if_it_were_alone(name: str) -> None:
    model, ids = build(name), tokens(1, 12)
    segments = tf.constant([[1] * 5 + [2] * 7])
    positions = tf.constant([[*range(5), *range(7)]])
    together = model.logits(model(ids, segments, positions)).numpy()
    np.testing.assert_allclose(together[:, :5], read(model, ids[:, :5]), atol=1e-5)
    np.testing.assert_allclose(together[:, 5:], read(model, ids[:, 5:]), atol=1e-5)


@each_family
@settings(max_examples=15, deadline=None)
@given(pieces=st.lists(st.tuples(*[st.integers(0, 5)] * 3), max_size=6))
def test_rows_read_in_pieces_of_their_own_equal_one_full_pass(
    name: str, pieces: list[tuple[int, ...]]
) -> None:
    """Rows stand at different positions, rest (0), and read what padding wrote over."""
    model, decode = decoding_model(name)
    ids = tokens(3).numpy()
    whole = read(model, tf.constant(ids))
    state, places = model.initial_state(tf.constant(3), LENGTH), np.zeros(3, np.int32)
    for piece in [*pieces, (5, 5, 5)]:
        lengths = np.minimum(piece, LENGTH - places).astype(np.int32)
        fed = np.full([3, 5], VOCAB - 1, np.int32)
        for row, (place, length) in enumerate(zip(places, lengths, strict=True)):
            fed[row, :length] = ids[row, place : place + length]
        hidden, state = decode(fed, state, places, lengths)
        logits = model.logits(hidden).numpy()
        for row, (place, length) in enumerate(zip(places, lengths, strict=True)):
            wanted = whole[row, place : place + length]
            np.testing.assert_allclose(
                logits[row, :length], wanted, atol=1e-5 * slack(name)
            )
        places = places + lengths


@each_family
def test_a_row_that_has_ended_is_filled_again_beside_one_that_goes_on(
    name: str,
) -> None:
    model, decode = decoding_model(name)
    ids = tokens(3).numpy()
    whole = read(model, tf.constant(ids))
    state = model.initial_state(tf.constant(2), LENGTH)
    _, state = decode(ids[:2, :9], state, tf.constant([0, 0]), tf.constant([9, 4]))
    both = np.stack([ids[2, :7], ids[1, 4:11]])
    hidden, _ = decode(both, state, tf.constant([0, 4]), tf.constant([7, 7]))
    logits = model.logits(hidden).numpy()
    np.testing.assert_allclose(logits[0], whole[2, :7], atol=1e-5)
    np.testing.assert_allclose(logits[1], whole[1, 4:11], atol=1e-5)


@each_family
def test_a_row_of_no_length_keeps_its_state(name: str) -> None:
    model, decode = decoding_model(name)
    ids = tokens(2).numpy()
    state = model.initial_state(tf.constant(2), LENGTH)
    _, before = decode(ids[:, :6], state, tf.constant([0, 0]), tf.constant([6, 6]))
    _, after = decode(ids[:, :9], before, tf.constant([6, 6]), tf.constant([0, 9]))
    for old, new in zip(tf.nest.flatten(before), tf.nest.flatten(after), strict=True):
        # The spare column, where padding goes, is the last of a cache.
        kept = [x[0, :, :LENGTH] if x.shape.rank == 4 else x[0] for x in (old, new)]
        np.testing.assert_array_equal(*kept)
        assert np.abs(old[1] - new[1]).max() > 1e-3


@each_family
def test_a_checkpoint_brings_every_weight_back_by_name(
    name: str, tmp_path: str
) -> None:
    model, other = build(name, seed=0), build(name, seed=1)
    path = tf.train.Checkpoint(model=model).write(f"{tmp_path}/weights")
    assert np.abs(read(model, tokens()) - read(other, tokens())).max() > 1e-3
    tf.train.Checkpoint(model=other).read(path).assert_consumed()
    np.testing.assert_array_equal(read(model, tokens()), read(other, tokens()))
    names = [entry for entry, _ in tf.train.list_variables(path)]
    assert any(entry.startswith("model/layers/0/") for entry in names)
    assert "model/vocabulary/embedding/.ATTRIBUTES/VARIABLE_VALUE" in names


def sums(
    model: LanguageModel, rows: dict[str, tf.Tensor], xla: str = "none"
) -> list[tf.Tensor]:
    """Returns [weight, loss, *gradients] of the rows, as a step computes them."""
    places = weight_places(model)
    count = len(rows["tokens"])
    local = LocalSums(
        model, places, Layout(count, count, 1), LossConfig(), Compilation(xla)
    )
    values = [tf.convert_to_tensor(place.variable) for place in places]
    return local(values, rows, Seeds(None, tf.constant(0), None))


@pytest.mark.parametrize(
    "xla", ["parts", pytest.param("whole", marks=pytest.mark.slow)]
)
@each_family
def test_xla_computes_what_the_graph_computes(name: str, xla: str) -> None:
    # With other weights a gradient of these experts is a small rest of large sums,
    # which a CPU without AVX-512 adds up 6e-5 apart.
    seed = 2 if name == "experts in some layers" else 0
    model, rows = build(name, seed=seed), packed()
    plain, compiled = (sums(model, rows, what) for what in ("none", xla))
    for one, other in zip(plain, compiled, strict=True):
        # By the largest entry: others are differences of entries of its size.
        np.testing.assert_allclose(
            one, other, atol=4e-5 * slack(name) * np.abs(one).max()
        )


@each_family
def test_bfloat16_stays_close_to_float32(name: str) -> None:
    batch = unpack_rows(packed())
    losses, kinds = [], set()
    for compute in ("float32", "bfloat16"):
        model = build(name, compute)
        hidden = model(batch.inputs, batch.segment_ids, batch.positions)
        kinds.add(hidden.dtype)
        assert {v.dtype for v in model.trainable_variables} == {tf.float32}
        _, loss_sum, weight = training_loss(
            model, hidden, batch.targets, batch.weights, LossConfig()
        )
        losses.append(float(loss_sum / weight))
    assert kinds == {tf.float32, tf.bfloat16}
    assert losses[0] != losses[1]
    assert abs(losses[0] - losses[1]) < 0.02


@each_family
def test_a_saved_model_answers_like_the_model(name: str, tmp_path: str) -> None:
    model, ids = build(name), tokens()
    spec = tf.TensorSpec([None, None], tf.int32)

    @tf.function(autograph=False, input_signature=[spec, spec, spec])
    def score(ids: tf.Tensor, segments: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        return model.logits(model(ids, segments, positions))

    release = tf.Module()
    release.model, release.score = model, score
    tf.saved_model.save(release, str(tmp_path), signatures=score)
    loaded = tf.saved_model.load(str(tmp_path))
    positions = tf.zeros_like(ids) + tf.range(LENGTH)
    answer = loaded.score(ids, tf.ones_like(ids), positions)
    np.testing.assert_allclose(answer, read(model, ids), atol=1e-6 * slack(name))


@each_family
def test_gradients_equal_finite_differences(name: str) -> None:
    model = build_model(ALL[name], VOCAB, PrecisionConfig(), seed=0)
    # Small embeddings bend the loss too sharply for differences in float32.
    model.vocabulary.embedding.assign(model.vocabulary.embedding * 10.0)
    for place in weight_places(model):
        if place.name == "router":
            # A choice that changes on the way has no slope.
            place.variable.assign(place.variable * 100.0)
    variables = list(model.trainable_variables)
    _, _, *gradients = sums(model, packed())
    random = np.random.default_rng(0)
    for variable, gradient in zip(variables, gradients, strict=True):
        direction = random.standard_normal(variable.shape).astype("float32")
        direction /= np.linalg.norm(direction)
        losses, size = [], 1e-2
        for sign in (1.0, -2.0):
            variable.assign_add(sign * size * direction)
            losses.append(float(sums(model, packed())[1]))
        variable.assign_add(size * direction)
        slope = (losses[0] - losses[1]) / (2 * size)
        found = float(np.sum(gradient * direction))
        assert abs(slope - found) < 0.02 * max(1.0, abs(found)), variable.name


@each_family
def test_weights_depend_on_the_seed_and_the_name_alone(name: str) -> None:
    one, same, other = (
        build_model(ALL[name], VOCAB, PrecisionConfig(), s) for s in (3, 3, 4)
    )
    first, second, third = (m.output_weights().numpy() for m in (one, same, other))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - third).max() > 1e-3
    matrices = [v for v in one.trainable_variables if v.shape.rank > 1]
    starts = {float(v.numpy().ravel()[0]) / float(np.std(v)) for v in matrices}
    assert len(starts) == len(matrices)


@pytest.mark.parametrize("family", ["decoder", "recurrent"])
def test_a_rows_dropout_depends_on_its_number_and_not_on_its_neighbours(
    family: str,
) -> None:
    config = with_family(
        DecoderConfig(num_layers=2, d_model=16, num_heads=2, dropout=0.3), family
    )
    # Weights whose sums lie a third of the bound apart, where two rows are added up
    # otherwise than four: others pass it on a CPU without AVX-512.
    model = build_model(config, VOCAB, PrecisionConfig(), seed=2)
    ids = tokens(4)
    positions = tf.zeros_like(ids) + tf.range(LENGTH)

    def run(rows: list[int], seed: list[int]) -> np.ndarray:
        picked = [tf.gather(x, rows) for x in (ids, tf.ones_like(ids), positions)]
        seed, rows = tf.constant(seed), tf.constant(rows)
        return model(*picked, dropout_seed=seed, rows=rows).numpy()

    whole = run([0, 1, 2, 3], [5, 1])
    np.testing.assert_allclose(whole[2:], run([2, 3], [5, 1]), atol=1e-6)
    moved = run([2, 3, 1, 0], [5, 1])
    np.testing.assert_allclose(whole[[2, 3, 1, 0]], moved, atol=1e-6)
    for other in ([5, 2], [6, 1]):
        assert np.abs(whole - run([0, 1, 2, 3], other)).max() > 1e-3
    assert np.abs(whole - model(ids, tf.ones_like(ids), positions)).max() > 1e-3
