# SPDX-License-Identifier: Apache-2.0
"""What a run needs is known from shapes, before anything is allocated."""

import dataclasses
import resource

import pytest

from trainer.loop.memory import (
    Memory,
    MicroBatch,
    estimate,
    sketch,
)
from trainer.models.decoder import DecoderConfig
from trainer.models.model import ModelConfig, PrecisionConfig, build_model, with_family
from trainer.models.parameters import num_parameters
from trainer.optimizers.optimizer import OptimizerConfig
from trainer.run.presets import PRESETS, preset

SMALL = DecoderConfig(num_layers=2, d_model=32, num_heads=2, ffn_dim=64)
LONG = dataclasses.replace(SMALL, num_layers=12, attention_chunk=128)
VOCAB = 100
FLOAT32, BFLOAT16 = PrecisionConfig(), PrecisionConfig(compute="bfloat16")


def of(
    config: ModelConfig,
    precision: PrecisionConfig = FLOAT32,
    optimizer: OptimizerConfig | None = None,
    rows: int = 2,
    length: int = 64,
    loss_chunk: int | None = 1,
    accumulates: bool = False,
) -> Memory:
    batch = MicroBatch(rows, length, loss_chunk, accumulates)
    drawn = sketch(config, VOCAB, precision)
    return estimate(drawn, precision, optimizer or OptimizerConfig(), batch)


@pytest.mark.parametrize("family", ["decoder", "recurrent"])
def test_a_sketch_has_the_weights_of_the_model_and_its_cost(family: str) -> None:
    config = with_family(SMALL, family)
    drawn, model = (
        sketch(config, VOCAB, FLOAT32),
        build_model(config, VOCAB, FLOAT32, 0),
    )
    shapes = [v.shape.as_list() for v in model.trainable_variables]
    assert [p.variable.shape.as_list() for p in drawn.places] == shapes
    assert num_parameters(drawn.model) == num_parameters(model)
    assert drawn.model.flops_per_token(64) == model.flops_per_token(64)


def test_a_billion_weights_are_estimated_without_being_allocated() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    config = preset("1b")
    drawn = sketch(config.model, 32_000, config.precision)
    assert num_parameters(drawn.model) == 1_034_512_384
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 1 << 20  # KiB; the weights alone are four times that


def test_weights_gradients_and_moments_are_counted_in_bytes() -> None:
    size = num_parameters(sketch(SMALL, VOCAB, FLOAT32).model)
    plain, mixed = of(SMALL), of(SMALL, BFLOAT16)
    assert (plain.weights, mixed.weights) == (4 * size, 6 * size)
    assert plain.gradients == plain.optimizer_state == 8 * size
    parts = (plain.weights, plain.gradients, plain.optimizer_state, plain.activations)
    assert plain.total == sum(parts)
    assert of(SMALL, accumulates=True).gradients == 12 * size
    averaged = of(SMALL, optimizer=OptimizerConfig(name="lion", ema_decay=0.9))
    assert averaged.optimizer_state == 8 * size
    assert of(SMALL, optimizer=OptimizerConfig(name="sgd")).optimizer_state == 0


def test_activations_grow_with_the_rows_and_in_full_with_the_lengths_square() -> None:
    full = dataclasses.replace(SMALL, attention="full")
    assert of(full, rows=4).activations == pytest.approx(
        2 * of(full, rows=2).activations, rel=0.01
    )
    longest = [of(full, rows=1, length=n).activations for n in (8192, 16384)]
    assert longest[1] / longest[0] == pytest.approx(4, rel=0.05)


def test_chunks_make_activations_grow_with_the_length_alone() -> None:
    chunked = dataclasses.replace(SMALL, attention="chunked", attention_chunk=128)
    lengths = [of(chunked, rows=1, length=n).activations for n in (8192, 16384)]
    assert lengths[1] / lengths[0] == pytest.approx(2, rel=0.01)


def test_experts_keep_what_the_chosen_ones_made() -> None:
    """However many there are, but for the router's share of each."""
    few = dataclasses.replace(SMALL, num_experts=4, experts_per_token=2)
    many = dataclasses.replace(few, num_experts=16)
    more = dataclasses.replace(few, experts_per_token=4)
    size = of(few).activations
    assert of(many).activations - size == 2 * 2 * 64 * 3 * 12 * 4
    # Gate and up of each position, and what passes: two rows and five columns more.
    kept, passing = 2 * 2 * 64 * 4 * 2 * 2 * 64, 2 * 64 * 4 * 2 * (2 * 32 + 5 * 64)
    assert of(more).activations - size == pytest.approx(kept + passing, rel=0.01)


def test_recomputing_blocks_keeps_a_fraction_of_their_activations() -> None:
    again = dataclasses.replace(LONG, remat="full")
    assert of(again).activations < of(LONG).activations / 3


def test_logits_are_held_for_a_chunk_of_positions() -> None:
    whole, chunk = of(SMALL, loss_chunk=None), of(SMALL, loss_chunk=16)
    assert whole.activations - chunk.activations == 12 * VOCAB * (2 * 64 - 16)


@pytest.mark.parametrize(("name", "gib"), [("125m", 24), ("350m", 40), ("1b", 80)])
def test_a_preset_fits_the_device_it_is_meant_for(name: str, gib: int) -> None:
    config = PRESETS[name]()
    batch = MicroBatch(config.data.micro_batch_size, 2048, None, True)
    drawn = sketch(config.model, 32_000, config.precision)
    needed = estimate(drawn, config.precision, config.optimizer, batch)
    assert needed.total < 0.9 * gib * 2**30
