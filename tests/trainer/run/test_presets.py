# SPDX-License-Identifier: Apache-2.0
"""The named configurations have the sizes that they are named after."""

import pytest

from preprocessing.foundation.commands import UsageError
from trainer.loop.memory import sketch
from trainer.models.parameters import num_parameters
from trainer.run.presets import PRESETS, preset


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
