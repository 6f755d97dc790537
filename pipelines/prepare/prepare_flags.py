# SPDX-License-Identifier: Apache-2.0
"""The flags of quern-prepare, and the configuration that they describe."""

import argparse
import dataclasses

from pipelines.beam.runners import LOCAL, STOCK, add_runner_flags
from pipelines.job.plan import (
    DUPLICATES,
    PLANNERS,
    ListFile,
    PlanSizes,
    PrepareConfig,
    TokenizerConfig,
)
from pipelines.prepare.input_flags import (
    add_cleaning_flags,
    add_input_flags,
    cleaning_config,
    reader_config,
)
from preprocessing.duplicates.near_config import NearConfig
from preprocessing.foundation.commands import CommandParser, UsageError
from preprocessing.objectives.objectives import (
    DECODER,
    ENCODER_DECODER,
    LAYOUTS,
    ObjectiveConfig,
)
from preprocessing.packing.mixture import MixtureConfig
from preprocessing.rules.named import PRESETS, parse_rules, with_languages
from preprocessing.tokenizer.tokenizer import Tokenizer

TARGET_FIELD = "target"
DEFAULT = PrepareConfig(TokenizerConfig("", 1, None, 0, 0))


def parser() -> CommandParser:
    """Returns the command's parser; defaults are those of `PrepareConfig`."""
    made = CommandParser(
        "quern-prepare",
        "Turns raw text into a dataset: reads, cleans, judges, drops duplicates, "
        "tokenizes, shuffles and packs. Run the same command again to go on after an "
        "interruption. Flags of Beam itself are accepted too.",
    )
    add_input_flags(made, required=False)
    made.add_argument(
        "--mixture",
        metavar="FILE",
        help="TOML or JSON of named sources and their shares, in place of --input",
    )
    made.add_argument(
        "--tokenizer", required=True, metavar="FILE", help="a tokenizer.json"
    )
    for name in ("bos", "eos", "pad"):
        made.add_argument(
            f"--{name}_token",
            metavar="NAME",
            help=f"the tokenizer's {name.upper()} token, or none; "
            f"<|{name}|> where the file has it, or what files beside it name",
        )
    made.add_argument(
        "--output",
        metavar="DATASET",
        help="a new or empty directory; needed unless --dry_run",
    )
    made.add_argument(
        "--dry_run",
        action="store_true",
        help="read and judge everything, print what each stage would keep, and write "
        "no dataset",
    )
    add_cleaning_flags(made)
    _add_judging_flags(made)
    _add_near_flags(made)
    _add_objective_flags(made)
    _add_dataset_flags(made)
    _add_run_flags(made)
    return made


def _add_judging_flags(made: CommandParser) -> None:
    made.add_argument(
        "--rules",
        nargs="+",
        default=[],
        metavar="NAME",
        help="what documents must pass, in order, such as web_en or "
        "gopher_quality@1:min_words=20, or package.module:function of your own; "
        f"presets: {', '.join(PRESETS)}",
    )
    made.add_argument(
        "--language",
        nargs="+",
        default=[],
        metavar="CODE",
        help="keep documents in these languages (ISO 639-1), as language@1 does",
    )
    for name, what in (("block", "reject documents"), ("allow", "keep only documents")):
        made.add_argument(
            f"--{name}_addresses",
            nargs="+",
            default=[],
            metavar="FILE",
            help=f"{what} from the domains and addresses listed there, one a line",
        )
    made.add_argument(
        "--deduplicate",
        nargs="+",
        default=list(DEFAULT.deduplicate),
        choices=[*DUPLICATES, "none"],
        metavar="KIND",
        help=f"any of {', '.join(DUPLICATES)}; or none",
    )
    made.add_argument(
        "--line_words",
        type=int,
        default=DEFAULT.line_words,
        metavar="N",
        help="shorter lines are no duplicates",
    )
    made.add_argument(
        "--decontaminate",
        nargs="+",
        default=[],
        metavar="FILE",
        help="evaluation files (JSONL, Parquet, Arrow, CSV or text); documents that "
        "share a run of words with them are rejected",
    )
    made.add_argument(
        "--decontaminate_ngram",
        type=int,
        default=DEFAULT.decontaminate_ngram,
        metavar="N",
        help="words in such a run",
    )


def _add_near_flags(made: CommandParser) -> None:
    texts = {
        "bands": "bands of MinHash, each a chance to meet",
        "rows": "minima in a band, all of which must be equal",
        "ngram": "words in a row that make a shingle",
        "characters": "characters that do, in scripts without spaces",
        "seed": "seed of the permutations",
        "jaccard": "exact similarity that pairs must have; 0 checks none",
    }
    for name, text in texts.items():
        default = getattr(DEFAULT.near, name)
        made.add_argument(
            f"--near_{name}",
            type=type(default),
            default=default,
            metavar="N",
            help=text,
        )


