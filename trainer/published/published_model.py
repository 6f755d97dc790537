# SPDX-License-Identifier: Apache-2.0
"""A published directory: the decoder that it describes, and its weights read into one.

Names are checked both ways before a number is read. Each weight is read when its
variable is made, so that beside the weights no more than one of them is held.
"""

import math
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError, first_of
from trainer.models.decoder import DecoderConfig
from trainer.models.functional import weight_places
from trainer.models.language_model import LanguageModel, ModelConfig, PrecisionConfig
from trainer.models.parts.layers import Initializer, Zeros
from trainer.models.parts.weights import Weight, declare
from trainer.published.families.family import Family
from trainer.published.families.layouts import Table
from trainer.published.known_families import (
    CONFIG_NAME,
    described,
    family_of,
    parse_fields,
    read_config,
)
from trainer.published.safetensors_files import (
    DTYPES,
    StoredTensor,
    parts,
    read_into,
)
from trainer.published.weight_files import digest, find_tensors


@dataclass(frozen=True)
class PublishedConfig:
    """What the `config.json` of a directory says.

    Attributes:
        directory: where it is, local or cloud.
        json_bytes: the file.
        fields: what it holds.
        kind: its family.
        decoder: its shape.
        notes: what is read otherwise than the file has it, in sentences.
    """

    directory: str
    json_bytes: bytes
    fields: Mapping[str, Any]
    kind: Family
    decoder: DecoderConfig
    notes: tuple[str, ...]

    @property
    def num_ids(self) -> int:
        """How many ids the model has."""
        return self.decoder.ids(0)

    @cached_property
    def table(self) -> Table:
        """The published tensors of each weight, by its path."""
        return self.kind.table(self.decoder)


@dataclass(frozen=True)
class PublishedModel:
    """A directory whose files have the weights that its configuration asks for.

    Attributes:
        config: what it says.
        tensors: where they lie, by the names that the family's table has.
    """

    config: PublishedConfig
    tensors: Mapping[str, StoredTensor]

    @cached_property
    def digest(self) -> str:
        """What tells these weights from others; see `weight_files.py`."""
        return digest(self.config.json_bytes, self.tensors)


def read_published_config(directory: str) -> PublishedConfig:
    """Reads what a directory says it is; no weights are looked at.

    Raises:
        UsageError: there is no `config.json`, or what it says is not supported.
    """
    data, path = read_config(directory), storage.join(directory, CONFIG_NAME)
    values = parse_fields(data, path)
    decoder, notes = described(values, path)
    return PublishedConfig(
        directory, data, values, family_of(values, path), decoder, tuple(notes)
    )


def open_published(directory: str) -> PublishedModel:
    """Reads what a directory says it is, and where its weights lie.

    Raises:
        UsageError: it is not supported, or its files are not what it says: a tensor is
            missing, left over, or of another shape or type.
    """
    config = read_published_config(directory)
    found = _by_table(find_tensors(directory), config.kind)
    _check(config, found)
    return PublishedModel(config, found)


@dataclass(frozen=True)
class ReadWeights(Initializer):
    """Reads each weight, by its path, in place of drawing it.

    Attributes:
        published: what is read.
    """

    published: PublishedModel = field(kw_only=True)

    def normal(
        self, name: str, shape: Sequence[int], stddev: float, weight: Weight
    ) -> tf.Variable:
        """Makes a weight with its published numbers.

        Raises:
            UsageError: one is NaN or infinite.
        """
        return self.constant(name, shape, 0.0, weight)

    def constant(
        self,
        name: str,
        shape: Sequence[int],
        value: float,
        weight: Weight,
        trained: bool = True,
    ) -> tf.Variable:
        """Makes a weight with its published numbers; see `normal`."""
        read = _memory(shape)
        for part in self.published.config.table[self.path + name]:
            read_into(self.published.tensors[part.name], part.view(read))
        made = tf.Variable(read, trainable=trained, name=name)
        return declare(made, weight)


