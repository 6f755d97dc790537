# SPDX-License-Identifier: Apache-2.0
"""What `quern-train --list_presets` and `--list_keys` tell, wrapped for people."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from preprocessing.foundation.commands import count_of
from trainer.loop.memory import sketch
from trainer.loop.plan import ConfigSource, configure
from trainer.models.language_model import ModelConfig
from trainer.models.model import FAMILIES
from trainer.models.parameters import num_parameters
from trainer.run.config import RunConfig, with_pairs
from trainer.run.key_list import Table, first_sentence, show, tables, wrapped
from trainer.run.overrides import flattened
from trainer.run.presets import PRESETS
from trainer.run.published_presets import SIZES

# The vocabulary that presets are told apart by.
VOCAB_SIZE = 32_000
PUBLISHED = "The shapes of published decoders, for --dry_run and --set:"


def list_presets(width: int) -> list[str]:
    """Returns lines of `width` columns: every preset, what it is, and its sizes.

    Published sizes are told by their names alone: to build them takes half a minute.
    """
    told = [
        line for name, make in PRESETS.items() for line in _preset(name, make, width)
    ]
    return [*told, PUBLISHED, *wrapped(", ".join(SIZES), width)]


def list_keys(source: ConfigSource, width: int) -> list[str]:
    """Returns lines of `width` columns: every key, its type, value and meaning.

    Args:
        source: whose values are told; of nothing named, the defaults, for each family
            of models.
        width: columns of a line.

    Raises:
        UsageError: the source names no preset, or a key or value is refused.
    """
    if source == ConfigSource(None, None, ()):
        families = [kind(family=name) for name, kind in FAMILIES.items()]
        told = _tables(RunConfig(), families)
    else:
        config = _configure(source)
        told = _tables(config, [config.model])
    return [line for table in told for line in show(table, width)]


def _configure(source: ConfigSource) -> RunConfig:
    if source.preset is None and source.file is None:
        return with_pairs(RunConfig(), source.pairs)
    return configure(source, None)


def _preset(name: str, make: Callable[[], RunConfig], width: int) -> list[str]:
    config = make()
    values = flattened(config)
    model = sketch(config.model, VOCAB_SIZE, config.precision).model
    sizes = (
        f"{config.model.family}, layers x width {values['model.num_layers']} x "
        f"{values['model.d_model']}, {num_parameters(model):,} parameters at "
        f"{VOCAB_SIZE:,} ids; {count_of(config.data.global_batch_size, 'row')} a step, "
        f"{config.loop.total_steps:,} steps, {config.precision.compute}"
    )
    about = wrapped(first_sentence(make.__doc__ or ""), width)
    return [f"  {name}", *about, *wrapped(sizes, width)]


def _tables(config: RunConfig, models: Sequence[ModelConfig]) -> Iterator[Table]:
    """Yields a configuration's tables, the model's once for each of `models`."""
    for table in tables(config):
        if table.heading != "model":
            yield table
            continue
        for model in models:
            family = dataclasses.replace(config, model=model)
            of_model = next(each for each in tables(family) if each.heading == "model")
            heading = f"model, of the family {model.family}"
            yield dataclasses.replace(of_model, heading=heading)
