# SPDX-License-Identifier: Apache-2.0
"""Rows of a dataset on their way to the train step, at any sequence length it holds.

A causal dataset of stored length S may be read at a divisor d of S. Each stored row
then gives S / d sub-rows that share their border token, exactly as the pieces of a
long document do; with S = 6, d = 3 and segments A and B:

    stored    A A A A B B B      lengths 4 3
    sub-row 0 A A A A            lengths 4
    sub-row 1       A B B B      lengths 1 3    the lone A is an input of nothing

so every target of the stored row stays a target once, and positions restart.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from preprocessing.contracts.manifest import Manifest
from preprocessing.contracts.shards import Shards
from preprocessing.foundation.commands import UsageError
from trainer.data.batch_schedule import BatchSchedule
from trainer.models.language_model import ModelConfig

Features = dict[str, np.ndarray]
# What a step makes of a row before the model is asked; see `trainer.data.batch`. All
# else a model has to read.
ROW_FEATURES = frozenset({"tokens", "segment_lengths", "loss_mask", "sources"})


@dataclass(frozen=True)
class DataConfig:
    """How rows are read and batched.

    Attributes:
        sequence_length: inputs per row; None is the dataset's own length.
        global_batch_size: rows of one step over all replicas and micro-batches.
        micro_batch_size: rows a replica puts through the model at once; smaller values
            accumulate gradients and save memory. None is a replica's whole share.
        weights: how much each of several datasets gives to the stream, numbers with
            commas between them; empty is in proportion to their rows.
        initial_batch_size: rows of the first step, where batches grow up to
            global_batch_size; a divisor of it.
        ramp_steps: steps before they are of that size.
    """

    sequence_length: int | None = None
    global_batch_size: int = 32
    micro_batch_size: int | None = None
    weights: str = ""
    initial_batch_size: int | None = None
    ramp_steps: int = 0

    def __post_init__(self) -> None:
        for name in ("sequence_length", "global_batch_size", "micro_batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(
                    f"wanted data.{name} of 1 or more, found {value}. Raise it"
                )
        _ = self.batch_schedule  # Refuses a ramp that cannot be.

    @property
    def batch_schedule(self) -> BatchSchedule:
        """Rows of each step."""
        return BatchSchedule(
            self.global_batch_size, self.initial_batch_size, self.ramp_steps
        )


class SubRows:
    """One split of a dataset, addressed by sub-row at a chosen sequence length.

    Attributes:
        dataset: the dataset's directory.
        manifest: its manifest.
        split: which split.
        sequence_length: inputs of a sub-row.
        counts: values of each feature that `read` gives.
        num_rows: sub-rows of the split.
    """

    def __init__(
        self, dataset: str, manifest: Manifest, split: str, sequence_length: int
    ) -> None:
        """Opens the split; the shards' sizes are checked against the manifest.

        Raises:
            UsageError: the length does not divide the dataset's, or a shard is not
                what the manifest says.
        """
        check_divides(manifest, sequence_length)
        self.dataset, self.manifest, self.split = dataset, manifest, split
        self.sequence_length = sequence_length
        self._per_row = manifest.sequence_length // sequence_length
        self._shards = Shards(dataset, manifest, split)
        self.counts: Mapping[str, int] = {
            **{name: feature["count"] for name, feature in manifest.features.items()},
            "tokens": sequence_length + 1,
        }
        self.num_rows = manifest.splits[split].rows * self._per_row

    def read(self, rows: np.ndarray) -> Features:
        """Reads sub-rows, checking every record's CRC.

        Args:
            rows: sub-row numbers, int64 [n].

        Returns:
            The dataset's features, each int32: tokens [n, sequence_length + 1],
            segment_lengths [n, max_segments], zero padded, and where the dataset has
            them prefix_lengths and sources, likewise, and loss_mask, 8 ids a value.

        Raises:
            WorkError: a record is damaged; names the shard.
        """
        stored, places = np.divmod(rows, self._per_row)
        # Neighbouring sub-rows share a stored row: read and check it once.
        unique, where = np.unique(stored, return_inverse=True)
        read = self._shards.read(unique)
        features = {name: array[where] for name, array in read.items()}
        if self._per_row == 1:
            return {name: array.astype(np.int32) for name, array in features.items()}
        starts = places * self.sequence_length
        return cut_rows(features, starts, self.sequence_length)

    def stored(self, row: int) -> tuple[int, tuple[int, ...]]:
        """Returns the stored row that a sub-row is of, and which of its segments.

        Raises:
            WorkError: the record is damaged; names the shard.
        """
        number, place = divmod(row, self._per_row)
        lengths = self._shards.read(np.array([number]))["segment_lengths"][0]
        length = self.sequence_length
        return number, segments_inside(lengths, place * length, length)


def segments_inside(lengths: np.ndarray, start: int, length: int) -> tuple[int, ...]:
    """Returns which segments have ids in a window, as `cut_rows` clips them.

    Args:
        lengths: of a row's segments, zero padded, [max_segments].
        start: first id of the window.
        length: its inputs; it has one id more.
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    inside = (ends > start) & (ends - lengths <= start + length) & (lengths > 0)
    return tuple(np.flatnonzero(inside).tolist())