def _add_objective_flags(made: CommandParser) -> None:
    default = DEFAULT.objective
    made.add_argument(
        "--objective",
        default=default.name,
        choices=list(LAYOUTS),
        help="what training asks of a document",
    )
    made.add_argument(
        "--layout",
        choices=[DECODER, ENCODER_DECODER],
        help="pairs and span corruption as two sequences (encoder_decoder, the "
        "default) or as one with the loss on its second part (decoder)",
    )
    made.add_argument(
        "--target_field",
        metavar="NAME",
        help="pairs: the field that holds the target, --text_field being the input's "
        f"(default: {TARGET_FIELD})",
    )
    made.add_argument(
        "--target_length",
        type=int,
        metavar="N",
        help="ids of a row's targets where they are a sequence of their own",
    )
    texts = {
        "noise_density": "span corruption: share of ids to replace",
        "mean_span_length": "span corruption: ids in a replaced span on average",
        "fim_rate": "fill in the middle: share of pieces rearranged",
        "spm_rate": "fill in the middle: share of those with the suffix first",
    }
    for name, text in texts.items():
        made.add_argument(
            f"--{name}",
            type=float,
            default=getattr(default, name),
            metavar="F",
            help=text,
        )
    made.add_argument(
        "--sentinel_token",
        default=default.sentinel_token,
        metavar="NAME",
        help="span corruption: the k-th sentinel's name, {} standing for k",
    )
    made.add_argument(
        "--fim_tokens",
        nargs=3,
        default=list(default.fim_tokens),
        metavar="NAME",
        help="fill in the middle: names of the prefix, middle and suffix tokens",
    )


def _add_dataset_flags(made: CommandParser) -> None:
    """Adds the flags that decide what the rows hold."""
    made.add_argument(
        "--sequence_length",
        type=int,
        default=DEFAULT.sequence_length,
        metavar="N",
        help="targets per row; rows hold one id more",
    )
    made.add_argument(
        "--packing",
        default=DEFAULT.packing,
        choices=list(PLANNERS),
        help="best_fit keeps documents whole where they fit; concat fills every row",
    )
    made.add_argument(
        "--validation_fraction",
        type=float,
        default=DEFAULT.validation_fraction,
        metavar="F",
        help="share of documents that go to the validation split",
    )
    made.add_argument(
        "--seed",
        type=int,
        default=DEFAULT.seed,
        metavar="N",
        help="decides order, split and what objectives draw",
    )


def _add_run_flags(made: CommandParser) -> None:
    made.add_argument(
        "--max_reject_fraction",
        type=float,
        default=0.05,
        metavar="F",
        help="fail if more of the documents cannot be used; duplicates and what rules "
        "reject do not count",
    )
    add_runner_flags(made)
    made.add_argument(
        "--shuffle",
        default="auto",
        choices=["auto", "files", "groupbykey"],
        help="how documents travel between workers: through files of the output "
        "directory, which all workers must reach, or inside Beam; auto: files for "
        f"--runner {LOCAL} and {STOCK}, else groupbykey",
    )


def _target_field(flags: argparse.Namespace) -> str | None:
    if flags.objective == "pairs":
        return flags.target_field or TARGET_FIELD
    if flags.target_field:
        raise UsageError(
            f"wanted --target_field with --objective pairs, found {flags.objective}. "
            "Leave one of them out"
        )
    return None


def check(flags: argparse.Namespace) -> None:
    """Refuses flags that contradict each other.

    Raises:
        UsageError: naming them.
    """
    if bool(flags.input) == bool(flags.mixture):
        raise UsageError(
            "wanted either --input or --mixture, found "
            f"{'both' if flags.input else 'neither'}. Say where the text is"
        )
    if not (flags.output or flags.dry_run):
        raise UsageError(
            "wanted --output or --dry_run, found neither. Name a directory"
        )
    if "none" in flags.deduplicate and len(flags.deduplicate) > 1:
        raise UsageError(
            f"wanted --deduplicate none alone, found {' '.join(flags.deduplicate)}. "
            "Leave none out"
        )
    if not 0 <= flags.max_reject_fraction <= 1:
        raise UsageError(
            "wanted --max_reject_fraction between 0 and 1, found "
            f"{flags.max_reject_fraction}. 0.05 is usual"
        )


def config(
    flags: argparse.Namespace,
    tokenizer: Tokenizer,
    mixture: MixtureConfig | None,
    lists: dict[str, tuple[ListFile, ...]],
    sizes: PlanSizes,
) -> PrepareConfig:
    """Returns the configuration of a job.

    Args:
        flags: the parsed flags.
        tokenizer: the tokenizer they name.
        mixture: what `--mixture` holds.
        lists: the files of "block", "allow" and "decontaminate".
        sizes: how the input is cut.
    """
    objective = ObjectiveConfig(
        name=flags.objective,
        layout=flags.layout,
        target_length=flags.target_length,
        noise_density=flags.noise_density,
        mean_span_length=flags.mean_span_length,
        fim_rate=flags.fim_rate,
        spm_rate=flags.spm_rate,
        sentinel_token=flags.sentinel_token,
        fim_tokens=tuple(flags.fim_tokens),
    )
    near = {
        field.name: getattr(flags, f"near_{field.name}")
        for field in dataclasses.fields(NearConfig)
    }
    return PrepareConfig(
        tokenizer=TokenizerConfig(
            sha256=tokenizer.sha256,
            vocab_size=tokenizer.vocab_size,
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
            pad_id=tokenizer.pad_id,
            text_tokens=bool(tokenizer.bpe.text_tokens),
        ),
        reader=dataclasses.replace(
            reader_config(flags), target_field=_target_field(flags)
        ),
        cleaning=cleaning_config(flags),
        block=lists["block"],
        allow=lists["allow"],
        rules=with_languages(parse_rules(flags.rules), flags.language),
        deduplicate=tuple(kind for kind in DUPLICATES if kind in flags.deduplicate),
        line_words=flags.line_words,
        near=NearConfig(**near),
        decontaminate=lists["decontaminate"],
        decontaminate_ngram=flags.decontaminate_ngram,
        objective=objective,
        mixture=mixture,
        sequence_length=flags.sequence_length,
        packing=flags.packing,
        validation_fraction=flags.validation_fraction,
        seed=flags.seed,
        sizes=sizes,
    )
