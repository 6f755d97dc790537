# SPDX-License-Identifier: Apache-2.0
"""The files of a published tokenizer, and those written for one of our own."""

from collections.abc import Mapping
from typing import Any

from preprocessing.foundation import strict_json
from preprocessing.tokenizer.tokenizer import Tokenizer

TOKENIZER_JSON = "tokenizer.json"
# As transformers looks for them; a directory has some of them.
TOKENIZER_FILES = (
    TOKENIZER_JSON,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
)


def special_tokens(tokenizer: Tokenizer) -> dict[str, tuple[str, int]]:
    """Returns name and id of the tokens that begin, end and pad a text.

    By what transformers calls them: bos_token, eos_token, pad_token. An id that is no
    special token of the file stands for padding in rows alone, and is left out.
    """
    names = {number: name for name, number in tokenizer.bpe.added.items()}
    ids = {
        "bos_token": tokenizer.bos_id,
        "eos_token": tokenizer.eos_id,
        "pad_token": tokenizer.pad_id,
    }
    return {
        role: (names[number], number)
        for role, number in ids.items()
        if number is not None and number in names
    }


def files_of(tokenizer: Tokenizer, context: int | None) -> dict[str, bytes]:
    """Returns the files by which transformers knows a tokenizer, by name.

    Args:
        tokenizer: of a dataset.
        context: positions of the model; None for any number.
    """
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
    }
    for role, (name, _) in special_tokens(tokenizer).items():
        config[role] = name
    if context is not None:
        config["model_max_length"] = context
    return {
        TOKENIZER_JSON: tokenizer.json_bytes,
        "tokenizer_config.json": as_json(config),
    }


def as_json(values: Mapping[str, Any]) -> bytes:
    """Returns a table as Hugging Face's files have it."""
    return (strict_json.dumps(values, indent=2, sort_keys=True) + "\n").encode()
