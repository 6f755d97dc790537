# SPDX-License-Identifier: Apache-2.0
"""What the flags of a preparation name: its input files and its tokenizer."""

import argparse

from preprocessing import storage
from preprocessing.commands import UsageError
from preprocessing.mixture import MixtureConfig, mixture_files, read_mixture
from preprocessing.storage import InputFile
from preprocessing.tokenizer import Tokenizer


def input_files(
    flags: argparse.Namespace,
) -> tuple[MixtureConfig | None, list[InputFile]]:
    """Returns the mixture, if the input is one, and the input's files."""
    if flags.mixture:
        mixture, inputs = read_mixture(flags.mixture)
        return mixture, _with_text(mixture_files(inputs), "the mixture's globs")
    return None, _with_text(storage.expand(flags.input), "--input")


def _with_text(files: list[InputFile], where: str) -> list[InputFile]:
    if not any(file.size for file in files):
        raise UsageError(
            f"wanted documents in the input, found {len(files)} empty "
            f"file{'s' * (len(files) > 1)}. Check {where}"
        )
    return files


def tokenizer_of(flags: argparse.Namespace) -> Tokenizer:
    """Returns the tokenizer that the flags name."""
    return Tokenizer.load(
        flags.tokenizer,
        bos_token=flags.bos_token,
        eos_token=flags.eos_token,
        pad_token=flags.pad_token,
    )
