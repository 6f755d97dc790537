# SPDX-License-Identifier: Apache-2.0
"""The last part of a mixture's preparation: packed rows into shards of mixed rows.

    order of the split -> a shard's range of it -> frames of packed shards, interleaved
                       -> where each segment comes from -> provenance
    packed shard -> documents none of whose rows was drawn -> rejects (not_drawn)

Frames have one size and are copied as they are; their checksums are checked on the way.
"""

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import pyarrow.parquet as pq

from pipelines.job.blobs import Arrays, concatenated, read_blob, take
from pipelines.job.checksums import FileSum, summed_file
from pipelines.job.plan import Job
from pipelines.job.rejects import NOT_DRAWN, RejectFile
from pipelines.job.steps import Clock, Record, finished, write_record
from pipelines.prepare import pack_shard, provenance
from pipelines.prepare.mixture_order import MixtureOrder, Rows, read_order
from preprocessing.contracts.shards import shard_name, write_shard
from preprocessing.foundation import storage
from preprocessing.foundation.commands import WorkError
from preprocessing.reading.documents import Reject

KIND = "mixed"
# Frames interleaved at a time.
BLOCK_BYTES = 16 << 20


def mix_shard(job: Job, index: int) -> None:
    """Writes shard `index` of every split, and rejects packed shard `index`'s undrawn.

    Raises:
        WorkError: a packed row is damaged or missing.
    """
    if finished(job, KIND, index) is not None:
        return
    clock, splits = Clock(), {}
    files: list[FileSum] = []
    with RejectFile(job.output, f"mixture-{index:05d}") as rejects:
        dropped = 0
        for split in pack_shard.splits_of(job):
            order = read_order(job, split)
            with clock.timed("mix"):
                splits[split], left = _write_split(job, split, index, order)
                files += left
                dropped += _drop_undrawn(job, split, index, order, rejects)
    counters = rejects.record()
    record = {
        **counters,
        "files": [*files, *counters["files"]],
        "splits": splits,
        "dropped_tokens": dropped,
        "seconds": clock.seconds,
        "cpu_seconds": clock.cpu_seconds,
    }
    write_record(job, KIND, index, record)


def _write_split(
    job: Job, split: str, index: int, order: MixtureOrder
) -> tuple[Record, list[FileSum]]:
    """Writes one shard and its provenance; returns what it holds, and both files."""
    totals = _Totals(len(order.counts))
    name = provenance.provenance_name(split, index, job.shards)
    with (
        summed_file(job.output, name) as file,
        provenance.table_writer(file) as writer,
    ):
        frames = _frames(job, split, index, order, totals, writer)
        shard = write_shard(job.output, shard_name(split, index, job.shards), frames)
    record = {
        "shard": asdict(shard),
        "sources": totals.by_source.tolist(),
        "overlap_tokens": totals.overlap_tokens,
    }
    rows = {"name": shard.name, "size": shard.size, "sha256": shard.sha256}
    return record, [rows, file.sum(name)]


class _Totals:
    """Adds up what a shard holds.

    Attributes:
        by_source: rows, tokens and text bytes of each source, int64 [sources, 3].
        overlap_tokens: ids that were written before: borders of a document's pieces,
            and all of a row that is repeated.
    """

    def __init__(self, sources: int) -> None:
        self.by_source = np.zeros((sources, 3), np.int64)
        self.overlap_tokens = 0

    def add(self, source: int, rows: Rows, segments: Arrays) -> None:
        """Adds some rows of a source."""
        tokens = int(segments["length"].sum())
        text_bytes = int(segments["text_bytes"].sum())
        self.by_source[source] += rows.length, tokens, text_bytes
        again = tokens if rows.repeated else int(segments["overlap"].sum())
        self.overlap_tokens += again


