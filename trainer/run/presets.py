# SPDX-License-Identifier: Apache-2.0
"""Named configurations: what to run, on what, for how long, with what result.

Each docstring says the command, the hardware, the time and the validation loss to
expect; a figure that has not been measured is not given.
"""

from collections.abc import Callable, Mapping

from preprocessing.foundation.commands import UsageError, suggest
from trainer.data.input_pipeline import DataConfig
from trainer.models.decoder import DecoderConfig
from trainer.models.language_model import PrecisionConfig
from trainer.models.recurrent import RecurrentConfig
from trainer.optimizers.optimizer import OptimizerConfig
from trainer.run.config import RunConfig
from trainer.run.loop_config import LoopConfig
from trainer.run.published_presets import SIZES, published
from trainer.step.losses import LossConfig


def tiny() -> RunConfig:
    """A decoder of two narrow layers, for tests and for trying things out: seconds.

    quern-train --data DATASET --run DIR --preset tiny
    """
    return RunConfig(
        model=DecoderConfig(num_layers=2, d_model=32, num_heads=2, ffn_dim=64),
        optimizer=OptimizerConfig(peak_learning_rate=1e-2, warmup_steps=5),
        data=DataConfig(global_batch_size=8),
        loop=LoopConfig(total_steps=40, log_every=10, evaluate_every=20, save_every=20),
    )


def recurrent() -> RunConfig:
    """The recurrent model the project started from: embedding, GRU, dense.

    quern-train --data DATASET --run DIR --preset recurrent
    """
    return RunConfig(
        model=RecurrentConfig(num_layers=1, d_model=384, tie_embeddings=False),
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
        model=DecoderConfig(
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
        model=DecoderConfig(num_layers=6, d_model=384, num_heads=6, ffn_dim=1024),
        optimizer=OptimizerConfig(peak_learning_rate=1e-3, warmup_steps=200),
        data=DataConfig(global_batch_size=8),
        loop=LoopConfig(total_steps=10_000, evaluate_every=1000, save_every=1000),
    )


def decoder_125m() -> RunConfig:
    """A Llama-style decoder of GPT-3 small's size: 110 million parameters at 32,000.

    quern-train --data DATASET --run DIR --preset 125m

    Meant for a dataset of 2,048 tokens a row and one GPU of 24 GB or more, or several:
    0.5 million tokens a step, 5.2 billion in all (47 a parameter). Rate and batch are
    GPT-3's (arXiv 2005.14165, table 2.1). One H100 made 445,860 tokens a second with
    16 rows at once (`docs/benchmarks.md`); never trained to its end here.
    """
    return RunConfig(
        model=DecoderConfig(num_layers=12, d_model=768, num_heads=12, ffn_dim=2048),
        optimizer=OptimizerConfig(peak_learning_rate=6e-4, warmup_steps=700),
        data=DataConfig(global_batch_size=256, micro_batch_size=8),
        precision=PrecisionConfig(compute="bfloat16"),
        loss=LossConfig(chunk=4096),
        loop=LoopConfig(total_steps=10_000, evaluate_every=1000, save_every=1000),
    )


def decoder_350m() -> RunConfig:
    """A Llama-style decoder of GPT-3 medium's size: 336 million parameters at 32,000.

    quern-train --data DATASET --run DIR --preset 350m

    Meant for a dataset of 2,048 tokens a row and GPUs of 40 GB or more, or TPUs: 0.5
    million tokens a step, 10.5 billion in all (31 a parameter). Rate and batch are
    GPT-3's. One H100 made 152,001 tokens a second with 8 rows at once; never trained
    to its end here.
    """
    return RunConfig(
        model=DecoderConfig(num_layers=24, d_model=1024, num_heads=16, ffn_dim=2752),
        optimizer=OptimizerConfig(peak_learning_rate=3e-4, warmup_steps=700),
        data=DataConfig(global_batch_size=256, micro_batch_size=8),
        precision=PrecisionConfig(compute="bfloat16"),
        loss=LossConfig(chunk=4096),
        loop=LoopConfig(total_steps=20_000, evaluate_every=1000, save_every=1000),
    )


def decoder_1b() -> RunConfig:
    """TinyLlama's shape with tied embeddings: 1.03 billion parameters at 32,000.

    quern-train --data DATASET --run DIR --preset 1b

    Meant for a dataset of 2,048 tokens a row and GPUs of 80 GB, eight or more: 1
    million tokens a step, 21 billion in all (20 a parameter, Hoffmann et al. 2022,
    arXiv 2203.15556). Weights, gradients and moments, all of them on every device, are
    estimated at 21 GiB, so blocks are computed again rather than kept. Shape and rate
    are TinyLlama's (Zhang et al. 2024, arXiv 2401.02385). Not measured here.
    """
    return RunConfig(
        model=DecoderConfig(
            num_layers=22,
            d_model=2048,
            num_heads=32,
            num_kv_heads=4,
            ffn_dim=5632,
            remat="full",
        ),
        optimizer=OptimizerConfig(peak_learning_rate=4e-4, warmup_steps=1000),
        data=DataConfig(global_batch_size=512, micro_batch_size=8),
        precision=PrecisionConfig(compute="bfloat16"),
        loss=LossConfig(chunk=4096),
        loop=LoopConfig(total_steps=20_000, evaluate_every=1000, save_every=1000),
    )


PRESETS: Mapping[str, Callable[[], RunConfig]] = {
    "tiny": tiny,
    "laptop": laptop,
    "recurrent": recurrent,
    "14m": decoder_14m,
    "125m": decoder_125m,
    "350m": decoder_350m,
    "1b": decoder_1b,
}


def preset(name: str) -> RunConfig:
    """Returns the configuration of a preset, or of a published size.

    Raises:
        UsageError: there is no preset of that name.
    """
    if name in SIZES:
        return published(name)
    if name not in PRESETS:
        raise UsageError(
            f"wanted a preset, found {name!r}.{suggest(name, [*PRESETS, *SIZES])} "
            f"Presets: {', '.join(PRESETS)}, and the published sizes that "
            "--list_presets names"
        )
    return PRESETS[name]()
