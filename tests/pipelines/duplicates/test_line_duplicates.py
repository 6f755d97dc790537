# SPDX-License-Identifier: Apache-2.0
"""Of equal lines one stays, against the same rule spelled out line by line."""

import tempfile
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.curation.dropped_lines import DroppedLines
from pipelines.duplicates import line_duplicates
from pipelines.duplicates.line_duplicates import drop_repeated_lines, find_lines
from pipelines.job import plan
from pipelines.job.shuffle import blob_bytes, send
from pipelines.job.steps import read_records
from pipelines.job.task_work import TaskWork
from preprocessing.foundation.fingerprints import key_hash
from preprocessing.foundation.seed_purposes import Purpose
from preprocessing.reading.documents import Documents
from tests.pipelines.duplicates.test_exact_duplicates import grouped, job, spread

LINES = ("one two three", "ONE two  three".lower(), " Four five SIX seven ", "a b", "")
MORE = tuple(f"line number {number}" for number in range(6))
# Documents, as lists of lines, in the batches of a task, in tasks.
DOCUMENT = st.lists(st.sampled_from(LINES + MORE), min_size=1, max_size=6)
CORPUS = st.lists(
    st.lists(st.lists(DOCUMENT, min_size=1, max_size=4), min_size=1, max_size=3),
    min_size=1,
    max_size=3,
)
Batches = list[list[Documents]]  # by task
Walk = Callable[[TaskWork], Iterator[Documents]]


def batches_of(corpus: list[list[list[list[str]]]]) -> Batches:
    """Each batch is a file of its own; its documents lie ten bytes apart."""
    made: Batches = []
    keys = files = 0
    for task in corpus:
        made.append([])
        for documents in task:
            numbers = range(keys, keys + len(documents))
            keys, files = keys + len(documents), files + 1
            digests = b"".join(spread(number) for number in numbers)
            texts = ["\n".join(lines) for lines in documents]
            made[-1].append(
                Documents(
                    file=files - 1,
                    relative=f"{files}.txt",
                    texts=pa.array(texts, pa.large_string()),
                    keys=np.frombuffer(digests, np.uint8).reshape(-1, 16),
                    offsets=np.arange(len(documents)) * 10,
                )
            )
    return made


def walk_of(batches: Batches) -> Walk:
    def give(work: TaskWork) -> Iterator[Documents]:
        return iter(batches[work.task.index])

    return give


def without_repeats(made: plan.Job, batches: Batches) -> list[str]:
    """Runs the steps as the graph does; returns what is left of each document."""
    tasks = [plan.Task(number, (), 0) for number in range(len(batches))]
    walk = walk_of(batches)
    found = [element for task in tasks for element in find_lines(made, task, walk)]
    lost = []
    for bucket, values in grouped(found).items():
        lost += drop_repeated_lines(made, bucket, values)
    dropped, left = grouped(lost), []
    for task in tasks:
        drop = DroppedLines(made, dropped.get(task.index, []), every=1)
        for documents in batches[task.index]:
            texts, counts = drop.drop(documents)
            assert len(counts) == len(texts)
            left += texts.to_pylist()
    return left


def expected(batches: Batches) -> list[str]:
    documents = [
        (key_hash(0, Purpose.LINE_OWNERS, key[None])[0], text.split("\n"))
        for task in batches
        for batch in task
        for key, text in zip(batch.keys, batch.texts.to_pylist(), strict=True)
    ]
    owner: dict[str, tuple[int, int]] = {}
    by_rank = sorted(range(len(documents)), key=lambda number: documents[number][0])
    for number in by_rank:
        for place, line in enumerate(documents[number][1]):
            if len(line.split()) >= 3:
                owner.setdefault(line.strip().lower(), (number, place))
    return [
        "\n".join(
            line
            for place, line in enumerate(lines)
            if owner.get(line.strip().lower(), (number, place)) == (number, place)
        )
        for number, (_, lines) in enumerate(documents)
    ]


@settings(max_examples=20, deadline=None)
@given(CORPUS)
@pytest.mark.parametrize("limit", [200, 48 << 20])
def test_each_line_of_three_words_stays_once_where_the_seeds_order_puts_it(
    limit: int, corpus: list[list[list[list[str]]]]
) -> None:
    batches = batches_of(corpus)
    limits = plan.Limits(bucket_part_bytes=limit)
    with tempfile.TemporaryDirectory() as directory:
        made = job(Path(directory), deduplicate=("lines",), limits=limits)
        left = without_repeats(made, batches)
        records = read_records(made, line_duplicates.JUDGED)
    assert left == expected(batches)
    kept = Counter(
        line.strip().lower()
        for text in left
        for line in text.split("\n")
        if len(line.split()) >= 3
    )
    assert set(kept.values()) <= {1}
    assert sum(record["lines"] - record["dropped"] for record in records) == len(kept)


def test_a_task_whose_lines_are_known_is_not_read_again(tmp_path: Path) -> None:
    made, task = job(tmp_path, deduplicate=("lines",)), plan.Task(0, (), 0)
    batches = batches_of([[[["a line of words", "and a line more"]]]])
    found, nothing = find_lines(made, task, walk_of(batches)), walk_of([])
    assert find_lines(made, task, nothing) == found != []
    # Where Beam itself carries the rows, they went with the job that was stopped.
    inline = plan.Job(made.output, made.config, made.shards, "groupbykey")
    with pytest.raises(IndexError):
        find_lines(inline, task, nothing)


def test_any_number_of_lines_to_drop_is_held_in_parts(tmp_path: Path) -> None:
    part, count = 1 << 18, 200_000
    limits = plan.Limits(bucket_part_bytes=part)
    made = job(tmp_path, deduplicate=("lines",), limits=limits)
    rng = np.random.default_rng(0)
    values: list[bytes] = []
    for number in range(50):
        rows = {
            "files": rng.integers(0, 3, count // 50, np.int32),
            "offsets": rng.integers(0, 1000, count // 50) * 10,
            "lines": rng.integers(0, 1 << 30, count // 50, np.int32),
        }
        blob = line_duplicates.by_key(made, rows, np.zeros(count // 50, np.int64))
        sent = send("files", made.work, f"shuffle/x-{number}", blob)
        values += [value for _, value in sent]
    assert blob_bytes(values) > 10 * part
    tracemalloc.start()
    dropped, found = DroppedLines(made, values), 0
    for file in range(3):
        for start in range(0, 1000, 100):
            document, line = dropped.of(file, np.arange(start, start + 100) * 10)
            assert document.max() < 100 and len(document) == len(line)
            found += len(line)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == count
    assert peak < 8 * part
