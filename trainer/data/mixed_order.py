# SPDX-License-Identifier: Apache-2.0
"""The order in which training reads rows of several datasets, mixed by weight.

The stream is cut into blocks of 1,024 positions. Dataset k of share s_k has, of the
first n positions, n at a block's end,

    floor(n (s_0 + … + s_k)) - floor(n (s_0 + … + s_(k-1)))

in exact fractions: always less than one row from n s_k, however long the run. A keyed
bijection scatters each block's positions among the datasets, and the j-th position of
a dataset is the j-th row of that dataset's own order (`trainer.data.row_order`). So
nothing is stored, any position is entered at once, and the state of the whole mixture
is the number of rows consumed.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.fingerprints import seed_word
from preprocessing.foundation.seed_purposes import Purpose
from trainer.data.row_order import BLOCK_ROWS, RowOrder, scattered


class MixedOrder:
    """Maps positions of the training stream to rows of one dataset or several."""

    def __init__(
        self, sizes: Sequence[int], weights: Sequence[float], seed: int
    ) -> None:
        """Fixes the order; one dataset alone is read as `RowOrder` has it.

        Args:
            sizes: rows of an epoch of each dataset.
            weights: how much each gives to the stream, in any unit.
            seed: what the datasets are mixed, and their later epochs permuted, by.

        Raises:
            UsageError: a dataset has no rows, or a weight is not positive or too
                small beside the others.
        """
        if min(sizes) < 1:
            raise UsageError(
                "wanted rows to train on, found an empty training split. Prepare a "
                "larger corpus or a smaller --validation_fraction"
            )
        self._seed = seed
        seeds = [
            seed,
            *(
                int(seed_word(seed, Purpose.MIXED_DATASETS, k))
                for k in range(1, len(sizes))
            ),
        ]
        self._orders = [
            RowOrder(size, own) for size, own in zip(sizes, seeds, strict=True)
        ]
        fractions = shares(weights)
        if len(fractions) != len(sizes):
            raise ValueError(
                f"{len(fractions)} weights do not fit {len(sizes)} datasets"
            )
        self._upto = [
            sum(fractions[:k], Fraction(0)) for k in range(len(fractions) + 1)
        ]

    def locate(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns what stands at stream positions [start, start + count).

        Returns:
            The dataset of each position and the row in it, int64 [count] both. It
            costs 1 ms and 0.4 ms a block of 1,024 positions, however far in.
        """
        if len(self._orders) == 1 or not count:
            rows = self._orders[0].rows(start, count)
            return np.zeros(count, np.int64), rows
        first = start // BLOCK_ROWS
        blocks = range(first, -(-(start + count) // BLOCK_ROWS))
        owners = np.concatenate([self._owners(block) for block in blocks])
        skipped = start - first * BLOCK_ROWS
        datasets = owners[skipped : skipped + count]
        rows = np.empty(count, np.int64)
        for dataset, order in enumerate(self._orders):
            mine = datasets == dataset
            before = self._rows_before(dataset, first)
            before += int((owners[:skipped] == dataset).sum())
            # A dataset's positions of one range are neighbours in its own order.
            rows[mine] = order.rows(before, int(mine.sum()))
        return datasets, rows

    def _rows_before(self, dataset: int, block: int) -> int:
        """Returns the rows of a dataset in all blocks before `block`."""
        n = block * BLOCK_ROWS
        return int(n * self._upto[dataset + 1]) - int(n * self._upto[dataset])

    def _owners(self, block: int) -> np.ndarray:
        """Returns the dataset of each position of a block, int64 [1024]."""
        counts = [
            self._rows_before(dataset, block + 1) - self._rows_before(dataset, block)
            for dataset in range(len(self._orders))
        ]
        in_turn = np.repeat(np.arange(len(counts)), counts)
        return in_turn[scattered(self._seed, block)]


def shares(weights: Sequence[float]) -> list[Fraction]:
    """Returns the fraction of the stream that each dataset gives; they sum to 1.

    Raises:
        UsageError: a weight is not positive, or below 1/1024 of the sum: a block of
            the stream then holds none of its rows.
    """
    for weight in weights:
        if not 0 < weight < float("inf"):
            raise UsageError(
                f"wanted data.weights above 0, found {weight:g}. Raise it, or leave "
                "that dataset out"
            )
    # The decimal that was written, not the binary fraction next to it.
    exact = [Fraction(repr(float(weight))) for weight in weights]
    fractions = [weight / sum(exact) for weight in exact]
    if min(fractions) < Fraction(1, BLOCK_ROWS):
        raise UsageError(
            f"wanted data.weights of 1/{BLOCK_ROWS} of their sum or more, found "
            f"{float(min(fractions)):.2g} of it. Raise the smallest, or mix the "
            "sources into one dataset with quern-prepare --mixture"
        )
    return fractions
