# SPDX-License-Identifier: Apache-2.0
"""What is kept of published weights beside a run that began with them.

    origin/config.json, generation_config.json, tokenizer files   as they were
    origin/origin.json     names and types of tensors, and what tells them from others

So the run can be given back with every field it came with, and resumed with the same
weights alone. `origin.json` is written last.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError
from trainer.published.families.layouts import Table, same
from trainer.published.known_families import (
    CONFIG_NAME,
    described,
    family_of,
    parse_fields,
)
from trainer.published.published_model import PublishedConfig, PublishedModel
from trainer.published.tokenizer_files import TOKENIZER_FILES

ORIGIN_NAME = "origin"
GENERATION_CONFIG_NAME = "generation_config.json"
_RECORD_NAME = "origin.json"


@dataclass(frozen=True)
class TensorForms:
    """How published tensors were named and kept.

    Attributes:
        dtype: the type of most.
        others: the types of the others, by name.
        prefixed: whether names had the family's prefix.
        output: whether a tied output matrix was kept all the same.
    """

    dtype: str = "F32"
    others: Mapping[str, str] = dataclasses.field(default_factory=dict)
    prefixed: bool = True
    output: bool = False

    def dtype_of(self, name: str) -> str:
        """Returns the type of a tensor."""
        return self.others.get(name, self.dtype)


@dataclass(frozen=True)
class Origin:
    """Published files as a run keeps them.

    Attributes:
        files: their bytes by name: `config.json`, and those of generation and tokenizer
            that there were.
        digest: what tells the weights from others.
        forms: of the tensors.
    """

    files: Mapping[str, bytes]
    digest: str
    forms: TensorForms

    def config(self, path: str) -> PublishedConfig:
        """Returns what `config.json` says; `path` is the directory it was kept in.

        Raises:
            UsageError: this version of Quern does not support it.
        """
        data, name = self.files[CONFIG_NAME], storage.join(path, CONFIG_NAME)
        values = parse_fields(data, name)
        decoder, notes = described(values, name)
        return PublishedConfig(
            path, data, values, family_of(values, name), decoder, tuple(notes)
        )

    def table(self, config: PublishedConfig) -> Table:
        """Returns the tensors of each weight, by path, as they were named."""
        table, family = dict(config.table), config.kind
        if self.forms.output:
            embedding = table["vocabulary/embedding"]
            table["vocabulary/embedding"] = [*embedding, *same(family.output)]
        if self.forms.prefixed:
            return table
        return {
            path: [
                dataclasses.replace(piece, name=piece.name.removeprefix(family.prefix))
                for piece in pieces
            ]
            for path, pieces in table.items()
        }


def origin_of(published: PublishedModel) -> Origin:
    """Returns what is to be kept of a published directory."""
    config, tensors = published.config, published.tensors
    stored = {tensor.name: tensor.dtype for tensor in tensors.values()}
    most = Counter(stored.values()).most_common(1)[0][0]
    family = config.kind
    forms = TensorForms(
        dtype=most,
        others={name: dtype for name, dtype in stored.items() if dtype != most},
        prefixed=any(name.startswith(family.prefix) for name in stored),
        output=config.decoder.tie_embeddings and family.output in stored,
    )
    files = {CONFIG_NAME: config.json_bytes}
    for name in (GENERATION_CONFIG_NAME, *TOKENIZER_FILES):
        try:
            files[name] = storage.read_bytes(storage.join(config.directory, name))
        except FileNotFoundError:
            continue
    return Origin(files, published.digest, forms)


def write_origin(run: str, origin: Origin) -> None:
    """Keeps published files in a run's directory."""
    place = storage.join(run, ORIGIN_NAME)
    storage.make_directory(place)
    record = {"digest": origin.digest, "tensors": dataclasses.asdict(origin.forms)}
    data = strict_json.dumps(record, indent=1, sort_keys=True) + "\n"
    for name, content in {**origin.files, _RECORD_NAME: data.encode()}.items():
        storage.write_atomically(storage.join(place, name), content, durable=True)


def read_origin(run: str) -> Origin | None:
    """Returns what a run keeps of published weights; None where it began anew.

    Raises:
        UsageError: it cannot be read.
    """
    place = storage.join(run, ORIGIN_NAME)
    path = storage.join(place, _RECORD_NAME)
    try:
        record: Any = strict_json.loads(storage.read_bytes(path))
        names = set(storage.list_names(place)) - {_RECORD_NAME}
        files = {name: storage.read_bytes(storage.join(place, name)) for name in names}
        forms = TensorForms(**record["tensors"])
        return Origin(
            {CONFIG_NAME: files[CONFIG_NAME], **files}, record["digest"], forms
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"wanted in {place} what is kept of published weights, found: {error}. "
            "Restore it from a copy"
        ) from None
