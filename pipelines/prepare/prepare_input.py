# SPDX-License-Identifier: Apache-2.0
"""What the flags of a preparation name: its input, its tokenizer, all it will do."""

import argparse
from dataclasses import dataclass, replace

from pipelines.beam.runners import is_local
from pipelines.curation.rule_files import RuleFiles
from pipelines.job.own_files import without_own
from pipelines.job.plan import (
    PLANNERS,
    SIZES,
    Plan,
    PlanSizes,
    PrepareConfig,
    make_plan,
)
from pipelines.prepare import prepare_flags
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.storage import InputFile
from preprocessing.objectives.objectives import check_objective
from preprocessing.packing.mixture import MixtureConfig, mixture_files, read_mixture
from preprocessing.tokenizer.special_tokens import EOS_TOKEN
from preprocessing.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Asked:
    """A preparation as its flags ask for it, everything in them checked.

    Attributes:
        config: what the dataset's bytes depend on.
        plan: who reads what.
        files: the input.
        tokenizer: the ids.
        rule_files: what rules read besides, by the name that workers know.
    """

    config: PrepareConfig
    plan: Plan
    files: list[InputFile]
    tokenizer: Tokenizer
    rule_files: dict[str, bytes]


def asked_for(flags: argparse.Namespace, sizes: PlanSizes = SIZES) -> Asked:
    """Returns what the flags ask for, the input cut by `sizes`.

    Raises:
        UsageError: it cannot be done.
    """
    prepare_flags.check(flags)
    mixture, files = _input_files(flags)
    tokenizer = _tokenizer(flags)
    lists = RuleFiles.read(flags)
    config = prepare_flags.config(flags, tokenizer, mixture, lists.names(), sizes)
    planner = PLANNERS[config.packing]
    check_objective(config.objective, tokenizer, config.sequence_length, planner)
    plan = make_plan(files, config.reader, sizes)
    return Asked(config, plan, files, tokenizer, lists.contents())


def _input_files(
    flags: argparse.Namespace,
) -> tuple[MixtureConfig | None, list[InputFile]]:
    """Returns the mixture, if the input is one, and the input's files."""
    if flags.mixture:
        mixture, inputs = read_mixture(flags.mixture)
        files = mixture_files(inputs)
    else:
        mixture, files = None, storage.expand(flags.input)
    lists = [*flags.block_addresses, *flags.allow_addresses, *flags.decontaminate]
    besides = [flags.tokenizer, *filter(None, [flags.mixture]), *lists]
    files = without_own(files, flags.output, besides)
    if not is_local(flags.runner):  # its workers have directories of their own
        files = [replace(file, path=storage.absolute(file.path)) for file in files]
    return mixture, _with_text(files, "the mixture's globs" if mixture else "--input")


def _with_text(files: list[InputFile], where: str) -> list[InputFile]:
    if not any(file.size for file in files):
        raise UsageError(
            f"wanted documents in the input, found {len(files)} empty "
            f"file{'s' * (len(files) > 1)}. Check {where}"
        )
    return files


def _tokenizer(flags: argparse.Namespace) -> Tokenizer:
    loaded = Tokenizer.load(
        flags.tokenizer,
        bos_token=flags.bos_token,
        eos_token=flags.eos_token,
        pad_token=flags.pad_token,
    )
    if flags.eos_token is None and EOS_TOKEN not in loaded.bpe.added:
        tokens = loaded.bpe.vocab | loaded.bpe.added
        names = {id: name for name, id in tokens.items()}
        first = "no token" if loaded.bos_id is None else names[loaded.bos_id]
        print(
            f"a document begins with {first} and ends with {names[loaded.eos_id]}, as "
            f"{flags.tokenizer} and the files beside it say"
        )
    return loaded
