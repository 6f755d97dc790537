# SPDX-License-Identifier: Apache-2.0
"""What a family of published decoders is: its fields, and its tensors' names."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.models.decoder import DecoderConfig
from trainer.published.families.fields import IGNORED, PLAIN, Fields, Reader
from trainer.published.families.layouts import Table


@dataclass(frozen=True)
class FieldKey:
    """The key of a model that a field gives.

    Attributes:
        name: of `model.*`.
        default: the field's where a file has none.
        kind: of its value.
        null: whether it may be null though its default is not.
    """

    name: str
    default: Any
    kind: type = int
    null: bool = False


@dataclass(frozen=True)
class Family:
    """A family of published decoders, as a table.

    Attributes:
        model_type: how `config.json` calls it.
        architecture: its class for language models.
        keys: what its fields give, by name.
        readers: give the keys that follow from several fields.
        table: gives the tensors of a model's weights, by path.
        fixed: keys that every model of the family has.
        allowed: fields that may have these values and no other.
        ignored: fields that change nothing, beside `IGNORED`.
        prefix: of all names but the output's, which old files may lack.
        output: name of the output matrix; a file of tied weights may hold it too.
        skipped: what names of tensors fully match that are no weights.
    """

    model_type: str
    architecture: str
    keys: Mapping[str, FieldKey]
    readers: Sequence[Reader]
    table: Callable[[DecoderConfig], Table]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    allowed: Mapping[str, Collection[Any]] = field(default_factory=dict)
    ignored: Collection[str] = ()
    prefix: str = "model."
    output: str = "lm_head.weight"
    skipped: Sequence[str] = (r".*\.rotary_emb\.inv_freq",)

    def config(self, fields: Fields) -> DecoderConfig:
        """Returns the decoder that a `config.json` describes.

        Raises:
            UsageError: a field has a value that is not supported, or is not known.
        """
        keys: dict[str, Any] = dict(self.fixed)
        for name, key in self.keys.items():
            keys[key.name] = fields.take(name, key.kind, key.default, key.null)
        for reader in self.readers:
            keys |= reader(fields)
        for name, values in {**PLAIN, **self.allowed}.items():
            fields.allow(name, values)
        fields.finish(IGNORED.union(self.ignored))
        return DecoderConfig(**keys)

    def skips(self, name: str) -> bool:
        """Tells whether a tensor is a buffer that old files hold beside the weights."""
        return any(re.fullmatch(pattern, name) for pattern in self.skipped)
