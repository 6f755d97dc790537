# SPDX-License-Identifier: Apache-2.0
"""The command `quern-evaluate`: a run's loss, perplexity and bits per byte."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from preprocessing.foundation import strict_json
from preprocessing.foundation.commands import CommandParser, run
from trainer.distribution.device_options import add_device_flags, device_options
from trainer.machine.tensorflow_logs import quiet_tensorflow
from trainer.run.step_flag import add_step_flag

if TYPE_CHECKING:
    from trainer.loop.evaluate_rows import Evaluation


def main(argv: Sequence[str]) -> None:
    """Evaluates a run on a split; the last line of standard output is JSON.

    Raises:
        UsageError: the run or dataset is not what it should be, or they differ in
            their tokenizer.
        WorkError: a row is damaged.
    """
    flags = _parser().parse_args(argv)
    # TensorFlow takes seconds to load; --help and wrong flags need none of it.
    quiet_tensorflow(flags.debug)
    from trainer.loop.evaluate_run import evaluate_run

    result = evaluate_run(
        flags.run,
        flags.data,
        flags.split,
        flags.step,
        flags.strategy,
        device_options(flags),
    )
    if result is not None:
        values: dict[str, object] = {**_numbers(result)}
        if result.sources:
            values["sources"] = {
                name: _numbers(source) for name, source in result.sources.items()
            }
        print(strict_json.dumps(strict_json.with_nulls(values)))


def _numbers(result: "Evaluation") -> dict[str, float | int | None]:
    return {
        "loss": result.loss,
        "perplexity": result.perplexity,
        "bits_per_byte": result.bits_per_byte,
        "tokens": result.targets,
    }


def _parser() -> CommandParser:
    parser = CommandParser(
        "quern-evaluate",
        "Evaluate a run on every row of a split, each once. The last line printed is "
        "JSON: loss in nats per token, perplexity, bits_per_byte, tokens; and the same "
        "of each of the sources of a mixture. A number that is not finite is null, and "
        "not_finite says what it was.",
    )
    add = parser.add_argument
    add("--run", required=True, help="the run's directory")
    add("--data", required=True, help="a dataset with the run's tokenizer")
    add("--split", default="validation", help="which split of it")
    add_step_flag(parser)
    add("--strategy", default="auto", help="as for quern-train")
    add_device_flags(parser)
    return parser


def cli() -> NoReturn:
    """The console script."""
    run(main)


if __name__ == "__main__":
    cli()
