# SPDX-License-Identifier: Apache-2.0
"""Which near duplicates lose, against clusters worked out one document at a time."""

import json
import tempfile
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.curation.shingle_files import keep_shingles
from pipelines.duplicates import exact_duplicates as duplicates
from pipelines.duplicates import near_duplicates
from pipelines.job import plan
from pipelines.job.blobs import Arrays, from_bytes
from pipelines.job.buckets import by_bucket
from pipelines.job.columns import own_ids
from pipelines.job.rejects import NEAR_DUPLICATE
from pipelines.job.shuffle import blob_bytes, receive, send
from pipelines.job.steps import read_record, read_records
from preprocessing.duplicates.near_config import NearConfig
from preprocessing.foundation.fingerprints import split_hash
from tests.pipelines.duplicates.test_exact_duplicates import grouped, job, spread

BANDS = 3
NEAR = NearConfig(bands=BANDS, rows=2)
# A document: bytes of its text, and what it holds in each band.
DOCUMENTS = st.lists(
    st.tuples(st.integers(0, 3), *[st.integers(0, 4)] * BANDS), min_size=1, max_size=14
)
Document = tuple[int, ...]


def rows_of(documents: list[Document]) -> Arrays:
    """Fingerprints of documents that differ in key and content."""
    numbers = range(len(documents))
    digests = [
        spread(band * 50 + value + 7)
        for _, *values in documents
        for band, value in enumerate(values)
    ]
    return {
        "keys": hashes(spread(number) for number in numbers),
        "hashes": hashes(spread(number + 1000) for number in numbers),
        "offsets": np.array([number * 10 for number in numbers], np.int64),
        "files": np.zeros(len(documents), np.int32),
        "sizes": np.array([size for size, *_ in documents], np.int64),
        "bands": hashes(digests).reshape(len(documents), -1),
        "own_ids": own_ids([f"doc {n}" if n % 2 else None for n in numbers]),
    }


def hashes(digests) -> np.ndarray:
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)


