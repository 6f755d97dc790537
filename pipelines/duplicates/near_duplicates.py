# SPDX-License-Identifier: Apache-2.0
"""Near duplicates: documents that meet in a band, joined to clusters; one stays.

    bands by digest   -> each row with the bucket's best one: a star, not all pairs
    pairs by pair     -> each once, however many bands it meets in; similar enough?
    all pairs         -> clusters -> dropped to their shards
                      -> one document for validation, if hashing chose none

The best is the longest text, then the smallest key; the cluster's is its survivor and
its key the cluster's id. Only documents that survived repeated ids and exact duplicates
come here, so none that is gone can win. Steps hold parts of their rows, and the last
some 100 bytes for each document that is in a cluster, however often it met others.

The split of a document follows from its key, and one document of a cluster is left: so
near duplicates never lie on both sides of it.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipelines.curation.judging import RowVerdict, judge, words
from pipelines.curation.shingle_files import similarities
from pipelines.duplicates.exact_duplicates import (
    REJECTS_AT_ONCE,
    Elements,
    candidates_of,
    force_validation,
    send_dropped,
)
from pipelines.duplicates.own_ids import find_ids
from pipelines.job.blobs import Arrays, from_bytes, take
from pipelines.job.buckets import by_bucket, by_key
from pipelines.job.columns import END, SHINGLES, names
from pipelines.job.plan import Job
from pipelines.job.rejects import NEAR_DUPLICATE, RejectFile
from pipelines.job.shuffle import receive, send
from pipelines.job.steps import write_record
from preprocessing.foundation.fingerprints import mix
from preprocessing.reading.documents import Reject

if TYPE_CHECKING:
    from preprocessing.duplicates.clusters import Members

MET, PAIRED = "near_bands", "near_pairs"  # records of the first two steps' buckets
_PLACE, _SHINGLES = names(END), names(SHINGLES)


def pair_with_best(job: Job, bucket: int, values: list[bytes]) -> Elements:
    """Returns the pairs of a bucket of bands, each document with the best it met."""
    elements, pairs = Elements(), 0
    for number, verdict in enumerate(judge(job, values, "hashes", ("-sizes", "keys"))):
        if len(verdict.dropped["keys"]):
            pairs += len(verdict.dropped["keys"])
            name = f"shuffle/met-{bucket:05d}-{number:05d}"
            blobs = by_bucket(job, _pairs(verdict), "pairs")
            elements += send(job.transport, job.work, name, blobs)
    write_record(job, MET, bucket, {"pairs": pairs})
    return elements


def _pairs(verdict: RowVerdict) -> Arrays:
    """Returns a row for each duplicate and its owner, known by a hash of both keys."""
    ends = [name for name in verdict.dropped if name in (*_PLACE, *_SHINGLES)]
    rows = {name: verdict.dropped[name] for name in (*ends, "band")}
    rows |= {f"owner_{name}": verdict.owners[name] for name in ends}
    halves = zip(words(rows["keys"]), words(rows["owner_keys"]), strict=True)
    hashes = np.stack([mix(mix(own) ^ owner) for own, owner in halves], axis=1)
    rows["pairs"] = hashes.astype("<u8", copy=False).view(np.uint8)
    return rows


def distinct_pairs(job: Job, bucket: int, values: list[bytes]) -> Elements:
    """Returns each pair of a bucket once, if it is as similar as the job asks."""
    elements, pairs, dissimilar = Elements(), 0, 0
    # A pair meets once in a band.
    for number, verdict in enumerate(judge(job, values, "pairs", ("band",))):
        rows = verdict.kept
        pairs += len(rows["keys"])
        if job.config.near.jaccard:
            similar = _similar(job, rows)
            dissimilar += len(rows["keys"]) - len(similar["keys"])
            rows = similar
        if len(rows["keys"]):
            edges = {
                name: column
                for name, column in rows.items()
                if name.removeprefix("owner_") in _PLACE
            }
            name = f"shuffle/pairs-{bucket:05d}-{number:05d}"
            blobs = by_key(job, edges, np.zeros(len(rows["keys"]), np.int64))
            elements += send(job.transport, job.work, name, blobs)
    write_record(job, PAIRED, bucket, {"pairs": pairs, "dissimilar": dissimilar})
    return elements


def _similar(job: Job, rows: Arrays) -> Arrays:
    """Returns the pairs of at least the wanted similarity, by owner."""
    rows = take(rows, np.lexsort(words(rows["owner_keys"])))
    others = {name: rows[f"owner_{name}"] for name in _SHINGLES}
    found = similarities(job, rows, others)
    return take(rows, np.flatnonzero(found >= job.config.near.jaccard))


class Joined(NamedTuple):
    """What clusters decide, as elements for shards."""

    dropped: Elements
    forced: Elements


def join_clusters(job: Job, pairs: list[bytes], candidates: list[bytes]) -> Joined:
    """Joins all pairs to clusters; all but the best document of each are rejects.

    Args:
        job: the job.
        pairs: from `distinct_pairs`, of all buckets.
        candidates: for validation, from `Deduplicated.candidates`. One that is dropped
            is replaced by its cluster's survivor.
    """
    # Imported here: a compiler comes with it.
    from preprocessing.duplicates.clusters import Clusters, Edges

    clusters = Clusters()
    for value in pairs:
        edges = from_bytes(receive(job.work, [value])[0])
        clusters.add(
            Edges(
                edges["keys"], edges["sizes"], edges["owner_keys"], edges["owner_sizes"]
            )
        )
    members = clusters.members()
    del clusters
    dropped = _reject(job, members, _places(job, members, pairs))
    keys, documents = candidates_of(candidates)
    at, known = _find(members, keys)
    keys[known] = members.keys[members.survivors[at[known]]]
    lost = int((members.survivors != np.arange(len(members.keys))).sum())
    return Joined(dropped, force_validation(job, keys, documents - lost))


def _find(members: "Members", keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns keys' places among the members, int64 [n], and which have one, bool."""
    if not len(members.keys):
        return np.zeros(len(keys), np.int64), np.zeros(len(keys), bool)
    high, low = words(members.keys)
    wanted_high, wanted_low = words(keys)
    last = len(high) - 1
    at = np.minimum(np.searchsorted(high, wanted_high), last)
    while True:  # again only for keys that share their first half with others
        same = high[at] == wanted_high
        further = same & (low[at] < wanted_low) & (at < last)
        if not further.any():
            return at, same & (low[at] == wanted_low)
        at += further


