# SPDX-License-Identifier: Apache-2.0
"""Builds the language model that a configuration describes, of whatever family.

This is the only place that knows families by name.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from preprocessing.foundation import user_code
from preprocessing.foundation.commands import UsageError, suggest
from trainer.models.decoder import DecoderConfig
from trainer.models.language_model import LanguageModel, ModelConfig, PrecisionConfig
from trainer.models.parts.layers import Initializer
from trainer.models.recurrent import RecurrentConfig

__all__ = [
    "LanguageModel",
    "ModelConfig",
    "PrecisionConfig",
    "build_model",
    "with_family",
]

FAMILIES: Mapping[str, type[ModelConfig]] = {
    "decoder": DecoderConfig,
    "recurrent": RecurrentConfig,
}


def build_model(
    config: ModelConfig, vocab_size: int, precision: PrecisionConfig, seed: int
) -> LanguageModel:
    """Builds a model with fresh weights.

    Each weight is drawn from (seed, its name) alone, so it is the same under every
    strategy, in every process and whatever else the model holds. Call it inside
    `strategy.scope()`.

    Args:
        config: the model's shape.
        vocab_size: number of ids, from the dataset's manifest; `config` may have more.
        precision: compute and parameter types.
        seed: any integer.

    Returns:
        The model, a `tf.Module`.

    Raises:
        UsageError: the configuration has fewer ids.
    """
    return config.build(config.ids(vocab_size), precision, Initializer(seed))


def with_family(config: ModelConfig, family: str) -> ModelConfig:
    """Returns a configuration of `family` with the keys that `config` shares with it.

    Args:
        config: of any family.
        family: one of `FAMILIES`, or `my_package.module:Config`.

    Raises:
        UsageError: there is no such family.
    """
    if family == config.family:
        return config
    kind = _family(family)
    names = {field.name for field in dataclasses.fields(kind)} - {"family"}
    shared: dict[str, Any] = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if field.name in names
    }
    return kind(family=family, **shared)


def _family(name: str) -> type[ModelConfig]:
    if user_code.is_import_path(name):
        found: Any = user_code.load(name)
        if isinstance(found, type) and issubclass(found, ModelConfig):
            return found
        raise UsageError(
            f"wanted a class derived from ModelConfig (trainer.models.language_model) "
            f"for model.family {name}, found {found!r}. Derive it"
        )
    if name not in FAMILIES:
        raise UsageError(
            f"wanted model.family to be one of {', '.join(FAMILIES)} or "
            f"my_package.module:Config, found {name!r}.{suggest(name, tuple(FAMILIES))}"
            " Choose one"
        )
    return FAMILIES[name]
