# SPDX-License-Identifier: Apache-2.0
"""TFRecord shards: written whole or not at all, read at any row.

Records have one size, so row r of a shard starts at byte r * frame_bytes. Local shards
are memory-mapped; remote ones are read with one ranged request per run of neighbouring
rows. Sizes are checked against the manifest when opened, checksums as rows are read.
"""

import hashlib
import itertools
import mmap
from collections.abc import Iterable, Iterator

import numpy as np

from preprocessing.contracts.manifest import Manifest, Shard
from preprocessing.contracts.records import RecordFormat
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError, WorkError


def shard_name(split: str, index: int, count: int) -> str:
    """Returns the file name of shard `index` of `count`."""
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord"


def write_shard(directory: str, name: str, blocks: Iterable[np.ndarray]) -> Shard:
    """Writes blocks of frames as the shard `name`, atomically.

    Args:
        directory: the dataset's directory, local or cloud.
        name: the file's name, from `shard_name`.
        blocks: uint8 [rows, frame_bytes] each, from `RecordFormat.encode`; none at
            all makes an empty shard.

    Returns:
        The shard's line of the manifest.
    """
    digest = hashlib.sha256()
    rows = size = 0
    with storage.atomic_file(storage.join(directory, name)) as file:
        for block in blocks:
            data = np.ascontiguousarray(block).data
            file.write(data)
            digest.update(data)
            rows += len(block)
            size += data.nbytes
    return Shard(name=name, rows=rows, size=size, sha256=digest.hexdigest())


def record_format(manifest: Manifest) -> RecordFormat:
    """Returns the layout of a dataset's records.

    Raises:
        UsageError: the manifest's layout is not one this version reads.
    """
    targets = manifest.features.get("targets")
    layout = RecordFormat(
        manifest.sequence_length,
        manifest.vocab_size,
        prefix="prefix_lengths" in manifest.features,
        loss_mask="loss_mask" in manifest.features,
        target_length=None if targets is None else targets["count"],
        sources="sources" in manifest.features,
    )
    found = {name: dict(feature) for name, feature in manifest.features.items()}
    wanted = {name: dict(feature) for name, feature in layout.features().items()}
    if found != wanted or manifest.record_bytes != layout.record_bytes:
        raise UsageError(
            f"wanted records of {wanted} in {layout.record_bytes} bytes, the manifest "
            f"says {found} in {manifest.record_bytes}. Prepare the dataset again"
        )
    return layout


