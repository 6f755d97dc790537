# SPDX-License-Identifier: Apache-2.0
"""The output directory says what is finished, and only that."""

import dataclasses
import os

import pytest

from pipelines.beam.progress import Progress
from pipelines.generation.generations import GenerationJob, GenerationOutput, Tally
from pipelines.generation.job_progress import JobProgress
from pipelines.generation.prompts import Prompt
from preprocessing.foundation.commands import UsageError, WorkError

JOB = GenerationJob("i", 70, 3, "l", {"id": "id"}, {"stop": ("a",)}, {}, threads=1)


@pytest.fixture
def output(tmp_path) -> GenerationOutput:
    output = GenerationOutput(str(tmp_path / "out"), 3)
    output.open(JOB)
    return output


def lines(count: int, errors: int = 0) -> list[dict]:
    good = [{"id": i, "text": "t", "num_tokens": 2} for i in range(count - errors)]
    return good + [{"id": i, "error": "e"} for i in range(errors)]


def test_progress_counts_finished_shards_and_batches_of_the_others(output):
    output.write_shard(1, lines(32), 0)
    output.report(0, 31, 99)  # of a job that was killed
    output.write_chunk(0, [Prompt(1, "x")])
    progress = JobProgress(output, 70, 32)
    assert progress() == Progress("generate", 32, 70, 0)
    output.report(0, 16, 40)
    output.report(2, 4, 7)
    assert progress() == Progress("generate", 52, 70, 47)
    output.write_shard(2, lines(6), 0)
    assert progress() == Progress("generate", 54, 70, 40 + 12)
    output.write_shard(0, lines(32), 0)
    assert progress() == progress() == Progress("generate", 70, 70, 64 + 12)


def test_a_finished_job_leaves_the_shards_their_sums_and_what_was_asked(output):
    output.write_chunk(1, [Prompt(1, "x")])
    assert output.read_chunk(1) == [Prompt(1, "x")]
    for index, count in enumerate((32, 32, 6)):
        assert index in output.unfinished()
        output.write_shard(index, lines(count, errors=index), truncated=1)
    assert output.summary() is None
    assert output.finish(JOB) == Tally(70, 3, 3, 134, "e")
    assert output.summary() == Tally(70, 3, 3, 134, "e")
    names = [output.shard_name(index) for index in range(3)]
    assert sorted(os.listdir(output.directory)) == [*names, "job.json", "summary.json"]


def test_a_prompt_that_went_missing_fails_the_job(output):
    for index, count in enumerate((32, 31, 6)):
        output.write_shard(index, lines(count), 0)
    with pytest.raises(WorkError, match="wanted 70 answers in 3 shards, found 69"):
        output.finish(JOB)
    assert output.summary() is None


def test_a_job_killed_before_it_was_named_can_be_begun_again(tmp_path):
    again = GenerationOutput(str(tmp_path), 1)
    (tmp_path / ".work").mkdir()
    again.open(JOB)
    assert again.unfinished() == [0]


def test_a_directory_belongs_to_one_job(output):
    output.open(JOB)
    with pytest.raises(UsageError, match="found another generation"):
        output.open(dataclasses.replace(JOB, generation={"stop": ("b",)}))
