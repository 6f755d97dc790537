# SPDX-License-Identifier: Apache-2.0
"""Writes a model as a published directory: configuration, weights, tokenizer.

One that began with published weights is given back with the files it came with; one
made here is a Llama's, which its defaults are.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from preprocessing.tokenizer.tokenizer import Tokenizer
from trainer.models.decoder import DecoderConfig
from trainer.models.functional import WeightPlace, weight_places
from trainer.models.language_model import LanguageModel
from trainer.published.families.layouts import Table, TensorPart
from trainer.published.families.llama import LLAMA, llama_fields
from trainer.published.known_families import CONFIG_NAME, described
from trainer.published.origin import GENERATION_CONFIG_NAME, Origin, TensorForms
from trainer.published.safetensors_writing import TensorToWrite, write_weights
from trainer.published.tokenizer_files import as_json, files_of, special_tokens

# Keys that say how a decoder is trained, which no published configuration holds.
TRAINING_KEYS = frozenset(
    {
        "dropout",
        "attention",
        "attention_chunk",
        "remat",
        "balance_loss",
        "router_z_loss",
    }
)


@dataclass(frozen=True)
class Publication:
    """What a published directory will hold, but for the numbers.

    Attributes:
        files: bytes of all files but those of weights, by name.
        table: the tensors of each weight, by path.
        forms: of the tensors.
    """

    files: Mapping[str, bytes]
    table: Table
    forms: TensorForms


def publication_of_origin(origin: Origin, directory: str) -> Publication:
    """Returns what gives published weights back; `directory` is where it was kept.

    Raises:
        UsageError: this version of Quern does not support them.
    """
    table = origin.table(origin.config(directory))
    return Publication(origin.files, table, origin.forms)


def publication_of_llama(
    config: Any, vocab_size: int, length: int, tokenizer: Tokenizer
) -> Publication:
    """Returns what makes a Llama of a decoder that was made here.

    Args:
        config: its configuration.
        vocab_size: its ids.
        length: positions of the rows it was trained on.
        tokenizer: of its dataset.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(config, DecoderConfig):
        raise UsageError(
            "wanted a decoder to write for Hugging Face, found one of model.family "
            f"{config.family}. Export it without --format"
        )
    fields = dict(llama_fields(config, vocab_size, length))
    _check_llama(config, fields)
    tokens = special_tokens(tokenizer)
    ids = {f"{role}_id": number for role, (_, number) in tokens.items()}
    files = {
        CONFIG_NAME: as_json({**fields, **ids}),
        GENERATION_CONFIG_NAME: as_json({"_from_model_config": True, **ids}),
        **files_of(tokenizer, fields["max_position_embeddings"]),
    }
    return Publication(files, LLAMA.table(config), TensorForms())


def write_publication(
    publication: Publication, model: LanguageModel, directory: str
) -> None:
    """Writes a published directory, `config.json` last.

    Args:
        publication: what it holds.
        model: has the numbers.
        directory: where; one that is there, or in a bucket.

    Raises:
        UsageError: a weight is not finite in the type it is written as.
    """
    write_weights(directory, tensors_of(publication, model))
    last = CONFIG_NAME
    for name, data in sorted(
        publication.files.items(), key=lambda item: (item[0] == last, item[0])
    ):
        storage.write_atomically(storage.join(directory, name), data)


def tensors_of(publication: Publication, model: LanguageModel) -> list[TensorToWrite]:
    """Returns the tensors of a model as they are published."""
    return [
        _tensor(place, piece, publication.forms.dtype_of(piece.name))
        for place in weight_places(model)
        for piece in publication.table[place.path]
    ]


def _tensor(place: WeightPlace, piece: TensorPart, dtype: str) -> TensorToWrite:
    def read() -> np.ndarray:
        # Shares the variable's memory on a CPU; `numpy()` would copy it.
        return piece.view(np.asarray(tf.convert_to_tensor(place.variable)))

    shape = piece.shape(place.variable.shape.as_list())
    return TensorToWrite(piece.name, dtype, shape, read)


def _check_llama(config: DecoderConfig, fields: Mapping[str, Any]) -> None:
    """Checks that what is read of the fields is the decoder they were written of."""
    read, _ = described(fields, CONFIG_NAME)
    told = {"vocab_size", "num_kv_heads", "head_dim", "ffn_dim", "max_positions"}
    same = TRAINING_KEYS | told | {"rope_attention_factor"}
    odd = [
        f"model.{field.name} {getattr(config, field.name)}"
        for field in dataclasses.fields(config)
        if field.name not in same
        and getattr(config, field.name) != getattr(read, field.name)
    ]
    if odd:
        raise UsageError(
            "wanted a decoder that Hugging Face's Llama computes, or one that began "
            f"with --init_from, found {' and '.join(odd)}. Export it without --format"
        )
