# SPDX-License-Identifier: Apache-2.0
"""The Beam graph of a preparation: which step's output is grouped for which.

    tasks ─ by task ─> tokenize ─┬─ documents ──────────────────────────┐
                                 └─ fingerprints ─ by key bucket ─> repeated ids ─┐
                     ┌─ dropped <──────────────────────────────────────┤   │
                     │           duplicates <─ survivors ─ by content bucket ─┘
                     │               │ └ candidates ─ by 0 ─> forced validation ─┐
                     └── flatten <───┴──────── dropped ────────────────────┘
                            └─ by shard ─> pack ─ by 0 ─> number rows ─ by shard
                                                              └─> provenance

Without "exact" the step of duplicates is left out. With "near" more is asked of the
documents that survive, and forced validation is part of the last step:

    survivors ─ by band bucket ─> near pairs ─ by pair bucket ─> distinct pairs
        └ candidates ─────────────┐                                   │
                                  └── flatten <───────────────────────┘
          dropped, forced validation <─ clusters <─ by 0 ─┘

With "lines" the tasks are read once more, before they are tokenized:

    tasks ─ by task ─> lines ─ by line bucket ─> repeated lines ─ by task ─> tokenize

With a mixture, rows are packed source by source and then mixed:

    pack ─ by 0 ─> order rows ─ by shard ─> mix

A dry run ends where documents would be packed.

Every element is KV[int, bytes]. There are no side inputs, state, timers, Reshuffle or
Beam sinks, so the graph stays inside what every runner supports.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Literal

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from pipelines.beam.versions import SameVersions
from pipelines.duplicates.exact_duplicates import (
    Deduplicated,
    candidates_of,
    drop_duplicates,
    drop_repeated_ids,
    force_validation,
)
from pipelines.duplicates.line_duplicates import drop_repeated_lines, find_lines
from pipelines.duplicates.near_duplicates import (
    distinct_pairs,
    join_clusters,
    pair_with_best,
)
from pipelines.job.plan import Job
from pipelines.prepare.mix_shards import mix_shard
from pipelines.prepare.mixture_order import order_rows
from pipelines.prepare.pack_shard import pack_shard, splits_of
from pipelines.prepare.provenance import write_provenance
from pipelines.prepare.shard_documents import ShardInput
from pipelines.prepare.tokenize_task import tokenize_task

Element = tuple[int, bytes]
Fingerprints = TaggedOutput[Literal["fingerprints"], Element]
Dropped = TaggedOutput[Literal["dropped"], Element]
Candidates = TaggedOutput[Literal["candidates"], Element]
_DOCUMENTS, _DROPPED, _FORCED, _NOTHING = b"d", b"l", b"f", b"n"
_PAIRS, _CANDIDATES = b"p", b"c"
_ROWS = struct.Struct("<IQQ")  # shard, rows of train, rows of validation


def build_graph(pipeline: beam.Pipeline, job: Job, tasks: int) -> None:
    """Adds the whole preparation to a pipeline.

    Args:
        pipeline: an empty pipeline.
        job: the job, whose plan lies in its work directory.
        tasks: the number of the plan's tasks.
    """
    tokenized = _tasks(pipeline, job, tasks) | "tokenize" >> _do(
        Tokenize(job), "fingerprints"
    )
    for_shards = [tokenized.main, *_judged(tokenized.fingerprints, job)]
    if job.judge_only:
        return
    # Every shard is written, those without documents too.
    for_shards.append(_numbers(pipeline, "shards", job.shards))
    rows = _grouped(_together(for_shards, "shard"), "shard") | "pack" >> _do(Pack(job))
    if job.config.mixture is None:
        numbers = _grouped(rows.main, "rows") | "number rows" >> _do(NumberRows(job))
        _ = _grouped(numbers.main, "numbers") | "provenance" >> _do(Provenance(job))
    else:
        order = _grouped(rows.main, "rows") | "order rows" >> _do(OrderRows(job))
        _ = _grouped(order.main, "order") | "mix" >> _do(Mix(job))


def _tasks(pipeline: beam.Pipeline, job: Job, tasks: int) -> beam.PCollection:
    """Returns each task's number, grouped with the lines that it must drop."""
    seeds = _seeds(pipeline, "tasks", tasks)
    if "lines" not in job.config.deduplicate:
        return seeds
    lines = seeds | "lines" >> _do(FindLines(job))
    dropped = _grouped(lines.main, "line") | "repeated lines" >> _do(RepeatedLines(job))
    # Every task is tokenized, those that lose no line too.
    again = _numbers(pipeline, "tasks again", tasks)
    return _grouped(_together([dropped.main, again], "task"), "task")


def _judged(fingerprints: beam.PCollection, job: Job) -> list[beam.PCollection]:
    """Returns what shards are told: documents to drop, and who must validate."""
    unique = _grouped(fingerprints, "key") | "repeated ids" >> _do(
        RepeatedIds(job), "dropped", "candidates"
    )
    told = [unique.dropped]
    if "exact" in job.config.deduplicate:
        unique = _grouped(unique.main, "content") | "duplicates" >> _do(
            Duplicates(job), "dropped", "candidates"
        )
        told.append(unique.dropped)
    if "near" not in job.config.deduplicate:
        forced = _grouped(unique.candidates, "candidates") | "validation" >> _do(
            ForcedValidation(job)
        )
        return [*told, forced.main]
    met = _grouped(unique.main, "band") | "near pairs" >> _do(NearPairs(job))
    pairs = _grouped(met.main, "pair") | "distinct pairs" >> _do(DistinctPairs(job))
    all_pairs = _together([pairs.main, unique.candidates], "cluster")
    joined = _grouped(all_pairs, "cluster") | "clusters" >> _do(JoinClusters(job))
    return [*told, joined.main]


