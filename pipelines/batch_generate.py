# SPDX-License-Identifier: Apache-2.0
"""quern-generate: continues every prompt of a JSONL input with a release, under Beam.

    prompts.jsonl -> chunks -> Reshuffle -> release: sort, batch, generate
                                         -> generations-*.jsonl, in the input's order

Every id comes out once: as an answer, or as an error of its own.
"""

import argparse
import dataclasses
import hashlib
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from pipelines.beam.progress import watch
from pipelines.beam.runners import (
    add_runner_flags,
    available_workers,
    parse_with_beam_flags,
    run_pipeline,
)
from pipelines.generation.generations import GenerationJob, GenerationOutput, Tally
from pipelines.generation.prompts import (
    LARGEST_LINE_BYTES,
    Census,
    PromptFields,
    chunks,
    read_prompts,
    take_census,
)
from pipelines.job.own_files import without_own
from preprocessing.claims.claims import claimed
from preprocessing.contracts import releases
from preprocessing.contracts.generation_config import GenerationConfig
from preprocessing.foundation import storage
from preprocessing.foundation.commands import (
    CommandParser,
    WorkError,
    count_of,
    run,
    stopping_on_request,
)
from preprocessing.foundation.storage import InputFile

if TYPE_CHECKING:
    import apache_beam as beam


def main(argv: Sequence[str]) -> None:
    """Runs the job that `argv` describes, or what is left of it."""
    values, beam_args = parse_with_beam_flags(_parser(), argv)
    config = _generation_config(values)
    fields = PromptFields(values.prompt_field, values.id_field)
    release = releases.find_release(values.model)
    files = without_own(storage.expand(values.input), values.output)
    census = take_census(files)
    output = GenerationOutput(values.output.rstrip("/"), census.num_chunks)
    job = _job(census, release, fields, config)
    if output.check_free(job) and output.is_tidy():
        _say_complete(output)
        return
    what = f"--output {output.directory}"
    with stopping_on_request(), claimed(output.directory, what) as claim:
        ours = dataclasses.replace(output, claim=claim.token)
        ours.open(job)
        if ours.summary() is not None:
            _say_complete(ours)
            ours.remove_work()  # a job killed at its very end may have left it
            return
        started, todo = time.monotonic(), ours.unfinished()
        _lay_out(ours, files, fields, census, todo)
        if todo:
            workers = min(values.workers or available_workers(), len(todo))
            build = partial(
                _build,
                output=ours,
                release=release,
                config=config,
                workers=workers,
                todo=todo,
            )
            poll = partial(ours.progress, census.count, census.chunk_size)
            with watch(poll, unit="prompts"):
                run_pipeline(build, values.runner, workers, beam_args)
        made = ours.tally(todo)
        claim.check()
        _conclude(ours, ours.finish(job), made, time.monotonic() - started)


def _say_complete(output: GenerationOutput) -> None:
    finished = output.summary()
    if finished is not None:
        print(f"already complete: {_described(finished)} in {output.directory}")


