# SPDX-License-Identifier: Apache-2.0
"""Rows of several datasets read as those of one, and what they must have in common.

Features keep the largest count that any of the datasets has: a row of length 64 with
room for 64 segments is padded to the 256 of another dataset, whose own length 2,048 is
read in windows of 64.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from preprocessing.contracts.manifest import Manifest, canonical_json
from preprocessing.foundation.commands import UsageError
from trainer.data.input_pipeline import Features, SubRows, check_divides
from trainer.data.mixed_order import shares


class JoinedRows:
    """One split of several datasets, one dataset after the other.

    Attributes:
        sequence_length: inputs of a row.
        counts: values of each feature that `read` gives, the largest of all datasets.
        num_rows: rows of all of them.
    """

    def __init__(self, splits: Sequence[SubRows]) -> None:
        """Joins splits that were opened at one sequence length."""
        self._splits = splits
        self._starts = np.cumsum([0, *(split.num_rows for split in splits)])
        self.sequence_length = splits[0].sequence_length
        self.counts: Mapping[str, int] = {
            **largest_counts(splits),
            "sources": largest_counts(splits)["segment_lengths"],
        }
        self.num_rows = int(self._starts[-1])

    def read(self, rows: np.ndarray) -> Features:
        """Reads rows as `SubRows.read` does.

        Args:
            rows: row numbers, int64 [n], those of the second dataset after those of
                the first.

        Returns:
            The datasets' features, each int32; `sources` [n, max_segments] is the
            number of the row's dataset.
        """
        datasets = np.searchsorted(self._starts, rows, side="right") - 1
        features = read_located(self._splits, datasets, rows - self._starts[datasets])
        shape = (len(rows), self.counts["sources"])
        sources = np.broadcast_to(datasets[:, None], shape).astype(np.int32)
        return {**features, "sources": sources}


def read_located(
    splits: Sequence[SubRows], datasets: np.ndarray, rows: np.ndarray
) -> Features:
    """Reads row `rows[i]` of split `datasets[i]` for each i, int64 [n] both.

    Returns:
        The features as `SubRows.read` gives them, in that order, zero padded.
    """
    if len(splits) == 1:
        return splits[0].read(rows)
    features = {
        name: np.zeros((len(rows), count), np.int32)
        for name, count in largest_counts(splits).items()
    }
    for number in np.unique(datasets).tolist():
        mine = datasets == number
        for name, values in splits[number].read(rows[mine]).items():
            features[name][mine, : values.shape[1]] = values
    return features


def largest_counts(splits: Sequence[SubRows]) -> dict[str, int]:
    """Returns the largest count of each feature over `splits`."""
    names = splits[0].counts
    return {name: max(split.counts[name] for split in splits) for name in names}


def check_mixable(manifests: Sequence[Manifest], names: Sequence[str]) -> None:
    """Checks that the rows of several datasets mean the same to a model.

    Args:
        manifests: of the datasets.
        names: what errors call them.

    Raises:
        UsageError: two differ in their tokenizer, ids or features.
    """
    first = _meaning(manifests[0])
    for name, manifest in zip(names[1:], manifests[1:], strict=True):
        for what, value in _meaning(manifest).items():
            if value != first[what]:
                raise UsageError(
                    f"wanted datasets of one {what} to mix, found {first[what]} in "
                    f"{names[0]} and {value} in {name}. Prepare one again like the "
                    "other, or train on one of them"
                )


def _meaning(manifest: Manifest) -> dict[str, object]:
    """Returns the properties that datasets must share, by the names errors use."""
    return {
        "tokenizer_sha256": manifest.tokenizer_sha256[:12],
        "vocab_size": manifest.vocab_size,
        "bos_id": manifest.bos_id,
        "eos_id": manifest.eos_id,
        "pad_id": manifest.pad_id,
        "set of features": ", ".join(sorted(manifest.features)),
    }


def common_length(manifests: Sequence[Manifest], wanted: int | None) -> int:
    """Returns the inputs per row at which all of the datasets are read.

    Args:
        manifests: of the datasets.
        wanted: `data.sequence_length`; None is the shortest dataset's own.

    Raises:
        UsageError: a dataset cannot be read at that length.
    """
    length = wanted or min(manifest.sequence_length for manifest in manifests)
    for manifest in manifests:
        check_divides(manifest, length)
    return length


def mixing_weights(text: str, sizes: Sequence[int]) -> tuple[float, ...]:
    """Returns the weight of each dataset that `data.weights` asks for.

    Args:
        text: numbers with commas between them; none at all weigh datasets by size.
        sizes: rows of each dataset.

    Raises:
        UsageError: the text is not as many numbers as there are datasets, or a number
            is not one to mix by.
    """
    if not text:
        return tuple(float(size) for size in sizes)
    try:
        weights = tuple(float(number) for number in text.split(","))
    except ValueError:
        weights = ()
    if len(weights) != len(sizes):
        raise UsageError(
            f"wanted data.weights of {len(sizes)} numbers with commas between them, "
            f"one for each dataset, found {text!r}. Write as many as there are in "
            "--data"
        )
    shares(weights)  # Refuses what cannot be mixed, NaN included.
    return weights


def combined_hash(manifests: Sequence[Manifest], weights: Sequence[float]) -> str:
    """Returns the SHA-256, in hex, that a mixture's order of rows is known by.

    It depends on the datasets, their order and their shares; one dataset alone has its
    own hash.
    """
    if len(manifests) == 1:
        return manifests[0].dataset_hash
    mixed = [
        {"dataset": manifest.dataset_hash, "share": str(share)}
        for manifest, share in zip(manifests, shares(weights), strict=True)
    ]
    return hashlib.sha256(canonical_json({"mixed": mixed})).hexdigest()


def dataset_names(paths: Sequence[str]) -> tuple[str, ...]:
    """Returns short names of datasets: their directories' own where those differ."""
    last = tuple(path.rstrip("/").rsplit("/", 1)[-1] for path in paths)
    return last if len(set(last)) == len(last) else tuple(paths)


def source_names(manifest: Manifest, split: str) -> tuple[str, ...]:
    """Returns the sources of a mixture, as its rows number them; none without one."""
    return tuple(sorted(manifest.splits[split].sources))
