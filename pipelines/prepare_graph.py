# SPDX-License-Identifier: Apache-2.0
"""The Beam graph of a preparation: which step's output is grouped for which.

    tasks ─ by task ─> tokenize ─┬─ documents ──────────────────────────┐
                                 └─ fingerprints ─ by key bucket ─> repeated ids ─┐
                     ┌─ losers <───────────────────────────────────────┤   │
                     │           duplicates <─ survivors ─ by content bucket ─┘
                     │               │ └ candidates ─ by 0 ─> forced validation ─┐
                     └── flatten <───┴──────── losers ─────────────────────┘
                            └─ by shard ─> pack ─ by 0 ─> number rows ─ by shard
                                                              └─> provenance

Every element is KV[int, bytes]. There are no side inputs, state, timers, Reshuffle or
Beam sinks, so the graph stays inside what every runner supports.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Literal

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from pipelines.duplicates import drop_duplicates, drop_repeated_ids, force_validation
from pipelines.pack_shard import pack_shard, splits_of
from pipelines.plan import Job
from pipelines.provenance import write_provenance
from pipelines.shard_documents import ShardInput
from pipelines.tokenize_task import tokenize_task

Element = tuple[int, bytes]
Fingerprints = TaggedOutput[Literal["fingerprints"], Element]
Losers = TaggedOutput[Literal["losers"], Element]
_DOCUMENTS, _LOSERS, _FORCED, _NOTHING = b"d", b"l", b"f", b"n"
_ROWS = struct.Struct("<IQQ")  # shard, rows of train, rows of validation


def build_graph(pipeline: beam.Pipeline, job: Job, tasks: int) -> None:
    """Adds the whole preparation to a pipeline.

    Args:
        pipeline: an empty pipeline.
        job: the job, whose plan lies in its work directory.
        tasks: the number of the plan's tasks.
    """
    tokenized = _seeds(pipeline, "tasks", tasks) | "tokenize" >> _do(
        Tokenize(job), "fingerprints"
    )
    repeated = _grouped(tokenized.fingerprints, "key") | "repeated ids" >> _do(
        RepeatedIds(job), "losers"
    )
    unique = _grouped(repeated.main, "content") | "duplicates" >> _do(
        Duplicates(job), "losers"
    )
    forced = _grouped(unique.main, "candidates") | "validation" >> _do(
        ForcedValidation(job)
    )
    # Every shard is written, those without documents too.
    nothing = pipeline | "shards" >> _create(job.shards, _NOTHING)
    parts = (tokenized.main, repeated.losers, unique.losers, forced.main, nothing)
    rows = _grouped(parts | "all for a shard" >> beam.Flatten(), "shard") | (
        "pack" >> _do(Pack(job))
    )
    numbers = _grouped(rows.main, "rows") | "number rows" >> _do(NumberRows(job))
    _ = _grouped(numbers.main, "numbers") | "provenance" >> _do(Provenance(job))


def _create(count: int, value: bytes) -> beam.PTransform:
    elements = [(number, value) for number in range(count)]
    return beam.Create(elements, reshuffle=False).with_output_types(Element)


def _seeds(pipeline: beam.Pipeline, name: str, count: int) -> beam.PCollection:
    """Returns numbers, grouped: only a real GroupByKey spreads them over workers."""
    return _grouped(pipeline | name >> _create(count, _NOTHING), name)


def _grouped(elements: beam.PCollection, name: str) -> beam.PCollection:
    return elements | f"group by {name}" >> beam.GroupByKey()


def _do(step: beam.DoFn, *tags: str) -> beam.PTransform:
    return beam.ParDo(step).with_outputs(*tags, main="main")


class Step(beam.DoFn):
    """A step of a job; it holds the job's description and nothing else."""

    def __init__(self, job: Job) -> None:
        self.job = job


class Tokenize(Step):
    """A task to its documents, by shard, and fingerprints, by key bucket."""

    def process(
        self, element: tuple[int, Iterable[bytes]]
    ) -> Iterator[Element | Fingerprints]:
        """Yields documents; tags fingerprints."""
        task = self.job.plan().tasks[element[0]]
        scattered = tokenize_task(self.job, task)
        yield from _tagged(_DOCUMENTS, scattered.documents)
        for fingerprint in scattered.fingerprints:
            yield TaggedOutput("fingerprints", fingerprint)


class RepeatedIds(Step):
    """Fingerprints of a key bucket to survivors, by content bucket, and losers."""

    def process(
        self, element: tuple[int, Iterable[bytes]]
    ) -> Iterator[Element | Losers]:
        """Yields survivors; tags losers."""
        judged = drop_repeated_ids(self.job, element[0], list(element[1]))
        yield from judged.survivors
        for loser in _tagged(_LOSERS, judged.losers):
            yield TaggedOutput("losers", loser)


class Duplicates(Step):
    """Survivors of a content bucket to one candidate for validation, and losers."""

    def process(
        self, element: tuple[int, Iterable[bytes]]
    ) -> Iterator[Element | Losers]:
        """Yields the candidate; tags losers."""
        judged = drop_duplicates(self.job, element[0], list(element[1]))
        yield from judged.survivors
        for loser in _tagged(_LOSERS, judged.losers):
            yield TaggedOutput("losers", loser)


class ForcedValidation(Step):
    """All candidates to the document that must validate, if there is one."""

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Element]:
        """Yields at most one document's key."""
        yield from _tagged(_FORCED, force_validation(self.job, list(element[1])))


class Pack(Step):
    """Everything gathered for a shard to its files; its row counts to one place."""

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Element]:
        """Yields the shard's number and row counts."""
        index, gathered = element[0], ShardInput()
        places = {
            _DOCUMENTS: gathered.documents,
            _LOSERS: gathered.losers,
            _FORCED: gathered.forced,
        }
        for value in element[1]:
            if value != _NOTHING:
                places[value[:1]].append(value[1:])
        rows = pack_shard(self.job, index, gathered)
        yield 0, _ROWS.pack(index, rows["train"], rows.get("validation", 0))


class NumberRows(Step):
    """The row counts of all shards to each shard's first rows."""

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Element]:
        """Yields each shard's number and the rows before it."""
        before = [0, 0]
        for index, *rows in sorted(_ROWS.unpack(value) for value in element[1]):
            yield index, _ROWS.pack(index, *before)
            before = [total + more for total, more in zip(before, rows, strict=True)]


class Provenance(Step):
    """A shard's first rows to its provenance tables."""

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Element]:
        """Yields nothing."""
        for value in element[1]:
            index, *before = _ROWS.unpack(value)
            first_rows = dict(zip(splits_of(self.job), before, strict=False))
            write_provenance(self.job, index, first_rows)
        yield from ()


def _tagged(tag: bytes, elements: Iterable[Element]) -> Iterator[Element]:
    for key, value in elements:
        yield key, tag + value