def check_divides(manifest: Manifest, sequence_length: int) -> None:
    """Raises `UsageError` unless the dataset can be read at `sequence_length`."""
    if "tokens" not in manifest.features:
        raise UsageError(
            "wanted rows of one sequence, found inputs and targets apart: no family "
            "of models here has an encoder. Prepare the dataset with --layout decoder"
        )
    if manifest.sequence_length % sequence_length:
        raise UsageError(
            "wanted data.sequence_length that divides the dataset's "
            f"{manifest.sequence_length}, found {sequence_length}. Use a divisor or "
            "prepare the dataset at another length"
        )
    if sequence_length != manifest.sequence_length and manifest.objective != "causal":
        raise UsageError(
            f"wanted the dataset's own sequence_length {manifest.sequence_length} for "
            f"its {manifest.objective} objective, found {sequence_length}. Only causal "
            "rows can be cut"
        )


def check_family(manifest: Manifest, config: ModelConfig) -> None:
    """Raises `UsageError` unless models of this shape can be trained on the dataset."""
    unread = sorted(set(manifest.features) - ROW_FEATURES - config.reads)
    if unread:
        raise UsageError(
            f"wanted a model.family that reads {' and '.join(unread)}, as the "
            f"dataset's {manifest.objective} objective needs, found {config.family}, "
            "which does not. Use the decoder, or prepare the dataset with another "
            "--objective"
        )


def cut_rows(features: Features, starts: np.ndarray, length: int) -> Features:
    """Cuts one window of `length` + 1 ids out of each row, clipping its segments.

    Args:
        features: tokens [n, stored length + 1], segment_lengths [n, max_segments],
            zero padded, and sources likewise, where there are any.
        starts: first id of each window, [n].
        length: inputs of a window.

    Returns:
        The same features of the windows: int32, tokens [n, length + 1].
    """
    columns = starts[:, None] + np.arange(length + 1)
    cut = {"tokens": np.take_along_axis(features["tokens"], columns, axis=1)}
    ends = np.cumsum(features["segment_lengths"], axis=1, dtype=np.int64)
    begins = ends - features["segment_lengths"]
    first, last = starts[:, None], starts[:, None] + length + 1
    kept = np.clip(np.minimum(ends, last) - np.maximum(begins, first), 0, None)
    # Segments before the window are empty now: move them behind the ones that remain.
    order = np.argsort(kept == 0, axis=1, kind="stable")
    cut["segment_lengths"] = np.take_along_axis(kept, order, axis=1)
    if "sources" in features:
        cut["sources"] = np.take_along_axis(features["sources"], order, axis=1)
    return {name: array.astype(np.int32) for name, array in cut.items()}