def _build(
    pipeline: "beam.Pipeline",
    output: GenerationOutput,
    release: str,
    config: GenerationConfig,
    workers: int,
    todo: Sequence[int],
) -> None:
    """Adds the whole job to a pipeline; TensorFlow loads in the workers alone."""
    import apache_beam as beam
    from apache_beam.ml.inference.base import RunInference

    from pipelines.generation.release import Answers, Chunk, ReleaseHandler

    threads = max(1, available_workers() // workers)
    handler = ReleaseHandler(release, config, threads, output.report)

    def read(index: int) -> Chunk:
        return Chunk(index, output.read_chunk(index))

    def write(answers: Answers) -> None:
        output.write_shard(answers.index, answers.lines, answers.truncated)

    (
        pipeline
        | "Shards" >> beam.Create(list(todo))
        | "Spread" >> beam.Reshuffle()
        | "Read" >> beam.Map(read)
        | "Generate" >> RunInference(handler)
        | "Write" >> beam.Map(write)
    )


def _lay_out(
    output: GenerationOutput,
    files: Sequence[InputFile],
    fields: PromptFields,
    census: Census,
    todo: Sequence[int],
) -> None:
    """Writes the chunks that are still to be answered."""
    wanted = set(todo)
    prompts = read_prompts(files, fields)
    for index, chunk in enumerate(chunks(prompts, census.chunk_size)):
        if index in wanted:
            output.write_chunk(index, chunk)


def _job(
    census: Census, release: str, fields: PromptFields, config: GenerationConfig
) -> GenerationJob:
    lineage = storage.read_bytes(storage.join(release, releases.LINEAGE_NAME))
    return GenerationJob(
        input_sha256=census.sha256,
        num_prompts=census.count,
        num_shards=census.num_chunks,
        lineage_sha256=hashlib.sha256(lineage).hexdigest(),
        fields=dataclasses.asdict(fields),
        generation=dataclasses.asdict(config),
    )


def _conclude(
    output: GenerationOutput, total: Tally, made: Tally, seconds: float
) -> None:
    """Prints the summary.

    Raises:
        WorkError: not one prompt could be answered.
    """
    rate = made.tokens / seconds if seconds > 0 else 0.0
    print(f"{_described(total)}, {rate:,.0f} tokens/s, in {output.directory}")
    if total.errors == total.prompts:
        raise WorkError(
            f"wanted at least one answer, found {count_of(total.errors, 'error')}. "
            f"Read why in {storage.join(output.directory, output.shard_name(0))}"
        )


def _described(tally: Tally) -> str:
    return (
        f"{count_of(tally.prompts, 'prompt')}, {count_of(tally.tokens, 'token')}, "
        f"{count_of(tally.errors, 'error')}, "
        f"{count_of(tally.truncated, 'prompt')} shortened to fit"
    )


def _generation_config(values: argparse.Namespace) -> GenerationConfig:
    names = [field.name for field in dataclasses.fields(GenerationConfig)]
    given = {name: getattr(values, name) for name in names if name in values}
    return GenerationConfig(**given)


def _parser() -> CommandParser:
    parser = CommandParser(
        "quern-generate",
        "Continues every prompt of a JSONL input with a release, in Beam workers. Run "
        "the same command again to go on where a job stopped.",
    )
    defaults, fields = GenerationConfig(), PromptFields()
    add = parser.add_argument
    add("--model", required=True, metavar="MODELS/NAME[/VERSION]", help="the release")
    add(
        "--input",
        required=True,
        nargs="+",
        metavar="GLOB",
        help="JSONL, an object with an id and a prompt per line of up to "
        f"{LARGEST_LINE_BYTES:,} bytes; .gz and .zst too",
    )
    add("--output", required=True, metavar="DIR", help="where answers go")
    add("--prompt_field", default=fields.prompt, metavar="NAME", help="holds the text")
    add(
        "--id_field",
        default=fields.id,
        metavar="NAME",
        help="holds the id, a string or a whole number",
    )
    _add_generation_flags(parser, defaults)
    add_runner_flags(parser)
    return parser


def _add_generation_flags(parser: CommandParser, defaults: GenerationConfig) -> None:
    words = {
        "max_new_tokens": "most ids to add to a prompt",
        "temperature": "0 takes the likeliest id each time",
        "top_k": "sample among the N likeliest ids; 0 sets no limit",
        "top_p": "sample among the fewest ids of that mass; 1 sets no limit",
        "seed": "with a prompt's id it gives the row's own seed",
        "batch_size": "prompts answered together by a worker",
    }
    for name, text in words.items():
        value = getattr(defaults, name)
        kind = "N" if isinstance(value, int) else "X"
        parser.add_argument(
            f"--{name}", type=type(value), default=value, metavar=kind, help=text
        )


def cli() -> NoReturn:
    """Runs the command on the process's arguments."""
    run(main)


if __name__ == "__main__":
    cli()