def _frames(
    job: Job,
    split: str,
    index: int,
    order: MixtureOrder,
    totals: _Totals,
    writer: pq.ParquetWriter,
) -> Iterator[np.ndarray]:
    """Yields a shard's frames; their segments go to the provenance on the way."""
    from preprocessing.packing.interleave import draw

    packed, drawn = _PackedRows(job, split), order.drawn[index].copy()
    size = job.config.layout.frame_bytes
    begin, end = order.edges[index : index + 2].tolist()
    step = max(1, BLOCK_BYTES // size)
    for first in range(begin, end, step):
        sources = draw(order.counts, drawn, min(step, end - first))
        frames = np.empty((len(sources), size), np.uint8)
        tables = []
        for source in np.unique(sources).tolist():
            places = np.flatnonzero(sources == source)
            done = 0
            for rows in order.rows(source, int(drawn[source]), len(places)):
                at = places[done : done + rows.length]
                frames[at] = packed.frames(rows)
                segments = packed.segments(source, rows)
                totals.add(source, rows, segments)
                tables.append({**segments, "row": first + at[segments["row"]]})
                done += rows.length
            drawn[source] += done
        table = concatenated(tables)
        by_row = np.argsort(table["row"], kind="stable")
        writer.write_table(provenance.table_of(job, take(table, by_row)))
        yield frames


class _PackedRows:
    """The packed rows of a split: their frames, and their segments."""

    def __init__(self, job: Job, split: str) -> None:
        self._job, self._split = job, split
        # Draws of a source walk through its shards, so one of each is at hand.
        self._held: dict[int, tuple[int, Arrays]] = {}

    def frames(self, rows: Rows) -> np.ndarray:
        """Returns the frames of some rows, uint8 [length, frame_bytes]."""
        layout = self._job.config.layout
        path = pack_shard.packed_path(self._job, self._split, rows.shard)
        size, begin = layout.frame_bytes, rows.first * layout.frame_bytes
        try:
            data = storage.read_range(path, begin, begin + rows.length * size)
            frames = np.frombuffer(data, np.uint8).reshape(rows.length, size)
            layout.decode(frames)
        except (FileNotFoundError, ValueError) as error:
            raise WorkError(
                f"wanted rows {rows.first} to {rows.first + rows.length} of {path} as "
                f"they were packed, found: {error}. Remove the output and run again"
            ) from error
        return frames

    def segments(self, source: int, rows: Rows) -> Arrays:
        """Returns the segments of some rows; `row` is counted from the first."""
        held = self._held.get(source)
        if held is None or held[0] != rows.shard:
            table = segments_of(self._job, self._split, rows.shard)
            mine = np.flatnonzero(table["source"] == source)
            held = self._held[source] = rows.shard, take(table, mine)
        table, edges = held[1], (rows.first, rows.first + rows.length)
        wanted = slice(*np.searchsorted(table["row"], edges))
        taken = {name: column[wanted] for name, column in table.items()}
        return {**taken, "row": taken["row"] - rows.first}


def segments_of(job: Job, split: str, shard: int) -> Arrays:
    """Returns all segments of a packed shard, in the order of its rows."""
    parts = pack_shard.packed_record(job, shard)["parts"]
    paths = [
        pack_shard.provenance_work_path(job, split, shard, part)
        for part in range(parts)
    ]
    return concatenated([read_blob(path) for path in paths])


def _drop_undrawn(
    job: Job, split: str, shard: int, order: MixtureOrder, rejects: RejectFile
) -> int:
    """Rejects a packed shard's documents without a drawn row.

    Returns:
        The ids of rows that were not drawn; those that an earlier piece of their
        document has too are that piece's.
    """
    table = segments_of(job, split, shard)
    rows = pack_shard.packed_record(job, shard)["splits"][split]["shard"]["rows"]
    drawn = order.taken(shard, rows)[table["row"]]
    if drawn.all():
        return 0
    names = np.ascontiguousarray(table["keys"]).view("V16")[:, 0]
    _, first, document = np.unique(names, return_index=True, return_inverse=True)
    kept = np.bincount(document, drawn) > 0
    sizes = np.bincount(document, table["text_bytes"]).astype(np.int64)
    undrawn = np.flatnonzero(~kept)
    # In the order of rows, as the documents lie in the shard.
    places = undrawn[np.argsort(first[undrawn])]
    rejects.write(_rejects(job, table, first[places], sizes[places]))
    return int((table["length"] - table["overlap"])[~drawn].sum())


def _rejects(
    job: Job, table: Arrays, segments: np.ndarray, sizes: np.ndarray
) -> Iterator[Reject]:
    """Yields a reject for the document of each of `segments`."""
    files = job.plan().files
    for segment, size in zip(segments.tolist(), sizes.tolist(), strict=True):
        relative = files[int(table["files"][segment])]
        yield Reject(
            NOT_DRAWN,
            relative,
            int(table["offsets"][segment]),
            f"the mixture is full of rows of {relative.split('/', 1)[0]}",
            document=table["keys"][segment].tobytes().hex(),
            size=size,
            id=table["own_ids"][segment].decode() or None,
        )
