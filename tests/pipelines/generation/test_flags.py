# SPDX-License-Identifier: Apache-2.0
"""Flags become what a job is asked for."""

import dataclasses

import pytest

from pipelines.generation.flags import (
    generation_config,
    generation_parser,
    prompt_fields,
)
from pipelines.generation.prompts import PromptFields
from preprocessing.contracts.generation_config import GenerationConfig
from preprocessing.foundation.commands import UsageError

NEEDED = ["--model", "m", "--input", "i", "--output", "o"]


def parsed(*flags: str):
    return generation_parser().parse_args([*NEEDED, *flags])


def test_every_setting_of_a_generation_is_a_flag_with_its_default():
    assert generation_config(parsed()) == GenerationConfig()
    for field in dataclasses.fields(GenerationConfig):
        flag = f"--{field.name}"
        if isinstance(field.default, tuple):
            found = generation_config(parsed(flag, "\n\n", flag, "END"))
            assert getattr(found, field.name) == ("\n\n", "END")
        elif field.name == "cache_memory":
            for text, size in [("2GB", 2 * 10**9), ("1.5 MiB", 1572864), ("9", 9)]:
                assert generation_config(parsed(flag, text)).cache_memory == size
            with pytest.raises(UsageError, match="wanted a size such as 2GB"):
                parsed(flag, "2 bytes")
        else:
            found = generation_config(parsed(flag, "1"))
            assert getattr(found, field.name) == 1


def test_fields_are_the_usual_ones_or_those_named():
    assert prompt_fields(parsed(), ["id"]) == PromptFields()
    flags = ("--prompt_field", "q", "--id_field", "k", "--keep_fields", "a", "b", "a")
    named = PromptFields(("q",), "k", ("a", "b"))
    assert prompt_fields(parsed(*flags), ["id"]) == named
    with pytest.raises(UsageError, match="wanted --keep_fields other than id, a, wh"):
        prompt_fields(parsed(*flags), ["id", "a"])
