# SPDX-License-Identifier: Apache-2.0
"""The families of published decoders that are known, and which one a file is of."""

from collections.abc import Mapping
from typing import Any

from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError
from trainer.models.decoder import DecoderConfig
from trainer.published.families.family import Family
from trainer.published.families.fields import Fields
from trainer.published.families.gemma3 import GEMMA3
from trainer.published.families.gpt2 import GPT2
from trainer.published.families.gpt_neox import GPT_NEOX
from trainer.published.families.granite import GRANITE
from trainer.published.families.llama import LLAMA
from trainer.published.families.mistral import MISTRAL
from trainer.published.families.mixtral import MIXTRAL
from trainer.published.families.olmo2 import OLMO2
from trainer.published.families.qwen2 import QWEN2
from trainer.published.families.qwen3 import QWEN3
from trainer.published.families.qwen3_moe import QWEN3_MOE

FAMILIES: Mapping[str, Family] = {
    family.model_type: family
    for family in (
        GEMMA3,
        GPT2,
        GPT_NEOX,
        GRANITE,
        LLAMA,
        MISTRAL,
        MIXTRAL,
        OLMO2,
        QWEN2,
        QWEN3,
        QWEN3_MOE,
    )
}
CONFIG_NAME = "config.json"


def parse_fields(data: bytes, path: str) -> dict[str, Any]:
    """Returns the fields of a `config.json`; `path` is how errors call it.

    Raises:
        UsageError: it is no table in JSON.
    """
    try:
        values = strict_json.loads(data)
    except ValueError as error:
        raise UsageError(f"wanted JSON in {path}, found: {error}. Correct it") from None
    if not isinstance(values, dict):
        raise UsageError(
            f"wanted a table of fields in {path}, found {type(values).__name__}. "
            "Name a directory with a model's config.json"
        )
    return values


def read_config(directory: str) -> bytes:
    """Returns the bytes of a directory's `config.json`.

    Raises:
        UsageError: there is none.
    """
    path = storage.join(directory, CONFIG_NAME)
    try:
        return storage.read_bytes(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UsageError(
            f"wanted a published model with {CONFIG_NAME} and its weights in "
            f"{directory}, found no {CONFIG_NAME}. Name the directory that "
            "was downloaded"
        ) from None


def family_of(values: Mapping[str, Any], path: str) -> Family:
    """Returns the family that a `config.json` says it is of.

    Raises:
        UsageError: it is not a known one, or a model of it for another task.
    """
    kind, classes = values.get("model_type"), values.get("architectures")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise UsageError(
            f"wanted model_type {', '.join(FAMILIES)} in {path}, found "
            f"{strict_json.dumps(kind)}. Others are not supported"
        )
    family = FAMILIES[kind]
    if classes is not None and classes != [family.architecture]:
        raise UsageError(
            f"wanted architectures {family.architecture} in {path}, found "
            f"{strict_json.dumps(classes)}. Only decoders with their output are "
            "supported"
        )
    return family


def described(values: Mapping[str, Any], path: str) -> tuple[DecoderConfig, list[str]]:
    """Returns the decoder that a `config.json` describes, and notes on it.

    Raises:
        UsageError: it is of no known family, or has a field that is not supported.
    """
    fields = Fields(values, path)
    return family_of(values, path).config(fields), fields.notes
