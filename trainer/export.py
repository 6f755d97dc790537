# SPDX-License-Identifier: Apache-2.0
"""quern-export: turns a run's checkpoint into a release TensorFlow Serving can load.

checkpoint -> model + tokenizer in one graph -> SavedModel
           -> tokenizer, lineage, warm-up requests beside it
           -> --check: another process reloads it as a stock server would
           -> visible as OUTPUT/VERSION, or not at all

Many at once: --runs, trainer/batch_export/. Or into a directory in Hugging Face's form;
or published weights in one into a release.
Sub-commands say which release servers show: trainer/labels/labels_command.py.
"""

import argparse
import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from preprocessing.contracts.releases import (
    SAVED_MODEL_NAME,
    WEIGHT_TYPES,
    read_lineage,
)
from preprocessing.foundation.commands import (
    CommandParser,
    UsageError,
    run,
    stopping_on_request,
)
from trainer.batch_export.gate import Requirements, parse_requirements
from trainer.batch_export.many_flags import (
    SPLIT,
    add_judging_flags,
    add_many_flags,
    check_judging_flags,
    check_many_flags,
)
from trainer.labels.labels_command import SUBCOMMANDS, run_subcommand
from trainer.machine.tensorflow_logs import quiet_tensorflow
from trainer.release.check_apart import check_apart
from trainer.release.huggingface_output import check_new, staged_directory
from trainer.release.publish import check_own_versions, choose_version, staged
from trainer.run.step_flag import add_step_flag

if TYPE_CHECKING:
    from trainer.batch_export.judging import JudgedText, Judging
    from trainer.loop.evaluate_stored import StoredLoss
    from trainer.release.servable import Servable

HUGGINGFACE = "huggingface"


def main(argv: Sequence[str]) -> None:
    """Exports the run that `argv` names, or runs the sub-command it begins with.

    Raises:
        UsageError: the run or the output is not what it should be, or the graph cannot
            reproduce the tokenizer.
        WorkError: the release cannot be written, or answers otherwise than the trainer.
    """
    if argv and argv[0] in SUBCOMMANDS:
        run_subcommand(argv[0], argv[1:])
        return
    values = _parse(argv)
    required = parse_requirements(values.require)
    _check_flags(values)
    check_judging_flags(values, required)
    # Both sides of the check compute on the CPU, where they round alike; and a GPU may
    # belong to a training job. Read when TensorFlow is loaded, inherited by the check.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    # TensorFlow takes seconds to load; --help and wrong flags need none of it.
    quiet_tensorflow(values.debug)
    with stopping_on_request():
        if values.format == HUGGINGFACE:
            _export_huggingface(values)
        elif values.runs is not None:
            _export_many(values, required)
        else:
            _export_release(values, required)


def _check_flags(values: argparse.Namespace) -> None:
    """Raises `UsageError` for flags that do not go together, or an output in use."""
    check_many_flags(values)
    if values.runs is not None:
        return
    if (values.run is None) == (values.from_huggingface is None):
        raise UsageError(
            "wanted --run DIR, --runs or --from_huggingface DIR to export, found "
            f"{'neither' if values.run is None else 'both'}. Name one"
        )
    [weights] = values.weights
    if values.format == HUGGINGFACE:
        for name in ("from_huggingface", "version", "check", "data"):
            if getattr(values, name):
                raise UsageError(
                    f"wanted --format {HUGGINGFACE} without --{name}, which it has no "
                    "use for, found both. Leave it out"
                )
        if weights != WEIGHT_TYPES[0]:
            raise UsageError(
                f"wanted --format {HUGGINGFACE} with --weights {WEIGHT_TYPES[0]}, as "
                f"trained, found {weights}. Leave it out"
            )
        check_new(values.output)
        return
    if values.data and weights == WEIGHT_TYPES[0] and not values.require:
        raise UsageError(
            "wanted --data with --weights other than float32, which lose something "
            "to be told, or with --require, found neither. Leave it out"
        )
    if values.from_huggingface is not None and values.step is not None:
        raise UsageError(
            "wanted --step with --run alone, found it with --from_huggingface. Leave "
            "it out"
        )
    check_own_versions(values.output)
    choose_version(values.output, values.version)


def _export_many(values: argparse.Namespace, required: Requirements) -> None:
    """Publishes what is missing of the releases of several runs."""
    from trainer.batch_export.batch import ExportBatch, export_batch

    asked = ExportBatch(
        runs=values.runs,
        checkpoints=values.checkpoints or ["last"],
        weights=values.weights,
        models=values.output.rstrip("/"),
        required=required,
        text=_judged_text(values, values.runs),
    )
    export_batch(asked)


def _export_release(values: argparse.Namespace, required: Requirements) -> None:
    """Publishes the next version of a release."""
    from trainer.release.release import write_release

    output = values.output.rstrip("/")
    name = os.path.basename(output)
    judging = None
    if required.each:
        from trainer.batch_export.judging import Judging

        models, text = os.path.dirname(output) or ".", _judged_text(values)
        judging = Judging(models, [name], required, text)
    [weights] = values.weights
    servable, loss = _servable(values, measured=judging is None)
    with staged(output, values.version) as (staging, version):
        write_release(servable, staging, name, weights)
        if values.check:
            print(check_apart(staging), end="", flush=True)
        if judging is not None:
            _judge(judging, values.run, servable, f"{output}/{version}", staging)
    print(f"exported {servable.what} as {output}/{version}")
    if weights != WEIGHT_TYPES[0] and judging is None:
        told = loss or "not measured, which --data DATASET would"
        print(f"weights in {weights}: {told}")


