# SPDX-License-Identifier: Apache-2.0
"""Which tokens begin, end and pad a document, by the files beside a tokenizer.json.

    end      eos_token of tokenizer_config.json, then of special_tokens_map.json; then
             the first eos_token_id of generation_config.json, then of config.json
    padding  the same with pad_token and pad_token_id
    begin    what the tokenizer.json itself puts first (its post-processor, as Llama 3's
             does); else bos_token of tokenizer_config.json where add_bos_token is true

Published files name a begin that nothing puts anywhere (GPT-2's, Qwen's), so a name
alone begins no document. A name that the tokenizer.json does not have is passed over.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError
from preprocessing.tokenizer.byte_level import ByteLevelBPE

Json = dict[str, Any]
_TOKENIZER_CONFIG = "tokenizer_config.json"
_NAMING = (_TOKENIZER_CONFIG, "special_tokens_map.json")
_NUMBERING = ("generation_config.json", "config.json")


@dataclass(frozen=True)
class NamesBeside:
    """The tokens that files beside a `tokenizer.json` name; None for none.

    Attributes:
      bos_token: what begins a document.
      eos_token: what ends it.
      pad_token: what fills rows.
    """

    bos_token: str | None
    eos_token: str | None
    pad_token: str | None


def names_beside(path: str, bpe: ByteLevelBPE) -> NamesBeside:
    """Reads the files beside a `tokenizer.json`, local or in a bucket.

    Args:
      path: of the `tokenizer.json`.
      bpe: the file.

    Raises:
      UsageError: a file there is no JSON.
    """
    directory, slash, _ = path.rpartition("/")
    here = set(storage.list_names(directory or (slash or ".")))
    files: dict[str, Json] = {}

    def file(name: str) -> Json:
        if name not in files:
            place = storage.join(directory, name) if slash else name
            files[name] = _read(place) if name in here else {}
        return files[name]

    return NamesBeside(
        bos_token=_first_put(bpe) or _added_begin(file(_TOKENIZER_CONFIG), bpe),
        eos_token=_named(file, bpe, "eos_token"),
        pad_token=_named(file, bpe, "pad_token"),
    )


def _read(path: str) -> Json:
    try:
        tree = strict_json.loads(storage.read_bytes(path))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"wanted JSON in {path}, which names the tokens of the tokenizer.json "
            f"beside it, found an error: {error}. Pass --eos_token NAME and "
            "--bos_token NAME|none to do without it"
        ) from error
    return tree if isinstance(tree, dict) else {}


def _named(file: Callable[[str], Json], bpe: ByteLevelBPE, role: str) -> str | None:
    for name in _NAMING:
        content = _content(file(name).get(role))
        if content in bpe.added:
            return content
    contents = {id: content for content, id in bpe.added.items()}
    for name in _NUMBERING:
        number = file(name).get(f"{role}_id")
        first = number[0] if isinstance(number, list) and number else number
        if isinstance(first, int) and first in contents:
            return contents[first]
    return None


def _content(token: Any) -> Any:
    """Returns a token's string, of either form that transformers writes."""
    return token.get("content") if isinstance(token, dict) else token


def _added_begin(config: Json, bpe: ByteLevelBPE) -> str | None:
    content = _content(config.get("bos_token"))
    return content if config.get("add_bos_token") and content in bpe.added else None


def _first_put(bpe: ByteLevelBPE) -> str | None:
    """Returns what the post-processor puts before a text, or None."""
    processor = bpe.json.get("post_processor") or {}
    parts = [processor]
    if processor.get("type") == "Sequence":
        parts = processor.get("processors", [])
    for part in parts:
        if part.get("type") == "TemplateProcessing" and part.get("single"):
            token = part["single"][0].get("SpecialToken", {}).get("id")
            ids = part.get("special_tokens", {}).get(token, {}).get("tokens", [token])
            if len(ids) == 1 and ids[0] in bpe.added:
                return str(ids[0])
    return None
