# SPDX-License-Identifier: Apache-2.0
"""quern-generate: a release, or a server, over every text of an input, under Beam.

    prompts.jsonl -> chunks -> GroupByKey -> release: sort, batch, generate
                                         -> generations-*.jsonl, in the input's order

Every id comes out once: as an answer, or as an error of its own.
"""

import dataclasses
import hashlib
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from pipelines.beam.progress import watch
from pipelines.beam.runners import (
    available_workers,
    is_local,
    parse_with_beam_flags,
    run_pipeline,
)
from pipelines.generation.answer_files import AnswerFiles
from pipelines.generation.census import Census, Counter, chunks, take_census
from pipelines.generation.flags import (
    generation_config,
    generation_parser,
    prompt_fields,
)
from pipelines.generation.generations import GenerationJob, GenerationOutput, Tally
from pipelines.generation.job_progress import JobProgress
from pipelines.generation.mode_flags import source_of, wanted_of
from pipelines.generation.modes import Wanted
from pipelines.generation.prompts import PromptReader
from pipelines.generation.remote_answers import RemoteModel
from pipelines.job.own_files import without_own
from preprocessing.claims.claims import claimed
from preprocessing.contracts import releases
from preprocessing.foundation import storage
from preprocessing.foundation.commands import (
    UsageError,
    WorkError,
    count_of,
    note,
    run,
    stopping_on_request,
)
from preprocessing.foundation.huge_pages import restart_with_huge_pages

if TYPE_CHECKING:
    import apache_beam as beam


def main(argv: Sequence[str]) -> None:
    """Runs the job that `argv` describes, or what is left of it."""
    values, beam_args = parse_with_beam_flags(generation_parser(), argv)
    if not is_local(values.runner):  # its workers have directories of their own
        values.output = storage.absolute(values.output)
        if values.model and values.remote is None:  # of a server it is a name
            values.model = storage.absolute(values.model)
    config = generation_config(values)
    wanted = wanted_of(values, config)
    files = AnswerFiles(values.output_format, mode=wanted.mode)
    fields = prompt_fields(values, files.reserved())
    source = source_of(values, wanted)
    inputs = without_own(storage.expand(values.input), values.output)
    prompts = PromptReader(inputs, values.input_format, fields)
    census = take_census(prompts)
    _check(census, prompts)
    size, number = census.chunks(config.batch_size)
    files = dataclasses.replace(files, integer_ids=census.integer_ids, keep=fields.keep)
    output = GenerationOutput(values.output.rstrip("/"), number, files)
    threads = _threads(values.threads, source, output)
    job = _job(census, source, prompts, wanted, output, threads)
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
        if todo:
            _lay_out(ours, prompts, census, size, todo)
            workers = min(_workers(values.workers, source, threads), len(todo))
            build = partial(_build, ours, source, wanted, workers, threads, todo)
            poll = JobProgress(ours, census.count, size)
            with watch(poll, unit="prompts", besides="tokens"):
                run_pipeline(build, values.runner, workers, beam_args)
        made = ours.tally(todo)
        claim.check()
        _conclude(ours, ours.finish(job), made, time.monotonic() - started)


def _check(census: Census, prompts: PromptReader) -> None:
    """Says what is knowable of an input before work starts.

    Raises:
        UsageError: it holds not one good prompt.
    """
    if not census.count:
        raise UsageError(
            "wanted at least one prompt in --input, found only blank lines. Check the "
            "files"
        )
    if census.errors == census.count:
        raise UsageError(
            f"wanted at least one prompt in --input, found "
            f"{count_of(census.errors, 'record')} of which none is one. The first: "
            f"{census.first_error}"
        )
    if prompts.doubles:
        first, second, *_ = prompts.fields.prompts
        note(
            f"{count_of(prompts.doubles, 'record')} with both {first} and {second}: "
            f"{first} is taken. --prompt_field {second} takes the other"
        )


