# SPDX-License-Identifier: Apache-2.0
"""Named configurations: what to run, on what, for how long, with what result.

Each docstring says the command, the hardware, the time and the validation loss to
expect; a figure that has not been measured is not given.
"""

from collections.abc import Callable, Mapping

from preprocessing.commands import UsageError, suggest
from trainer.config import RunConfig
from trainer.input_pipeline import DataConfig
from trainer.loop import LoopConfig
from trainer.models.language_model import ModelConfig
from trainer.optimizers import OptimizerConfig


def tiny() -> RunConfig:
    """A decoder of two narrow layers, for tests and for trying things out: seconds.

    quern-train --data DATASET --run DIR --preset tiny
    """
    return RunConfig(
        model=ModelConfig(num_layers=2, d_model=32, num_heads=2, ffn_dim=64),
        optimizer=OptimizerConfig(peak_learning_rate=1e-2, warmup_steps=5),
        data=DataConfig(global_batch_size=8),
        loop=LoopConfig(total_steps=40, log_every=10, evaluate_every=20, save_every=20),
    )


def recurrent() -> RunConfig:
    """The recurrent model the project started from: embedding, GRU, dense.

    quern-train --data DATASET --run DIR --preset recurrent
    """
    return RunConfig(
        model=ModelConfig(
            family="recurrent", num_layers=1, d_model=384, tie_embeddings=False
        ),
        optimizer=OptimizerConfig(peak_learning_rate=3e-3, warmup_steps=50),
        data=DataConfig(global_batch_size=32),
        loop=LoopConfig(total_steps=500, evaluate_every=250, save_every=250),
    )


def laptop() -> RunConfig:
    """A decoder of some 2 million parameters for a small corpus on 2 cores: minutes.

    quern-train --data DATASET --run DIR --preset laptop

    Meant for a dataset of 256 tokens a row and a vocabulary of about 1,024. On 1.1 MB
    of Shakespeare in paragraphs, 5 % held out: validation loss 3.73, 2.22 bits per
    byte, after 1 min 43 s on 2 cores, start-up and evaluation included.
    """
    return RunConfig(
        model=ModelConfig(
            num_layers=4, d_model=192, num_heads=4, ffn_dim=512, dropout=0.1
        ),
        optimizer=OptimizerConfig(peak_learning_rate=3e-3, warmup_steps=50),
        data=DataConfig(global_batch_size=16),
        loop=LoopConfig(total_steps=400, evaluate_every=200, save_every=200),
    )


def decoder_14m() -> RunConfig:
    """The benchmark's decoder, 13.8 million parameters at a vocabulary of 8,192.

    quern-train --data DATASET --run DIR --preset 14m
    """
    return RunConfig(
        model=ModelConfig(num_layers=6, d_model=384, num_heads=6, ffn_dim=1024),
        optimizer=OptimizerConfig(peak_learning_rate=1e-3, warmup_steps=200),
        data=DataConfig(global_batch_size=8),
        loop=LoopConfig(total_steps=10_000, evaluate_every=1000, save_every=1000),
    )


PRESETS: Mapping[str, Callable[[], RunConfig]] = {
    "tiny": tiny,
    "laptop": laptop,
    "recurrent": recurrent,
    "14m": decoder_14m,
}


def preset(name: str) -> RunConfig:
    """Returns the configuration of a preset.

    Raises:
        UsageError: there is no preset of that name.
    """
    if name not in PRESETS:
        raise UsageError(
            f"wanted a preset, found {name!r}.{suggest(name, PRESETS)} Presets: "
            f"{', '.join(PRESETS)}"
        )
    return PRESETS[name]()