def _places(job: Job, members: "Members", pairs: list[bytes]) -> Arrays:
    """Returns where each member lies: `files`, `offsets` and `sizes`, [m]."""
    count, wanted = len(members.keys), ("files", "offsets", "sizes")
    places: Arrays = {name: np.zeros(count, END[name]) for name in wanted}
    for value in pairs:
        edges = from_bytes(receive(job.work, [value])[0])
        for end in ("", "owner_"):
            at, _ = _find(members, edges[f"{end}keys"])
            for name, column in places.items():
                column[at] = edges[end + name]
    return places


def _reject(job: Job, members: "Members", places: Arrays) -> Elements:
    """Writes all members but survivors as rejects; returns them for their shards."""
    own = members.survivors == np.arange(len(members.keys))
    lost, elements = np.flatnonzero(~own), Elements()
    files, ids = job.plan().files, find_ids(job, members.keys[lost])
    with RejectFile(job.output, f"{NEAR_DUPLICATE}-00000") as rejects:
        for number, start in enumerate(range(0, len(lost), REJECTS_AT_ONCE)):
            chunk = lost[start : start + REJECTS_AT_ONCE]
            rejects.write(
                replace(_line(files, members, places, at), id=name)
                for at, name in zip(chunk.tolist(), ids[start:], strict=False)
            )
            rows = {"keys": members.keys[chunk], "offsets": places["offsets"][chunk]}
            name = f"shuffle/near-{number:05d}"
            elements += send_dropped(job, name, rows)
    powers = np.log2(members.sizes[own]).astype(np.int64)
    record = {
        **rejects.record(),
        "documents": len(members.keys),
        "clusters": int(own.sum()),
        # [i] counts the clusters of 2^i to 2^(i+1) - 1 documents.
        "cluster_sizes": np.bincount(powers).tolist(),
        "largest_cluster": int(members.sizes.max(initial=0)),
    }
    write_record(job, NEAR_DUPLICATE, 0, record)
    return elements


def _line(files: Sequence[str], members: "Members", places: Arrays, at: int) -> Reject:
    best = int(members.survivors[at])
    return Reject(
        reason=NEAR_DUPLICATE,
        relative=files[places["files"][at]],
        offset=int(places["offsets"][at]),
        detail=f"nearly the text of {files[places['files'][best]]} at offset "
        f"{places['offsets'][best]}; cluster {members.keys[best].tobytes().hex()} of "
        f"{members.sizes[at]} documents",
        document=members.keys[at].tobytes().hex(),
        size=int(places["sizes"][at]),
    )
