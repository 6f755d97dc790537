# SPDX-License-Identifier: Apache-2.0
"""The segments of a row taken apart: what each reads, and what it predicts."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RowSegment:
    """One segment of a row.

    Attributes:
        inputs: ids that are only read.
        targets: the ids after them, or on the other side, which are predicted. Where
            all are, as in causal rows, the first is among them, though nothing
            precedes it.
        source: its place in the mixture, 0 where there is none.
    """

    inputs: np.ndarray
    targets: np.ndarray
    source: int

    @property
    def ids(self) -> np.ndarray:
        """All ids, inputs first."""
        return np.concatenate([self.inputs, self.targets])


def row_segments(features: Mapping[str, np.ndarray]) -> list[RowSegment]:
    """Takes one row apart.

    Args:
        features: the row's values of each feature, [count], as `RecordFormat.decode`
            gives them for many.
    """
    sources = features.get("sources")
    if "tokens" not in features:
        inputs, targets = (_runs(features, f"{n}_", n) for n in ("inputs", "targets"))
        pairs = list(zip(inputs, targets, strict=True))
    else:
        whole = _runs(features, "", "tokens")
        prefixes = _prefixes(features, [len(ids) for ids in whole])
        pairs = [(ids[:n], ids[n:]) for ids, n in zip(whole, prefixes, strict=True)]
    return [
        RowSegment(*sides, 0 if sources is None else int(sources[number]))
        for number, sides in enumerate(pairs)
    ]


def _runs(
    features: Mapping[str, np.ndarray], prefix: str, name: str
) -> list[np.ndarray]:
    lengths = features[f"{prefix}segment_lengths"].astype(np.int64)
    lengths = lengths[lengths > 0]
    return np.split(features[name], np.cumsum(lengths))[:-1] if len(lengths) else []


def _prefixes(features: Mapping[str, np.ndarray], lengths: list[int]) -> list[int]:
    """Returns how many ids of each segment are not predicted before one is."""
    if "prefix_lengths" in features:
        return features["prefix_lengths"][: len(lengths)].astype(int).tolist()
    if "loss_mask" not in features:
        return [0] * len(lengths)
    bits = np.unpackbits(features["loss_mask"], bitorder="little")
    ends = np.cumsum(lengths)
    parts = [bits[end - n : end] for end, n in zip(ends, lengths, strict=True)]
    return [int(part.argmax()) if part.any() else len(part) for part in parts]
