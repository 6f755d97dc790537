# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of published weights, with the ids that begin and end a text."""

from typing import Any

from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError
from preprocessing.tokenizer.tokenizer import Tokenizer
from trainer.published.known_families import CONFIG_NAME
from trainer.published.origin import GENERATION_CONFIG_NAME
from trainer.published.tokenizer_files import TOKENIZER_JSON


def open_published_tokenizer(directory: str) -> Tokenizer:
    """Opens the tokenizer that lies beside published weights.

    Raises:
        UsageError: there is none, or it is no byte-level BPE, as those of SentencePiece
            are not.
    """
    path = storage.join(directory, TOKENIZER_JSON)
    if not storage.exists(path):
        raise UsageError(
            f"wanted {TOKENIZER_JSON} in {directory}, to serve text, found none. "
            "Download it; SentencePiece's tokenizer.model alone is not supported yet"
        )
    return Tokenizer.load(path)


def further_stop_ids(directory: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Returns the ids beside EOS that end a text: a chat model's end of a turn."""
    return tuple(x for x in published_stop_ids(directory) if x != tokenizer.eos_id)


def published_stop_ids(directory: str) -> tuple[int, ...]:
    """Returns the ids that end a text, as the files beside published weights say."""
    return tuple(_ids(directory, "eos_token_id"))


def _ids(directory: str, field: str) -> list[int]:
    """Returns the ids of a field, one or a list, of the first file that has it."""
    for name in (GENERATION_CONFIG_NAME, CONFIG_NAME):
        found = _fields(directory, name).get(field)
        if found is not None:
            ids = found if isinstance(found, list) else [found]
            return [number for number in ids if isinstance(number, int)]
    return []


def _fields(directory: str, name: str) -> dict[str, Any]:
    """Returns a table of a file, empty where there is none."""
    path = storage.join(directory, name)
    try:
        found = strict_json.loads(storage.read_bytes(path))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UsageError(f"wanted JSON in {path}, found: {error}. Correct it") from None
    return found if isinstance(found, dict) else {}