def build_published(
    published: PublishedModel, precision: PrecisionConfig, config: ModelConfig
) -> LanguageModel:
    """Builds a model with published weights; call it inside `strategy.scope()`.

    Args:
        published: the weights.
        precision: compute and parameter types.
        config: the decoder that they describe, with keys of training beside.

    Raises:
        UsageError: a number is NaN or infinite, or a tied output is not the embedding.
    """
    _check_tied(published)
    initializer = ReadWeights(0, published=published)
    return config.build(published.config.num_ids, precision, initializer)


def load_published(
    directory: str, precision: PrecisionConfig | None = None
) -> tuple[PublishedConfig, LanguageModel]:
    """Returns what a directory says it is, and the model with its weights.

    Raises:
        UsageError: it is not supported, or not whole.
    """
    published = open_published(directory)
    config = published.config
    model = build_published(published, precision or PrecisionConfig(), config.decoder)
    return config, model


def weight_shapes(config: PublishedConfig) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each weight of the decoder, by path; allocates nothing."""
    with tf.Graph().as_default():
        model = config.decoder.build(config.num_ids, PrecisionConfig(), Zeros(0))
        return {
            place.path: tuple(place.variable.shape.as_list())
            for place in weight_places(model)
        }


def _by_table(
    found: Mapping[str, StoredTensor], family: Family
) -> dict[str, StoredTensor]:
    """Returns tensors by the names of the family's table, without buffers."""
    kept = {name: tensor for name, tensor in found.items() if not family.skips(name)}
    if any(name.startswith(family.prefix) for name in kept):
        return kept
    return {
        name if name == family.output else family.prefix + name: tensor
        for name, tensor in kept.items()
    }


def _check(config: PublishedConfig, found: Mapping[str, StoredTensor]) -> None:
    """Checks names, shapes and types of tensors against the family's table."""
    shapes = weight_shapes(config)
    wanted = {
        piece.name: piece.shape(shapes[path])
        for path, pieces in config.table.items()
        for piece in pieces
    }
    if config.decoder.tie_embeddings and config.kind.output in found:
        wanted[config.kind.output] = shapes["vocabulary/embedding"]
    both = sorted(set(wanted) & set(found))
    complaints = {
        "they lack": sorted(set(wanted) - set(found)),
        "there is no place for": sorted(set(found) - set(wanted)),
        "shapes differ for": [
            f"{name} (found {list(found[name].shape)}, wanted {list(wanted[name])})"
            for name in both
            if found[name].shape != wanted[name]
        ],
        f"types other than {', '.join(DTYPES)} are": [
            f"{name} ({found[name].dtype})"
            for name in both
            if found[name].dtype not in DTYPES
        ],
    }
    told = [f"{what} {first_of(names)}" for what, names in complaints.items() if names]
    if told:
        raise UsageError(
            f"wanted the weights in {config.directory} to be what {CONFIG_NAME} there "
            f"says, {'; '.join(told)}. Download both again"
        )


def _check_tied(published: PublishedModel) -> None:
    """Checks that an output matrix that is stored, and tied, is the embedding."""
    family, decoder = published.config.kind, published.config.decoder
    output = published.tensors.get(family.output)
    if not decoder.tie_embeddings or output is None:
        return
    (piece,) = published.config.table["vocabulary/embedding"]
    embedding = published.tensors[piece.name]
    row = embedding.shape[1]
    same = output.dtype == embedding.dtype and all(
        np.array_equal(one, other)
        for one, other in zip(parts(output, row), parts(embedding, row), strict=True)
    )
    if not same:
        raise UsageError(
            f"wanted {family.output} to be {piece.name}, as tie_word_embeddings in "
            f"{published.config.directory} says, found another. Set it to false in "
            f"{CONFIG_NAME} if they differ"
        )


def _memory(shape: Sequence[int]) -> np.ndarray:
    """Returns float32 memory that goes back to the system with its last user.

    What is freed to the allocator may stay with the process: of a model of 419 MiB it
    kept 30, beside the weight that was read last.
    """
    count = math.prod(shape)
    memory = mmap.mmap(-1, max(1, 4 * count))
    return np.frombuffer(memory, np.float32, count).reshape(shape)
