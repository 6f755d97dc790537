# SPDX-License-Identifier: Apache-2.0
"""Which documents lose, against the same rules spelled out one document at a time."""

import json
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.duplicates import exact_duplicates as duplicates
from pipelines.job import plan
from pipelines.job.blobs import from_bytes
from pipelines.job.buckets import by_bucket
from pipelines.job.columns import own_ids
from pipelines.job.shuffle import receive
from pipelines.prepare import workspace
from preprocessing.duplicates.near_config import NearConfig
from preprocessing.foundation.fingerprints import split_hash

NEAR = NearConfig()
FIELDS = st.tuples(st.integers(0, 6), st.integers(0, 5))  # key, content


def job(
    output: Path,
    fraction: float = 0.01,
    deduplicate: tuple[str, ...] = ("exact",),
    near: NearConfig = NEAR,
    limits: plan.Limits = plan.LIMITS,
    sizes: plan.PlanSizes = plan.SIZES,
) -> plan.Job:
    tokenizer = plan.TokenizerConfig("", 300, None, 0, 0)
    config = plan.PrepareConfig(
        tokenizer,
        validation_fraction=fraction,
        deduplicate=deduplicate,
        near=near,
        sizes=sizes,
    )
    made = plan.Job(str(output), config, 3, "files", limits=limits)
    workspace.begin(made, plan.Plan(("a",), (), (0,), ("",)), [], b"", {})
    return made


def spread(number: int) -> bytes:
    """A key or a content whose order is that of numbers, anywhere in 128 bits."""
    return (number * 0x2468ACE13579BDF02468ACE13579BDF % 2**128).to_bytes(16, "big")


def fingerprints(rows: list[tuple[int, int]]) -> dict[str, np.ndarray]:
    keys = b"".join(spread(key) for key, _ in rows)
    hashes = b"".join(spread(content + 50) for _, content in rows)
    return {
        "keys": np.frombuffer(keys, np.uint8).reshape(-1, 16),
        "hashes": np.frombuffer(hashes, np.uint8).reshape(-1, 16),
        "offsets": np.arange(len(rows), dtype=np.int64) * 10,
        "files": np.zeros(len(rows), np.int32),
        "sizes": np.array([content // 2 for _, content in rows], np.int64),
        "own_ids": own_ids([f"doc {key}" if key else None for key, _ in rows]),
    }


def grouped(elements: list[tuple[int, bytes]]) -> dict[int, list[bytes]]:
    groups: dict[int, list[bytes]] = {}
    for key, value in elements:
        groups.setdefault(key, []).append(value)
    return groups


def judged(made: plan.Job, rows: list[tuple[int, int]]) -> tuple[set[int], list[bytes]]:
    """Runs the three steps as the graph does; returns (rows lost, forced keys)."""
    dropped, survivors, candidates = [], [], []
    sent = [(k, b"\0" + v) for k, v in by_bucket(made, fingerprints(rows), "keys")]
    for bucket, values in grouped(sent).items():
        step = duplicates.drop_repeated_ids(made, bucket, values)
        survivors += step.survivors
        candidates += [value for _, value in step.candidates]
        dropped += step.dropped
    for bucket, values in grouped(survivors).items():
        step = duplicates.drop_duplicates(made, bucket, values)
        candidates += [value for _, value in step.candidates]
        dropped += step.dropped
    lost = set()
    for shard, value in dropped:
        arrays = from_bytes(receive(made.work, [value])[0])
        assert (duplicates.shards_of(made, arrays["keys"]) == shard).all()
        lost |= {int(offset) // 10 for offset in arrays["offsets"]}
    forced = [
        bytes(from_bytes(value)["keys"][0])
        for _, value in duplicates.force_validation(
            made, *duplicates.candidates_of(candidates)
        )
    ]
    return lost, forced


@settings(max_examples=60, deadline=None)
@given(st.lists(FIELDS, min_size=1, max_size=25))
def test_the_first_of_an_id_and_then_the_smallest_key_of_a_text_survive(
    rows: list[tuple[int, int]],
) -> None:
    first: dict[int, int] = {}
    for number, (key, _) in enumerate(rows):
        first.setdefault(key, number)
    best: dict[int, int] = {}
    for number in sorted(first.values(), key=lambda row: spread(rows[row][0])):
        best.setdefault(rows[number][1], number)
    with tempfile.TemporaryDirectory() as directory:
        lost, _ = judged(job(Path(directory)), rows)
    assert lost == set(range(len(rows))) - set(best.values())


@settings(max_examples=30, deadline=None)
@given(st.lists(FIELDS, min_size=1, max_size=25))
def test_without_exact_equal_texts_stay_and_repeated_ids_still_go(
    rows: list[tuple[int, int]],
) -> None:
    first = {key: number for number, (key, _) in reversed(list(enumerate(rows)))}
    with tempfile.TemporaryDirectory() as directory:
        made = job(Path(directory), 1e-9, ())
        lost, forced = judged(made, rows)
    assert lost == set(range(len(rows))) - set(first.values())
    assert len(forced) == (len(first) > 1)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        FIELDS, min_size=1, max_size=12, unique_by=(lambda r: r[0], lambda r: r[1])
    ),
    st.sampled_from([0.0, 1e-9, 0.2, 0.9]),
)
def test_validation_is_forced_exactly_when_hashing_leaves_it_empty(
    rows: list[tuple[int, int]], fraction: float
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        made = job(Path(directory), fraction)
        lost, forced = judged(made, rows)
        hashes = split_hash(0, fingerprints(rows)["keys"])
        chosen = duplicates.validates(made, hashes).any()
    assert not lost
    wanted = bool(fraction) and len(rows) > 1 and not chosen
    assert forced == ([spread(rows[int(np.argmin(hashes))][0])] if wanted else [])


def test_a_reject_says_where_the_survivor_lies(tmp_path: Path) -> None:
    judged(job(tmp_path), [(1, 1), (1, 2), (2, 1)])
    texts = [file.read_text() for file in (tmp_path / "rejects").iterdir()]
    assert any("its id is already at offset 0" in text for text in texts)
    assert any("the same text as a at offset 0" in text for text in texts)
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    assert sorted(line["id"] for line in lines) == ["doc 1", "doc 2"]