def joined(
    made: plan.Job, rows: Arrays, blobs_of: int = 4
) -> tuple[set[int], list[bytes]]:
    """Runs the steps as the graph does; returns (rows lost, forced keys)."""
    sent, candidates, met, pairs = [], [], [], []
    for start in range(0, len(rows["keys"]), blobs_of):
        blob = {name: column[start : start + blobs_of] for name, column in rows.items()}
        elements = by_bucket(made, blob, "hashes")
        sent += send("files", made.work, f"shuffle/sent-{start}", elements)
    unique = []
    for bucket, values in grouped(sent).items():
        judged = duplicates.drop_duplicates(made, bucket, values)
        assert not judged.dropped
        unique += judged.survivors
        candidates += [value for _, value in judged.candidates]
    for bucket, values in grouped(unique).items():
        met += near_duplicates.pair_with_best(made, bucket, values)
    for bucket, values in grouped(met).items():
        pairs += near_duplicates.distinct_pairs(made, bucket, values)
    assert {key for key, _ in pairs} <= {0}
    done = near_duplicates.join_clusters(made, [v for _, v in pairs], candidates)
    lost = set()
    for shard, value in done.dropped:
        arrays = from_bytes(receive(made.work, [value])[0])
        assert (duplicates.shards_of(made, arrays["keys"]) == shard).all()
        lost |= {int(offset) // 10 for offset in arrays["offsets"]}
    return lost, [bytes(from_bytes(value)["keys"][0]) for _, value in done.forced]


def clusters_of(documents: list[Document]) -> list[set[int]]:
    """Documents that share what they hold in some band, and whoever they lead to."""
    found: list[set[int]] = []
    for number, (_, *values) in enumerate(documents):
        near = {
            other
            for other, (_, *others) in enumerate(documents[:number])
            if any(a == b for a, b in zip(values, others, strict=True))
        }
        touched = [cluster for cluster in found if cluster & near]
        found = [cluster for cluster in found if not cluster & near]
        found.append({number}.union(*touched))
    return found


def survivor(cluster: set[int], documents: list[Document]) -> int:
    return min(cluster, key=lambda number: (-documents[number][0], spread(number)))


@settings(max_examples=20, deadline=None)
@given(DOCUMENTS)
@pytest.mark.parametrize("limit", [800, 48 << 20])
def test_the_longest_text_then_the_smallest_key_of_a_cluster_survives(
    limit: int, documents: list[Document]
) -> None:
    clusters = clusters_of(documents)
    stay = {survivor(cluster, documents) for cluster in clusters}
    limits = plan.Limits(bucket_part_bytes=limit)
    with tempfile.TemporaryDirectory() as directory:
        made = job(Path(directory), 1e-9, ("exact", "near"), NEAR, limits)
        lost, forced = joined(made, rows_of(documents))
        record = read_record(made, NEAR_DUPLICATE, 0)
    assert lost == set(range(len(documents))) - stay
    # Whoever is asked to validate is there, and is asked exactly when two are left.
    assert len(forced) == (len(stay) > 1)
    assert set(forced) <= {spread(number) for number in stay}
    assert record["rejected"].get(NEAR_DUPLICATE, 0) == len(lost)
    real = [cluster for cluster in clusters if len(cluster) > 1]
    assert record["clusters"] == sum(record["cluster_sizes"]) == len(real)
    assert record["documents"] == sum(map(len, real))
    assert record["largest_cluster"] == max(map(len, real), default=0)


def test_a_candidate_that_loses_is_replaced_by_its_clusters_survivor(
    tmp_path: Path,
) -> None:
    # The bucket's best candidate is the shorter of two near duplicates.
    numbers = np.argsort(split_hash(0, hashes(spread(n) for n in range(50))))
    best, other = int(numbers[0]), int(numbers[1])
    documents = [(5, n, n + 1, n + 2) for n in range(0, 500, 10)]
    documents[best] = (4, *documents[other][1:])
    made = job(tmp_path, 1e-9, ("exact", "near"), NEAR)
    made = plan.Job(made.output, made.config, 1, "files")
    lost, forced = joined(made, rows_of(documents))
    assert lost == {best}
    assert forced == [spread(other)]


def test_a_pair_that_meets_in_every_band_is_one_pair(tmp_path: Path) -> None:
    made = job(tmp_path, deduplicate=("exact", "near"), near=NEAR)
    joined(made, rows_of([(1, 1, 1, 1), (2, 1, 1, 1), (3, 2, 2, 2)]))
    met = read_records(made, near_duplicates.MET)
    paired = read_records(made, near_duplicates.PAIRED)
    assert sum(record["pairs"] for record in met) == BANDS
    assert sum(record["pairs"] for record in paired) == 1


def test_a_reject_names_the_survivor_and_its_cluster(tmp_path: Path) -> None:
    made = job(tmp_path, deduplicate=("exact", "near"), near=NEAR)
    joined(made, rows_of([(9, 1, 1, 1), (7, 1, 2, 2), (8, 3, 2, 3), (9, 4, 4, 4)]))
    text = (tmp_path / "rejects" / f"{NEAR_DUPLICATE}-00000.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["offset"], line["document"]) for line in lines] == [
        (number * 10, spread(number).hex()) for number in (1, 2)
    ]
    assert [line.get("id") for line in lines] == ["doc 1", None]
    for line in lines:
        assert line["detail"] == (
            f"nearly the text of a at offset 0; cluster {spread(0).hex()} "
            "of 3 documents"
        )


@pytest.mark.parametrize(("wanted", "lost"), [(0.0, {0, 1}), (0.5, {0}), (0.8, set())])
def test_pairs_below_the_exact_similarity_do_not_count(
    tmp_path: Path, wanted: float, lost: set[int]
) -> None:
    near = NearConfig(bands=BANDS, rows=2, ngram=1, jaccard=wanted)
    texts = ["a b c d", "a x y z", "a b c d e f"]  # 4 of 6 and 1 of 9 words shared
    made = job(tmp_path, deduplicate=("exact", "near"), near=near)
    rows = rows_of([(7, 1, 1, 1), (7, 1, 1, 1), (11, 1, 1, 1)])
    rows |= keep_shingles(made, 5, 2, pa.array(texts, pa.large_string()))
    assert joined(made, rows)[0] == lost


@pytest.mark.parametrize("equal", [True, False])
def test_a_hot_bucket_of_any_size_is_paired_in_parts(
    equal: bool, tmp_path: Path
) -> None:
    part, count = 1 << 18, 60_000
    limits = plan.Limits(bucket_part_bytes=part, blob_bytes=part)
    made = job(tmp_path, deduplicate=("near",), near=NEAR, limits=limits)
    made = replace(made, shards=1)
    rng = np.random.default_rng(0)
    digests = rng.integers(0, 256, (count, 16), np.uint8)
    rows = {
        "keys": rng.integers(0, 256, (count, 16), np.uint8),
        "hashes": np.zeros_like(digests) if equal else digests,
        "offsets": np.arange(count),
        "files": np.zeros(count, np.int32),
        "sizes": np.full(count, 100),
        "band": np.zeros(count, np.uint16),
    }
    sent = send("files", made.work, "shuffle/x", by_bucket(made, rows, "hashes"))
    values = [value for _, value in sent]
    del rows, digests, sent
    assert blob_bytes(values) > 12 * part
    tracemalloc.start()
    met = near_duplicates.pair_with_best(made, 0, values)
    near_duplicates.distinct_pairs(made, 0, [value for _, value in met])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * part  # the rows are 12, and their pairs 20 more
    (record,) = read_records(made, near_duplicates.PAIRED)
    assert record["pairs"] == (count - 1 if equal else 0)