def _judge(
    judging: "Judging", run: str, servable: "Servable", release: str, staging: str
) -> None:
    """Raises `WorkError` for a release that misses what is required, shows others."""
    from trainer.batch_export.plan import ExportTask

    model, _, version = release.rpartition("/")
    lineage = read_lineage(staging)
    task = ExportTask(
        run=run,
        step=servable.step,
        weights=lineage.weights,
        name=os.path.basename(model),
        version=int(version),
        digest=lineage.checkpoint_sha256,
    )
    print(judging.judge(task, staging), flush=True)


def _judged_text(
    values: argparse.Namespace, runs: Sequence[str] = ()
) -> "JudgedText | None":
    """Returns what releases are judged on, None without --data."""
    if values.data is None:
        return None
    from trainer.batch_export.judging import open_text
    from trainer.distribution.device_options import DeviceOptions
    from trainer.loop.evaluate_run import evaluate_run

    split = values.split or SPLIT

    @functools.cache
    def trainer_bits(run: str, step: int) -> float | None:
        options = DeviceOptions()
        found = evaluate_run(run, values.data, split, step, "one_device", options)
        return None if found is None else found.bits_per_byte

    return open_text(values.data, split, runs or [values.run], trainer_bits)


def _servable(
    values: argparse.Namespace, measured: bool
) -> "tuple[Servable, StoredLoss | None]":
    """Returns what is to be released, and what it loses where that is `measured`."""
    from trainer.models.model import PrecisionConfig
    from trainer.release.servable import (
        check_servable,
        servable_of_published,
        servable_of_run,
    )
    from trainer.run.checkpoints import computing_in, open_run

    # A server on any machine computes in float32, unless asked to store less: the
    # run's own type may be bfloat16.
    [weights] = values.weights
    precision = PrecisionConfig("bfloat16" if weights == "bfloat16" else "float32")
    told = measured and values.data is not None
    if values.run is None:
        source = values.from_huggingface
        servable = whole = servable_of_published(source, precision)
        if told and precision != PrecisionConfig():
            whole = servable_of_published(source)
    else:
        opened = open_run(values.run, values.step, PrecisionConfig())
        check_servable(opened.manifest)
        servable = whole = servable_of_run(opened)
        if precision != PrecisionConfig():
            servable = servable_of_run(computing_in(opened, precision))
    if not told:
        return servable, None
    from trainer.loop.evaluate_stored import stored_loss

    split = values.split or SPLIT
    return servable, stored_loss(whole, servable, weights, values.data, split)


def _export_huggingface(values: argparse.Namespace) -> None:
    """Writes a new directory in Hugging Face's form."""
    from trainer.models.model import PrecisionConfig
    from trainer.release.huggingface import write_huggingface
    from trainer.run.checkpoints import open_run

    opened = open_run(values.run, values.step, PrecisionConfig())
    with staged_directory(values.output) as staging:
        write_huggingface(opened, values.run, staging)
    print(f"exported step {opened.step} as {values.output.rstrip('/')}")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandParser(
        "quern-export",
        "Exports a checkpoint as a SavedModel in TensorFlow Serving's layout: text "
        "in, text out, the tokenizer in the graph. Writes OUTPUT/VERSION with "
        f"{SAVED_MODEL_NAME} and what belongs to it; never overwrites a version. Of "
        "what is exported already: quern-export promote, rollback, prune, list, show.",
    )
    parser.add_argument("--run", metavar="DIR", help="the run to export")
    parser.add_argument(
        "--from_huggingface",
        metavar="DIR",
        help="in place of a run: published weights to serve as they are; see "
        "docs/published-weights.md",
    )
    parser.add_argument(
        "--format",
        choices=("savedmodel", HUGGINGFACE),
        default="savedmodel",
        help=f"{HUGGINGFACE}: a directory that transformers loads, at --output itself",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="MODELS/NAME",
        help="the model's directory; its last part is the name clients use; with "
        "--runs the directory above",
    )
    add_step_flag(parser)
    add_many_flags(parser)
    parser.add_argument(
        "--weights",
        choices=WEIGHT_TYPES,
        nargs="+",
        default=[WEIGHT_TYPES[0]],
        help="type that matrices and tables are stored in; bfloat16 also computes in "
        "it, int8 has a float32 scale for each output channel; with --runs any of them",
    )
    add_judging_flags(parser)
    parser.add_argument(
        "--version",
        type=int,
        metavar="N",
        help="version to write (default: highest + 1)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="before publishing, reload the release as a stock TensorFlow Serving "
        "would and compare its answers with the trainer's",
    )
    return parser.parse_args(argv)


def cli() -> NoReturn:
    """Runs the command on the process's arguments."""
    run(main)


if __name__ == "__main__":
    cli()
