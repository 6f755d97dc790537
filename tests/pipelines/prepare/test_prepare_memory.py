# SPDX-License-Identifier: Apache-2.0
"""What a worker holds follows from the sizes of parts, not from the documents.

numpy tells tracemalloc of its arrays, so the bound is on bytes, not on a machine's
mood: eight bytes for each byte of a part, where all at once would be forty.
"""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.curation.judging import judge
from pipelines.job.blobs import to_bytes
from pipelines.job.buckets import by_bucket
from pipelines.job.plan import Job, Limits, PlanSizes
from pipelines.job.shuffle import blob_bytes, send
from pipelines.prepare.shard_documents import ShardDocuments, ShardInput
from tests.pipelines.duplicates.test_exact_duplicates import job

pytestmark = pytest.mark.slow

PART = 1 << 20
BLOB_DOCUMENTS = 8192
BLOBS = 50
MOST = 8 * PART


def one_shard(output: Path) -> Job:
    limits, sizes = Limits(bucket_part_bytes=PART), PlanSizes(shard_part_bytes=PART)
    return replace(job(output, limits=limits, sizes=sizes), shards=1)


def columns(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "keys": rng.integers(0, 256, (BLOB_DOCUMENTS, 16), np.uint8),
        "offsets": rng.integers(0, 1 << 40, BLOB_DOCUMENTS),
        "files": np.zeros(BLOB_DOCUMENTS, np.int32),
    }


def peak_of(work: Callable[[], int], rows: int) -> int:
    """Returns the most bytes that `work` held at once; it must return its rows."""
    tracemalloc.start()
    try:
        assert work() == rows
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_shard_of_any_number_of_documents_is_held_in_parts(tmp_path: Path) -> None:
    made, rng, values = one_shard(tmp_path), np.random.default_rng(0), []
    for number in range(BLOBS):
        table = columns(rng)
        table["text_bytes"] = table["lengths"] = np.full(BLOB_DOCUMENTS, 4)
        table["ids"] = np.zeros(4 * BLOB_DOCUMENTS, np.uint16)
        blob = to_bytes(table)
        values += send("files", made.work, f"shuffle/x-{number}", [(0, blob)])
    gathered = ShardInput([value for _, value in values])
    assert blob_bytes(gathered.documents) > 18 * PART

    def work() -> int:
        documents = ShardDocuments(made, 0, gathered)
        return sum(
            len(documents.part(number, split)["keys"])
            for split in ("train", "validation")
            for number in range(documents.parts)
        )

    assert peak_of(work, BLOBS * BLOB_DOCUMENTS) < MOST


@pytest.mark.parametrize("contents", [BLOBS * BLOB_DOCUMENTS, 1])
def test_any_number_of_equal_documents_is_judged_in_parts(
    contents: int, tmp_path: Path
) -> None:
    made, rng, values = one_shard(tmp_path), np.random.default_rng(0), []
    for number in range(BLOBS):
        table = columns(rng)
        table["hashes"] = (
            table["keys"] if contents > 1 else np.zeros_like(table["keys"])
        )
        blobs = by_bucket(made, table, "hashes")
        values += send("files", made.work, f"shuffle/x-{number}", blobs)
    gathered = [value for _, value in values]
    assert blob_bytes(gathered) > 16 * PART

    def work() -> int:
        return sum(
            len(verdict.kept["keys"]) + len(verdict.dropped["keys"])
            for verdict in judge(made, gathered, "hashes", ("keys",))
        )

    assert peak_of(work, BLOBS * BLOB_DOCUMENTS) < MOST
