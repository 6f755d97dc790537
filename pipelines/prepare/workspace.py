# SPDX-License-Identifier: Apache-2.0
"""The output directory before and after the work: whose it is, and what may go on.

Unfinished work lies in OUTPUT/_work with a `job.json` that names its configuration and
input. The same command goes on where it stopped; anything else finds the output taken,
and so does everyone while a process holds OUTPUT/.claim.json.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.duplicates import line_duplicates, near_duplicates, own_ids
from pipelines.job.plan import WORK_NAME, Job, Plan, write_plan
from pipelines.job.rejects import DIRECTORY, DUPLICATE, NEAR_DUPLICATE, REPEATED
from pipelines.job.steps import read_checked, write_checked
from pipelines.prepare import mix_shards, pack_shard, provenance, tokenize_task
from preprocessing.claims import claims
from preprocessing.claims.claims import CLAIM_NAME, Claim
from preprocessing.contracts.manifest import MANIFEST_NAME, read_manifest
from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError, first_of
from preprocessing.foundation.storage import InputFile

_JOB_NAME = "job.json"
_WORK_DIRECTORIES = (
    tokenize_task.KIND,
    tokenize_task.UNDER_WAY,
    "shuffle",
    line_duplicates.FOUND,
    line_duplicates.JUDGED,
    REPEATED,
    DUPLICATE,
    near_duplicates.MET,
    near_duplicates.PAIRED,
    NEAR_DUPLICATE,
    pack_shard.KIND,
    pack_shard.ROWS,
    mix_shards.KIND,
    "provenance",
    provenance.KIND,
    own_ids.DIRECTORY,
)


def check_free(job: Job) -> None:
    """Checks that the output holds nothing but a dataset, finished or not.

    Right beside a job at work: its `job.json` goes when the manifest is there.

    Raises:
        UsageError: it holds something else.
    """
    names = [
        name
        for name in storage.list_names(job.output)
        if name != WORK_NAME and CLAIM_NAME not in name
    ]
    if storage.exists(job.output) and not storage.is_dir(job.output):
        names = ["a file"]
    if (
        names
        and not storage.exists(job.path(_JOB_NAME))
        and not storage.exists(storage.join(job.output, MANIFEST_NAME))
    ):
        raise UsageError(
            f"wanted a new or empty --output, {job.output} holds {names[0]}. Name "
            "another directory"
        )


def is_finished(job: Job) -> bool:
    """Tells whether the output holds a finished dataset, this job's or another's."""
    return storage.exists(storage.join(job.output, MANIFEST_NAME))


@contextlib.contextmanager
def claimed(job: Job) -> Iterator[tuple[Job, Claim]]:
    """Holds the claim on the output; gives the job as its workers need it.

    Raises:
        Held: another process is at work there.
        UsageError: the output cannot be written.
    """
    with claims.claimed(job.output, f"--output {job.output}") as claim:
        yield dataclasses.replace(job, claim=claim.token), claim


def state(job: Job, files: Sequence[InputFile]) -> str:
    """Finds out what the output directory is to this job.

    Returns:
        "new", "unfinished" (by the same job) or "finished" (by the same job).

    Raises:
        UsageError: the directory holds something else, or this job's input or
            configuration differ from those it was begun with.
        WorkError: the work directory was damaged.
    """
    identity = _identity(job, files)
    if is_finished(job):
        manifest = read_manifest(job.output)
        found = {
            "config": manifest.config,
            "sources": [[source.path, source.size] for source in manifest.sources],
        }
        _refuse_other(job, identity, strict_json.loads(strict_json.dumps(found)))
        return "finished"
    path = job.path(_JOB_NAME)
    if storage.exists(path):
        _refuse_other(job, identity, read_checked(path))
        return "unfinished"
    check_free(job)
    return "new"


def begin(
    job: Job,
    plan: Plan,
    files: Sequence[InputFile],
    tokenizer: bytes,
    rule_files: Mapping[str, bytes],
) -> None:
    """Makes the work directory; `job.json` comes last and makes it this job's.

    Args:
        job: the job.
        plan: its plan.
        files: the input.
        tokenizer: the tokenizer's file.
        rule_files: what else workers read, by name.

    Raises:
        UsageError: the output cannot be written.
    """
    try:
        for name in _WORK_DIRECTORIES:
            storage.make_directory(job.path(name))
        write_plan(job, plan)
        storage.write_atomically(job.path("tokenizer.json"), tokenizer)
        for name, contents in rule_files.items():
            storage.write_atomically(job.path(name), contents)
        write_checked(job.path(_JOB_NAME), _identity(job, files), durable=True)
        # After job.json: until then nothing but the work directory may lie here.
        storage.make_directory(storage.join(job.output, DIRECTORY))
    except OSError as error:
        raise UsageError(
            f"wanted to write to --output {job.output}, found: {error}. Name a "
            "directory that can be written"
        ) from error


def tidy(job: Job) -> None:
    """Removes what a job left that was killed when all was done but this.

    Nothing is written where nothing was left: a dataset may lie where one only reads.
    """
    names = storage.list_names(job.output)
    left = [name for name in names if name.startswith(".") and CLAIM_NAME in name]
    if left or storage.exists(job.work):
        # Whoever holds it is about to do the same.
        with contextlib.suppress(claims.Held), claimed(job):
            end(job)


def end(job: Job) -> None:
    """Removes the work directory, and what killed workers left beside it."""
    for directory in (job.output, storage.join(job.output, DIRECTORY)):
        storage.remove_leftovers(directory)
    storage.remove_tree(job.work)


def _identity(job: Job, files: Sequence[InputFile]) -> dict[str, Any]:
    fields = {
        "config": job.config.to_dict(),
        "sources": [[file.relative, file.size] for file in files],
        "modified": [[file.relative, file.modified] for file in files],
    }
    return strict_json.loads(strict_json.dumps(fields))


def _refuse_other(job: Job, wanted: dict[str, Any], found: dict[str, Any]) -> None:
    """Raises if a directory was begun with another configuration or input."""
    difference = _differences(wanted["config"], found["config"])
    if not difference:
        old = dict(found["sources"])
        new = dict(wanted["sources"])
        difference = [
            f"input {path}: {_bytes(old.get(path))} then, {_bytes(new.get(path))} now"
            for path in sorted(old.keys() | new.keys())
            if old.get(path) != new.get(path)
        ]
    if not difference and "modified" in found:
        times = dict(found["modified"])
        difference = [
            f"input {path} was changed since then"
            for path, time in wanted["modified"]
            if times.get(path) != time
        ]
    if difference:
        raise UsageError(
            f"wanted --output {job.output} to be this job's own, it was begun with "
            f"another: {first_of(difference, '; ')}. Name another directory"
        )


def _differences(wanted: Any, found: Any, name: str = "") -> list[str]:
    if not (isinstance(wanted, dict) and isinstance(found, dict)):
        return [] if wanted == found else [f"{name} {found} then, {wanted} now"]
    return [
        line
        for key in sorted(wanted.keys() | found.keys())
        for line in _differences(
            wanted.get(key), found.get(key), f"{name}.{key}" if name else key
        )
    ]


def _bytes(size: int | None) -> str:
    return "absent" if size is None else f"{size} bytes"
