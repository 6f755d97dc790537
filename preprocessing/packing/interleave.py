# SPDX-License-Identifier: Apache-2.0
"""The order of a mixture's rows: exact counts, interleaved by largest sampling error.

Draw k takes a row of the source that is furthest behind its share of the first k rows,
the lower number among equals (Megatron-LM's rule for blends of datasets, here in whole
numbers). With n_s of N rows for source s, after any k draws of S sources

    k n_s / N - (1/2 + 1/3 + ... + 1/S)  <=  drawn_s  <=  k n_s / N + 1 - 1/S

so a source is never a whole row ahead, and with up to three never a whole row behind;
with ten less than two. The furthest behind is at least the mean, 1/S, which gives the
right side and the exact counts after N draws; the left one is the bound of emptying the
fullest of S cups.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction

import numpy as np

from preprocessing.foundation.commands import WorkError
from preprocessing.foundation.compiled import compiled
from preprocessing.packing.mixture import MixtureConfig

# Draws worked out at a time: a megabyte.
_CHUNK = 1 << 20


def training_rows(config: MixtureConfig, rows: Sequence[int]) -> list[int]:
    """Returns how many rows each source gives to the training split.

    Their sum is `config.rows`, else the largest total for which no source's exact
    share is above epochs x its rows. Shares are rounded by largest remainder, so each
    is less than one row from exact.

    Args:
        config: the mixture.
        rows: the rows each source has.

    Raises:
        WorkError: a source has no rows, or too few for `config.rows`.
    """
    for source, found in zip(config.sources, rows, strict=True):
        if not found:
            raise WorkError(
                f"wanted training rows of every source of the mixture, {source.name} "
                "has none. Give it more input or take it out; rejects/ says where its "
                "documents went"
            )
    weights = config.weights(rows)
    most = [source.epochs * n for source, n in zip(config.sources, rows, strict=True)]
    whole = sum(weights)
    bounds = [n * whole // weight for n, weight in zip(most, weights, strict=True)]
    largest = min(bounds)
    if config.rows is not None and config.rows > largest:
        scarce = config.sources[bounds.index(largest)]
        raise WorkError(
            f"wanted {config.rows} rows of the mixture, {scarce.name} has enough for "
            f"{largest} (its rows {rows[bounds.index(largest)]} x {scarce.epochs} "
            "epochs). Ask for fewer rows, raise its epochs or lower its weight"
        )
    return _largest_remainder(config.rows or largest, weights)


def _largest_remainder(total: int, weights: Sequence[Fraction]) -> list[int]:
    """Returns whole numbers of sum `total` in the proportion of the weights."""
    whole = sum(weights)
    shares = [total * weight / whole for weight in weights]
    counts = [int(share) for share in shares]
    order = sorted(range(len(shares)), key=lambda s: (counts[s] - shares[s], s))
    for source in order[: total - sum(counts)]:
        counts[source] += 1
    return counts


def draw(counts: np.ndarray, drawn: np.ndarray, length: int) -> np.ndarray:
    """Returns the sources of the next `length` rows, uint8 [length].

    Args:
        counts: the rows each source gives in all, int64 [sources]; their sum is at
            most three thousand million, above which products overflow.
        drawn: how many of them came before, in this order, int64 [sources].
        length: at most the rows that are left.
    """
    lags = counts * drawn.sum() - counts.sum() * drawn
    sources = np.empty(length, np.uint8)
    _draw(counts, lags, counts.sum(), sources)
    return sources


def drawn_before(counts: np.ndarray, edges: Iterable[int]) -> np.ndarray:
    """Returns how many rows of each source come before each place of the order.

    From there `draw` goes on without the rest. One pass over the order: 10 million
    rows of 4 sources take a tenth of a second.

    Args:
        counts: as for `draw`.
        edges: ascending places, 0 to the sum of `counts`.

    Returns:
        int64 [edges, sources].
    """
    drawn, place, found = np.zeros_like(counts), 0, []
    for edge in edges:
        while place < edge:
            length = min(_CHUNK, edge - place)
            taken = draw(counts, drawn, length)
            drawn = drawn + np.bincount(taken, minlength=len(counts))
            place += length
        found.append(drawn)
    return np.stack(found)


@compiled
def _draw(
    counts: np.ndarray, lags: np.ndarray, total: int, sources: np.ndarray
) -> None:
    """Fills `sources`; a lag is a source's share minus its rows, times `total`."""
    for place in range(len(sources)):
        behind = 0
        for source in range(len(counts)):
            lags[source] += counts[source]
            if lags[source] > lags[behind]:
                behind = source
        lags[behind] -= total
        sources[place] = behind
