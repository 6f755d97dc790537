# SPDX-License-Identifier: Apache-2.0
"""The same rows lose in whatever parts they are judged, and each has its owner."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.curation.judging import judge
from pipelines.job.blobs import Arrays
from pipelines.job.buckets import by_bucket
from pipelines.job.plan import Limits
from tests.pipelines.duplicates.test_exact_duplicates import FIELDS, fingerprints, job

RANKS = {"keys": ("offsets",), "hashes": ("-sizes", "keys")}


def table_of(rows: list[tuple[int, int]]) -> Arrays:
    return fingerprints(rows) | {"sizes": np.arange(len(rows)) % 3}


def verdicts(
    rows: list[tuple[int, int]], group: str, rank: tuple[str, ...], limit: int
) -> dict[int, int | None]:
    """Maps each row to the row it lost to, or None; rows are known by offset."""
    owner_of: dict[int, int | None] = {}
    with tempfile.TemporaryDirectory() as directory:
        made = job(Path(directory), limits=Limits(bucket_part_bytes=limit))
        sent: list[tuple[int, bytes]] = []
        table = table_of(rows)
        for row in range(len(rows)):  # a blob each: parts choose among blobs too
            one = {name: array[row : row + 1] for name, array in table.items()}
            sent += by_bucket(made, one, group)
        for bucket in range(made.shards):
            values = [b"\0" + blob for key, blob in sent if key == bucket]
            for verdict in judge(made, values, group, rank):
                kept = verdict.kept["offsets"].tolist()
                lost = verdict.dropped["offsets"].tolist()
                owners = verdict.owners["offsets"].tolist()
                assert not owner_of.keys() & {*kept, *lost}
                owner_of |= dict.fromkeys(kept)
                owner_of |= dict(zip(lost, owners, strict=True))
    return owner_of


@settings(max_examples=40, deadline=None)
@given(st.lists(FIELDS, min_size=1, max_size=40))
@pytest.mark.parametrize("limit", [100, 400, 48 << 20])
@pytest.mark.parametrize("group", RANKS)
def test_every_row_is_kept_or_loses_to_the_first_of_its_group(
    group: str, limit: int, rows: list[tuple[int, int]]
) -> None:
    if group == "hashes":  # repeated keys are gone when contents are judged
        rows = [(number, content) for number, (_, content) in enumerate(rows)]
    table = table_of(rows)
    found = verdicts(rows, group, RANKS[group], limit)
    first: dict[bytes, tuple[tuple[int, bytes], int]] = {}
    for place, offset in enumerate(table["offsets"].tolist()):
        better = -int(table["sizes"][place]), table["keys"][place].tobytes()
        rank = (offset, b"") if group == "keys" else better
        name = table[group][place].tobytes()
        first[name] = min(first.get(name, (rank, offset)), (rank, offset))
    wanted = {
        offset: None if (winner := first[name.tobytes()][1]) == offset else winner
        for name, offset in zip(table[group], table["offsets"].tolist(), strict=True)
    }
    assert found == wanted


@pytest.mark.parametrize("rank", [("keys",), ("-files", "keys")])
def test_many_equal_rows_are_judged_in_several_pieces(
    rank: tuple[str, ...], tmp_path: Path
) -> None:
    made = job(tmp_path, limits=Limits(bucket_part_bytes=1000))
    table = fingerprints([(number, 1) for number in range(500)])
    ((_, blob),) = by_bucket(made, table, "hashes")
    found = list(judge(made, [b"\0" + blob], "hashes", rank))
    assert len(found) > 10
    assert max(len(verdict.dropped["keys"]) for verdict in found) < 100
    assert sum(len(verdict.dropped["keys"]) for verdict in found) == 499
    assert np.unique(np.concatenate([v.owners["offsets"] for v in found])).size == 1
