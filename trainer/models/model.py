# SPDX-License-Identifier: Apache-2.0
"""Builds the language model that a configuration describes."""

from trainer.models.decoder import Decoder
from trainer.models.language_model import LanguageModel, ModelConfig, PrecisionConfig
from trainer.models.layers import Initializer
from trainer.models.recurrent import Recurrent

__all__ = ["LanguageModel", "ModelConfig", "PrecisionConfig", "build_model"]


def build_model(
    config: ModelConfig, vocab_size: int, precision: PrecisionConfig, seed: int
) -> LanguageModel:
    """Builds a model with fresh weights.

    Each weight is drawn from (seed, its name) alone, so it is the same under every
    strategy, in every process and whatever else the model holds. Call it inside
    `strategy.scope()`.

    Args:
        config: the model's shape.
        vocab_size: number of ids, from the dataset's manifest.
        precision: compute and parameter types.
        seed: any integer.

    Returns:
        The model, a `tf.Module`.
    """
    if config.family == "recurrent":
        return Recurrent(config, vocab_size, precision, Initializer(seed))
    return Decoder(config, vocab_size, precision, Initializer(seed))