def _threads(
    asked: int | None, source: str | RemoteModel, output: GenerationOutput
) -> int:
    """Returns the cores that each worker computes on; of a server's none is ours.

    Where no flag says it, what the job was begun with; else it follows from all chunks
    there are, not from workers nor from what is left: so do the last bits of sums.
    """
    if isinstance(source, RemoteModel):
        return 0
    begun = (output.begun() or {}).get("threads")
    return asked or begun or max(1, available_workers() // output.num_shards)


def _workers(asked: int | None, source: str | RemoteModel, threads: int) -> int:
    """Returns how many processes work: one keeps a server busy by itself."""
    if isinstance(source, RemoteModel):
        return min(asked or 1, source.rules.concurrency)
    return asked or max(1, available_workers() // threads)


def _say_complete(output: GenerationOutput) -> None:
    finished = output.summary()
    if finished is not None:
        print(f"already complete: {_described(finished)} in {output.directory}")


def _build(
    output: GenerationOutput,
    source: str | RemoteModel,
    wanted: Wanted,
    workers: int,
    threads: int,
    todo: Sequence[int],
    pipeline: "beam.Pipeline",
) -> None:
    """Adds the whole job to a pipeline; TensorFlow loads in the workers alone."""
    # Imported here: the runner imports Beam first, without its cloud parts.
    from pipelines.generation.generate_graph import build_graph
    from pipelines.generation.release import ReleaseHandler
    from pipelines.generation.remote_handler import RemoteHandler

    handler: ReleaseHandler | RemoteHandler
    if isinstance(source, RemoteModel):
        handler = RemoteHandler(source.among(workers), wanted, output.report)
    else:
        handler = ReleaseHandler(source, wanted, threads, output.report)
    build_graph(pipeline, output, handler, todo)


def _lay_out(
    output: GenerationOutput,
    prompts: PromptReader,
    census: Census,
    size: int,
    todo: Sequence[int],
) -> None:
    """Writes the chunks that are still to be answered.

    Raises:
        WorkError: the input is not what the census found.
    """
    wanted, counter = set(todo), Counter()
    try:
        for index, chunk in enumerate(chunks(counter.passed(prompts), size)):
            if index in wanted:
                output.write_chunk(index, chunk)
    except (OSError, UsageError):
        _check_unchanged(prompts)
        raise
    if counter.census() != census:
        _check_unchanged(prompts)
        raise WorkError(
            "wanted --input as it was when the job began, it has changed since. "
            "Restore it and run again, or choose another --output"
        )


def _check_unchanged(prompts: PromptReader) -> None:
    for file in prompts.files:
        storage.check_unchanged(file.path, file.size, file.modified)


def _job(
    census: Census,
    source: str | RemoteModel,
    prompts: PromptReader,
    wanted: Wanted,
    output: GenerationOutput,
    threads: int,
) -> GenerationJob:
    lineage, remote = None, None
    if isinstance(source, RemoteModel):
        remote = source.identity()
    else:
        told = storage.read_bytes(storage.join(source, releases.LINEAGE_NAME))
        lineage = hashlib.sha256(told).hexdigest()
    return GenerationJob(
        input_sha256=census.sha256,
        num_prompts=census.count,
        num_shards=output.num_shards,
        lineage_sha256=lineage,
        remote=remote,
        made={"mode": wanted.mode, "pooling": wanted.pooling},
        fields=dataclasses.asdict(prompts.fields),
        generation=dataclasses.asdict(wanted.config),
        answers=dataclasses.asdict(output.files),
        threads=threads,
    )


def _conclude(
    output: GenerationOutput, total: Tally, made: Tally, seconds: float
) -> None:
    """Prints the summary, and of errors the first.

    Raises:
        WorkError: not one prompt could be answered.
    """
    rate = made.tokens / seconds if seconds > 0 else 0.0
    print(f"{_described(total)}, {rate:,.0f} tokens/s, in {output.directory}")
    if total.errors == total.prompts:
        raise WorkError(
            f"wanted at least one answer, found {count_of(total.errors, 'error')}. The "
            f"first: {total.first_error}"
        )
    if total.errors:
        note(f"{count_of(total.errors, 'error')}. The first: {total.first_error}")


def _described(tally: Tally) -> str:
    return (
        f"{count_of(tally.prompts, 'prompt')}, {count_of(tally.tokens, 'token')}, "
        f"{count_of(tally.errors, 'error')}, "
        f"{count_of(tally.truncated, 'prompt')} shortened to fit"
    )


def cli() -> NoReturn:
    """Runs the command on the process's arguments."""
    restart_with_huge_pages()
    run(main)


if __name__ == "__main__":
    cli()
