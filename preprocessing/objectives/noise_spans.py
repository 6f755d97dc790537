# SPDX-License-Identifier: Apache-2.0
"""How many holes span corruption makes, what fits a row, and how holes are filled.

The numbers are those of T5's `random_spans_noise_mask` and `random_spans_helper`
(Raffel et al. 2020, arXiv 1910.10683, and its code, t5/data/preprocessors.py): of n
ids, n times the density are taken out, rounded, in holes of the mean length, rounded.
"""

import functools
from dataclasses import dataclass

import numpy as np

from preprocessing.foundation.commands import UsageError
from preprocessing.objectives.pairs import PairRoom


@dataclass(frozen=True)
class NoiseConfig:
    """The share of ids taken out, and the ids of a hole on average."""

    density: float
    mean_length: float

    def check(self) -> None:
        """Raises `UsageError` for shares that make no holes."""
        if not 0 < self.density < 1:
            raise UsageError(
                "wanted --noise_density above 0 and below 1, found "
                f"{self.density}. 0.15 is usual"
            )
        if self.mean_length < 1:
            raise UsageError(
                "wanted --mean_span_length of 1 or more, found "
                f"{self.mean_length}. 3 is usual"
            )

    def count(self, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (ids taken out, holes) of pieces of so many ids, int64 [n] twice.

        At least one id stays before every hole; a piece of one id or none keeps all.
        """
        most = np.maximum(lengths - 1, 1)
        noise = np.clip(np.rint(lengths * self.density), 1, most).astype(np.int64)
        spans = np.rint(noise / self.mean_length).astype(np.int64)
        spans = np.clip(spans, 1, np.minimum(noise, np.maximum(lengths - noise, 1)))
        whole = lengths < 2
        return np.where(whole, 0, noise), np.where(whole, 0, spans)

    def target_length(self, inputs: int) -> int:
        """Returns the ids of targets, EOS included, that go with a full row of inputs.

        512 inputs make 114, from 568 ids of text, as in T5.
        """
        return _target_length(self, inputs)

    def longest_piece(self, room: PairRoom, bos: bool, sentinels: int) -> int:
        """Returns the most ids of text whose example fits.

        Args:
            room: what inputs and targets fit into.
            bos: whether inputs begin with BOS.
            sentinels: how many there are, so the most holes.

        Raises:
            UsageError: not three ids fit.
        """
        return _longest_piece(self, room, bos, sentinels)


@functools.lru_cache(maxsize=16)
def _target_length(config: NoiseConfig, inputs: int) -> int:
    lengths, noise, spans = _up_to(config, int(inputs / (1 - config.density)) + 2)
    found = np.flatnonzero(lengths - noise + spans + 1 <= inputs)
    return int((noise + spans)[found[-1]]) + 1


@functools.lru_cache(maxsize=16)
def _longest_piece(
    config: NoiseConfig, room: PairRoom, bos: bool, sentinels: int
) -> int:
    most = room.inputs + (room.targets or 0)
    lengths, noise, spans = _up_to(config, most)
    inputs = bos + lengths - noise + spans
    fits = spans <= sentinels
    if room.targets is None:
        fits &= inputs + noise + spans + 1 <= room.inputs
    else:
        fits &= (inputs + 1 <= room.inputs) & (noise + spans + 1 <= room.targets)
    # Rounding may let a length fit that is longer than one that does not.
    longest = int(lengths[np.argmin(fits) - 1]) if not fits.all() else most
    if longest < 3:
        raise UsageError(
            "wanted room for three ids and a hole in a row, found "
            f"{room.inputs} for inputs, {room.targets} for targets and {sentinels} "
            "sentinels. Raise --sequence_length or --target_length"
        )
    return longest


def _up_to(config: NoiseConfig, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lengths = np.arange(1, most + 1)
    return lengths, *config.count(lengths)


def holes_filled(
    inputs: np.ndarray, targets: np.ndarray, sentinels: np.ndarray
) -> np.ndarray:
    """Returns the ids of an example before the holes were made: the inverse.

    Args:
        inputs: ids with a sentinel for each hole.
        targets: each sentinel followed by what was taken out there.
        sentinels: their ids, in order.
    """
    gaps = np.flatnonzero(np.isin(inputs, sentinels))
    marks = np.flatnonzero(np.isin(targets, sentinels))
    kept, taken = np.split(inputs, gaps), np.split(targets, marks)
    parts = [kept[0], *(part[1:] for part in kept[1:])]
    holes = [part[1:] for part in taken[1:]]
    together = [parts[0]]
    for hole, part in zip(holes, parts[1:], strict=True):
        together += [hole, part]
    return np.concatenate(together)