class Shards:
    """The rows of one split, addressed 0 … num_rows - 1 in file order.

    Args:
        dataset: the dataset's directory, local or cloud.
        manifest: its manifest.
        split: "train" or "validation".

    Raises:
        UsageError: the split is unknown, or a shard is missing or has another size
            than the manifest says.
    """

    def __init__(self, dataset: str, manifest: Manifest, split: str) -> None:
        if split not in manifest.splits:
            raise UsageError(
                f"wanted split {split} of {dataset}, found "
                f"{', '.join(sorted(manifest.splits))}. Name one of these"
            )
        self.layout = record_format(manifest)
        self._dataset = dataset
        self._shards = manifest.splits[split].shards
        self._starts = np.cumsum([0, *(shard.rows for shard in self._shards)])
        self._paths = [storage.join(dataset, shard.name) for shard in self._shards]
        self._maps: dict[int, np.ndarray] = {}
        for path, shard in zip(self._paths, self._shards, strict=True):
            self._check_size(path, shard)

    @property
    def num_rows(self) -> int:
        """Rows of the split."""
        return int(self._starts[-1])

    def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Reads rows in the order asked for, checking every checksum.

        Args:
            rows: int64 [n], each in 0 … num_rows - 1, repeats allowed.

        Returns:
            The values of each of the dataset's features, [n, count], in stored dtypes.

        Raises:
            WorkError: a row is damaged; the message names the shard and the row.
        """
        rows = np.asarray(rows, np.int64)
        if rows.size and not 0 <= rows.min() <= rows.max() < self.num_rows:
            raise IndexError(
                f"wanted rows 0 to {self.num_rows - 1}, found {rows.min()} to "
                f"{rows.max()}"
            )
        frames = self._gather(rows)
        try:
            return self.layout.decode(frames)
        except ValueError:
            raise self._damaged(rows, frames) from None

    def _gather(self, rows: np.ndarray) -> np.ndarray:
        """Returns the frames of `rows`, uint8 [n, frame_bytes], unchecked."""
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        if rows.size and owners[0] == owners[-1] and (np.diff(rows) == 1).all():
            first = int(rows[0] - self._starts[owners[0]])
            return self._block(int(owners[0]), first, first + len(rows))
        frames = np.empty((len(rows), self.layout.frame_bytes), np.uint8)
        for shard in np.unique(owners).tolist():
            places = np.flatnonzero(owners == shard)
            local = rows[places] - self._starts[shard]
            if storage.is_cloud(self._paths[shard]):
                order = np.argsort(local, kind="stable")
                for run in _runs(local[order]):
                    at = order[run]
                    first, last = int(local[at[0]]), int(local[at[-1]])
                    block = self._block(shard, first, last + 1)
                    frames[places[at]] = block[local[at] - first]
            else:
                frames[places] = self._map(shard)[local]
        return frames

    def _block(self, shard: int, first: int, last: int) -> np.ndarray:
        """Returns rows first to last (exclusive) of one shard."""
        if not storage.is_cloud(self._paths[shard]):
            return self._map(shard)[first:last]
        size = self.layout.frame_bytes
        data = storage.read_range(self._paths[shard], first * size, last * size)
        if len(data) != (last - first) * size:
            raise self._cut_short(self._paths[shard])
        return np.frombuffer(data, np.uint8).reshape(last - first, size)

    def _map(self, shard: int) -> np.ndarray:
        if shard not in self._maps:
            frames = _map_file(self._paths[shard], self.layout.frame_bytes)
            if len(frames) != self._shards[shard].rows:
                raise self._cut_short(self._paths[shard])
            self._maps[shard] = frames
        return self._maps[shard]

    def _check_size(self, path: str, shard: Shard) -> None:
        try:
            size = storage.file_size(path)
        except FileNotFoundError:
            raise UsageError(
                f"wanted shard {shard.name} in {self._dataset}, it is missing. Copy "
                "the dataset again, or prepare it again"
            ) from None
        if size != shard.size or size != shard.rows * self.layout.frame_bytes:
            raise UsageError(
                f"wanted shard {shard.name} of {shard.size} bytes ({shard.rows} rows), "
                f"found {size} bytes in {self._dataset}. Copy the dataset again, or "
                "prepare it again"
            )

    def _cut_short(self, path: str) -> WorkError:
        return WorkError(
            f"wanted {path} as large as when it was opened, it has shrunk since. Leave "
            "a dataset alone while it is read"
        )

    def _damaged(self, rows: np.ndarray, frames: np.ndarray) -> WorkError:
        for row, frame in zip(rows.tolist(), frames, strict=True):
            try:
                self.layout.decode(frame[None])
            except ValueError:
                shard = int(np.searchsorted(self._starts, row, side="right")) - 1
                return WorkError(
                    f"wanted row {row - int(self._starts[shard])} of shard "
                    f"{self._paths[shard]} as it was written, its checksum or layout "
                    "differs: the file is damaged. Copy that shard again and run "
                    "quern-inspect verify"
                )
        raise AssertionError("a block failed its check, yet each of its rows passes")


def _map_file(path: str, frame_bytes: int) -> np.ndarray:
    """Maps a local shard, uint8 [rows, frame_bytes]; an empty file has no rows."""
    with open(path, "rb") as file:
        if not file.seek(0, 2):
            return np.empty((0, frame_bytes), np.uint8)
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    frames = np.frombuffer(data, np.uint8)
    rows = len(frames) // frame_bytes
    return frames[: rows * frame_bytes].reshape(rows, frame_bytes)


def _runs(values: np.ndarray) -> Iterator[slice]:
    """Yields slices of sorted `values` that are consecutive or equal."""
    cuts = np.flatnonzero(np.diff(values) > 1) + 1
    edges = [0, *cuts.tolist(), len(values)]
    for start, end in itertools.pairwise(edges):
        yield slice(start, end)