def _together(parts: list[beam.PCollection], name: str) -> beam.PCollection:
    return parts | f"all for a {name}" >> beam.Flatten()


def _numbers(pipeline: beam.Pipeline, name: str, count: int) -> beam.PCollection:
    """Returns numbers, which workers count: the graph does not grow with them."""
    start = pipeline | f"start of {name}" >> beam.Impulse()
    return start | name >> beam.ParDo(Numbers(count))


def _seeds(pipeline: beam.Pipeline, name: str, count: int) -> beam.PCollection:
    """Returns numbers, grouped: only a real GroupByKey spreads them over workers."""
    return _grouped(_numbers(pipeline, name, count), name)


def _grouped(elements: beam.PCollection, name: str) -> beam.PCollection:
    return elements | f"group by {name}" >> beam.GroupByKey()


def _do(step: beam.DoFn, *tags: str) -> beam.PTransform:
    return beam.ParDo(step).with_outputs(*tags, main="main")


class Numbers(SameVersions, beam.DoFn):
    """Anything to the numbers below a count."""

    def __init__(self, count: int) -> None:
        self.count = count

    def process(self, element: bytes) -> Iterator[Element]:
        """Yields numbers."""
        for number in range(self.count):
            yield number, _NOTHING


class Step(SameVersions, beam.DoFn):
    """A step of a job; it holds the job's description and nothing else."""

    def __init__(self, job: Job) -> None:
        self.job = job


class FindLines(Step):
    """A task to rows of its lines, by line bucket."""

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Element]:
        """Yields rows."""
        yield from find_lines(self.job, self.job.plan().tasks[element[0]])


class RepeatedLines(Step):
    """Rows of a line bucket to the lines that each task must drop."""

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Element]:
        """Yields lines."""
        yield from drop_repeated_lines(self.job, element[0], list(element[1]))


class Tokenize(Step):
    """A task to its documents, by shard, and fingerprints, by key bucket."""

    def process(
        self, element: tuple[int, Iterable[bytes]]
    ) -> Iterator[Element | Fingerprints]:
        """Yields documents; tags fingerprints."""
        task = self.job.plan().tasks[element[0]]
        lines = [value for value in element[1] if value != _NOTHING]
        scattered = tokenize_task(self.job, task, lines)
        yield from _tagged(_DOCUMENTS, scattered.documents)
        for fingerprint in scattered.fingerprints:
            yield TaggedOutput("fingerprints", fingerprint)


class RepeatedIds(Step):
    """Fingerprints of a key bucket to survivors, and documents to drop."""

    def process(
        self, element: tuple[int, Iterable[bytes]]
    ) -> Iterator[Element | Dropped | Candidates]:
        """Yields survivors; tags the dropped, and candidates if it is the last step."""
        judged = drop_repeated_ids(self.job, element[0], list(element[1]))
        yield from _judged_elements(judged)


class Duplicates(Step):
    """Survivors of a content bucket to a candidate for validation, and the dropped."""

    def process(
        self, element: tuple[int, Iterable[bytes]]
    ) -> Iterator[Element | Dropped | Candidates]:
        """Yields bands of documents that stay; tags the dropped and candidates."""
        judged = drop_duplicates(self.job, element[0], list(element[1]))
        yield from _judged_elements(judged)


class ForcedValidation(Step):
    """All candidates to the document that must validate, if there is one."""

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Element]:
        """Yields at most one document's key."""
        keys, documents = candidates_of([value[1:] for value in element[1]])
        yield from _tagged(_FORCED, force_validation(self.job, keys, documents))


class NearPairs(Step):
    """Rows of a band bucket to pairs of documents that met, by pair bucket."""

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Element]:
        """Yields pairs."""
        yield from pair_with_best(self.job, element[0], list(element[1]))


class DistinctPairs(Step):
    """Pairs of a bucket to one place, each once."""

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Element]:
        """Yields pairs."""
        pairs = distinct_pairs(self.job, element[0], list(element[1]))
        yield from _tagged(_PAIRS, pairs)


class JoinClusters(Step):
    """All pairs and candidates to documents to drop, and the one that must validate."""

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Element]:
        """Yields the dropped and at most one document's key."""
        gathered: dict[bytes, list[bytes]] = {_PAIRS: [], _CANDIDATES: []}
        for value in element[1]:
            gathered[value[:1]].append(value[1:])
        joined = join_clusters(self.job, gathered[_PAIRS], gathered[_CANDIDATES])
        yield from _tagged(_DROPPED, joined.dropped)
        yield from _tagged(_FORCED, joined.forced)


class Pack(Step):
    """Everything gathered for a shard to its files; its row counts to one place."""

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Element]:
        """Yields the shard's number and row counts."""
        index, gathered = element[0], ShardInput()
        places = {
            _DOCUMENTS: gathered.documents,
            _DROPPED: gathered.dropped,
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


class OrderRows(Step):
    """The word that all shards are packed to each shard's number."""

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Element]:
        """Yields the numbers, when the order of rows is written."""
        shards = [_ROWS.unpack(value)[0] for value in element[1]]
        order_rows(self.job)
        for index in sorted(shards):
            yield index, _NOTHING


class Mix(Step):
    """A shard's number to its mixed rows and their provenance."""

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[Element]:
        """Yields nothing."""
        mix_shard(self.job, element[0])
        yield from ()


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


def _judged_elements(judged: Deduplicated) -> Iterator[Element | Dropped | Candidates]:
    yield from judged.survivors
    for element in _tagged(_DROPPED, judged.dropped):
        dropped: Dropped = TaggedOutput("dropped", element)
        yield dropped
    for element in _tagged(_CANDIDATES, judged.candidates):
        candidate: Candidates = TaggedOutput("candidates", element)
        yield candidate
