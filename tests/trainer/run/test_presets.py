# SPDX-License-Identifier: Apache-2.0
"""The named configurations have the sizes that they are named after."""

import pytest

from preprocessing.foundation.commands import UsageError
from trainer.loop.memory import sketch
from trainer.models.parameters import num_parameters
from trainer.run.presets import PRESETS, preset
from trainer.run.published_presets import SIZES


@pytest.mark.parametrize(
    ("name", "vocab_size", "millions"),
    [("14m", 8192, 13.8), ("125m", 50_000, 123), ("350m", 50_000, 355), ("1b", 0, 969)],
)
def test_a_preset_has_the_parameters_it_says(
    name: str, vocab_size: int, millions: float
) -> None:
    config = preset(name)
    model = sketch(config.model, vocab_size, config.precision).model
    assert num_parameters(model) / 1e6 == pytest.approx(millions, rel=0.005)


# Of the weights that are published, a tied output counted once.
PARAMETERS = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "pythia-70m": 70_426_624,
    "pythia-160m": 162_322_944,
    "pythia-410m": 405_334_016,
    "pythia-1b": 1_011_781_632,
    "pythia-1.4b": 1_414_647_808,
    "pythia-2.8b": 2_775_208_960,
    "pythia-6.9b": 6_857_302_016,
    "llama-2-7b": 6_738_415_616,
    "llama-3-8b": 8_030_261_248,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "mistral-7b": 7_241_732_096,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "olmo2-1b": 1_484_916_736,
    "olmo2-7b": 7_298_617_344,
    "gemma3-270m": 268_098_176,
    "gemma3-1b": 999_885_952,
    "granite-3.1-2b": 2_533_531_648,
    "granite-3.1-8b": 8_170_848_256,
    "mixtral-8x7b": 46_702_792_704,
    "qwen3-30b-a3b": 30_532_122_624,
}


# One of each family; the others take as long again each.
QUICK = ("gpt2", "pythia-70m", "llama-3.2-1b", "mistral-7b", "qwen2.5-0.5b")
QUICK += ("qwen3-0.6b", "olmo2-1b", "gemma3-270m", "granite-3.1-2b", "mixtral-8x7b")
QUICK += ("qwen3-30b-a3b",)


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.drill)
        for name in PARAMETERS
    ],
)
def test_a_published_size_has_the_parameters_that_were_published(name: str) -> None:
    config = preset(name)
    ids = config.model.vocab_size
    model = sketch(config.model, ids, config.precision).model
    assert num_parameters(model) == PARAMETERS[name]


def test_every_published_size_is_told_by_its_parameters() -> None:
    told = {name for name in SIZES if not name.startswith("tiny-")}
    assert told == set(PARAMETERS)


def test_a_token_is_computed_with_its_experts_alone() -> None:
    """Qwen3-30B-A3B: 3.3 billion of 30.5 are active, as its name says."""
    config = preset("qwen3-30b-a3b")
    model = sketch(config.model, config.model.vocab_size, config.precision).model
    heads = 48 * 2048 * (2 * 32 + 2 * 4) * 128
    active = heads + 48 * (2048 * 128 + 8 * 3 * 2048 * 768) + 151_936 * 2048
    active += 48 * (2 * 2048 + 2 * 128) + 2048  # norms, counted as PaLM does
    attention = 12 * 48 * 32 * 128 * 64
    assert model.flops_per_token(64) == 6 * active + attention


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_its_command_and_its_schedule_fits_its_run(name: str) -> None:
    assert f"--preset {name}\n" in PRESETS[name].__doc__
    config = preset(name)
    config.optimizer.check_fits(config.loop.total_steps)
    assert config.optimizer.warmup_steps < config.loop.total_steps
    rows, micro = config.data.global_batch_size, config.data.micro_batch_size
    assert micro is None or rows % (8 * micro) == 0  # eight devices share a batch


def test_a_name_that_is_no_preset_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="Did you mean 350m"):
        preset("350n")
