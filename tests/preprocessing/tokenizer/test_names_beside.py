# SPDX-License-Identifier: Apache-2.0
"""Files beside a tokenizer.json name what begins, ends and pads a document."""

import json
from pathlib import Path
from typing import Any

import pytest

from preprocessing.foundation.commands import UsageError
from preprocessing.tokenizer.tokenizer import Tokenizer
from tests.family_tokenizers import TEMPLATE
from tests.scripts_corpus import changed, gpt2_style_tokenizer

NAMES = ((b"<|bos|>", b"<|start|>"), (b"<|eos|>", b"<|end|>"), (b"<|pad|>", b"<|im|>"))
BOS, EOS, PAD = 0, 1, 2


def ids(
    directory: Path, beside: dict[str, Any], flags: Any = (), **fields: Any
) -> tuple[int | None, int, int]:
    data = changed(gpt2_style_tokenizer(), **fields)
    for own, name in NAMES:
        data = data.replace(own, name)
    path = directory / "tokenizer.json"
    path.write_bytes(data)
    for name, tree in beside.items():
        (directory / name).write_text(json.dumps(tree))
    loaded = Tokenizer.load(str(path), **dict(flags))
    return loaded.bos_id, loaded.eos_id, loaded.pad_id


@pytest.mark.parametrize(
    ("beside", "wanted"),
    [
        ({"tokenizer_config.json": {"eos_token": "<|end|>"}}, (None, EOS, 0)),
        (
            {
                "tokenizer_config.json": {
                    "eos_token": {"content": "<|end|>", "special": True},
                    "bos_token": "<|start|>",
                    "pad_token": "<|im|>",
                    "add_bos_token": True,
                },
                "config.json": {"eos_token_id": PAD},
            },
            (BOS, EOS, PAD),
        ),
        (  # Qwen names a begin that nothing puts anywhere
            {
                "tokenizer_config.json": {"bos_token": None, "add_bos_token": False},
                "special_tokens_map.json": {"eos_token": "<|im|>"},
                "config.json": {"bos_token_id": BOS, "eos_token_id": EOS},
            },
            (None, PAD, 0),
        ),
        (  # Llama 3's instruct models name several
            {
                "tokenizer_config.json": {"eos_token": "<|unknown|>"},
                "generation_config.json": {"eos_token_id": [EOS, PAD]},
                "config.json": {"eos_token_id": PAD, "pad_token_id": PAD},
            },
            (None, EOS, PAD),
        ),
    ],
)
def test_files_beside_name_the_ids(
    beside: dict[str, Any], wanted: tuple[int | None, int, int], tmp_path: Path
) -> None:
    assert ids(tmp_path, beside) == wanted


def test_what_a_tokenizer_puts_first_begins_a_document(tmp_path: Path) -> None:
    beside = {"tokenizer_config.json": {"eos_token": "<|end|>"}}
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False}
    sequence = {"type": "Sequence", "processors": [byte_level, TEMPLATE]}
    for processor in (TEMPLATE, sequence):
        assert ids(tmp_path, beside, post_processor=processor) == (BOS, EOS, 0)
    assert ids(tmp_path, beside, post_processor=byte_level) == (None, EOS, 0)


def test_flags_come_first_and_alone(tmp_path: Path) -> None:
    named = {"eos_token": "<|end|>", "pad_token": "<|im|>"}
    beside = {"tokenizer_config.json": named}
    template: dict[str, Any] = {"post_processor": TEMPLATE}
    one = [("eos_token", "<|im|>")]
    assert ids(tmp_path, beside, one, **template) == (None, PAD, 0)
    none = [("bos_token", "none"), ("pad_token", "none")]
    assert ids(tmp_path, beside, none, **template) == (None, EOS, 0)


def test_names_of_our_own_need_no_files_beside(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|pad|>"}')
    (tmp_path / "tokenizer.json").write_bytes(gpt2_style_tokenizer())
    assert Tokenizer.load(str(tmp_path / "tokenizer.json")).eos_id == EOS


def test_a_file_beside_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(UsageError, match=r"tokenizer_config\.json, which names"):
        ids(tmp_path, {})
    assert ids(tmp_path, {}, [("eos_token", "<|end|>")]) == (None, EOS, 0)
