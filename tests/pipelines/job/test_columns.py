# SPDX-License-Identifier: Apache-2.0
"""What a stage sends has the columns, types and bytes a row that the next one reads."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pipelines.job import columns, shuffle
from pipelines.job.blobs import to_bytes
from pipelines.job.plan import Job
from pipelines.prepare.tokenize_task import by_shard
from preprocessing.duplicates.near_config import NearConfig
from preprocessing.objectives.objectives import ObjectiveConfig
from tests.pipelines.duplicates.test_exact_duplicates import job

KINDS = (
    *(columns.DOCUMENT, columns.EXAMPLE, columns.FINGERPRINT, columns.SHINGLES),
    *(columns.END, columns.BAND, columns.LINE, columns.DROPPED_LINE),
    *(columns.DROPPED, columns.CANDIDATE, columns.SEGMENT),
)


def some_rows(kind: np.dtype, count: int) -> dict[str, np.ndarray]:
    return {name: np.zeros(count, kind[name]) for name in columns.names(kind)}


def with_objective(made: Job, name: str) -> Job:
    objective = ObjectiveConfig(name=name)
    config = dataclasses.replace(made.config, objective=objective)
    return dataclasses.replace(made, config=config)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_has_the_bytes_that_it_adds_to_a_blob(kind: np.dtype) -> None:
    few, many = some_rows(kind, 1000), some_rows(kind, 9000)
    assert len(to_bytes(many)) - len(to_bytes(few)) == 8000 * kind.itemsize
    assert columns.row_bytes(few) == kind.itemsize
    assert [len(column) for column in columns.empty(kind).values()] == [0] * len(few)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_come_in_the_columns_order_and_of_no_other_type(kind: np.dtype) -> None:
    rows = some_rows(kind, 3)
    backwards = {"more": np.zeros(3), **dict(reversed(rows.items()))}
    assert list(columns.rows_of(kind, backwards)) == list(rows)
    for name, column in rows.items():
        for other in (column.astype(np.float32), np.zeros((3, 7), column.dtype)):
            with pytest.raises(ValueError, match=f"wanted {name} as"):
                columns.rows_of(kind, {**rows, name: other})


def test_fingerprints_carry_what_near_duplicates_are_asked_for(tmp_path: Path) -> None:
    plain = job(tmp_path).config
    assert columns.fingerprint_columns(plain) == columns.FINGERPRINT
    near = dataclasses.replace(plain, deduplicate=("near",), near=NearConfig(bands=3))
    wide = columns.fingerprint_columns(near)
    assert wide.itemsize == columns.FINGERPRINT.itemsize + 3 * 16
    exact = dataclasses.replace(near, near=NearConfig(bands=3, jaccard=0.5))
    names = columns.names(columns.fingerprint_columns(exact))
    assert set(names) - set(columns.names(wide)) == set(columns.names(columns.SHINGLES))


@pytest.mark.parametrize("objective", ["causal", "prefix"])
def test_blobs_of_documents_are_cut_where_their_bytes_fill_them(
    objective: str, tmp_path: Path
) -> None:
    made, rng = with_objective(job(tmp_path), objective), np.random.default_rng(0)
    kind = columns.document_columns(made.config)
    rows = some_rows(kind, 300_000)
    rows["keys"] = rng.integers(0, 256, (300_000, 16), np.uint8)
    rows["lengths"] += 2
    rows["ids"] = np.zeros(600_000, made.config.layout.token_dtype)
    sizes = [len(blob) for _, blob in by_shard(made, rows)]
    header = len(to_bytes(some_rows(kind, 0)))
    full = [size for size in sizes if size > shuffle.BLOB_BYTES - 100]
    assert max(sizes) <= shuffle.BLOB_BYTES + header + 100
    assert len(sizes) - len(full) == made.shards  # all but each shard's last
