# SPDX-License-Identifier: Apache-2.0
"""A sample of documents of bounded size, the same whatever order they come in."""

import numpy as np
import pyarrow as pa

from preprocessing.foundation.string_buffers import sizes_of


class TextSample:
    """The documents that come first in an order, up to a number of bytes.

    Documents are offered in any order and in any batches; those whose predecessors in
    the order fill the limit are let go, so that about twice the limit is held at most.
    The last document may exceed the limit.
    """

    def __init__(self, limit_bytes: int) -> None:
        """Takes the number of UTF-8 bytes that the sample is to have."""
        self._limit = limit_bytes
        self._texts: list[str] = []
        self._order = np.zeros(0, np.uint64)
        self._sizes = np.zeros(0, np.int64)

    def add(self, texts: pa.LargeStringArray, order: np.ndarray) -> None:
        """Offers documents with their places in the order, uint64 [n]."""
        wanted = np.flatnonzero(order <= self._last_wanted())
        self._texts.extend(texts.take(pa.array(wanted)).to_pylist())
        self._order = np.concatenate([self._order, order[wanted]])
        self._sizes = np.concatenate([self._sizes, sizes_of(texts)[wanted]])
        if self._sizes.sum() > 2 * self._limit:
            self._trim()

    def texts(self) -> list[str]:
        """Returns the sample, in order."""
        self._trim()
        return self._texts

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes held."""
        return int(self._sizes.sum())

    def _last_wanted(self) -> np.uint64:
        """The place behind which no document can be in the sample any more."""
        if self._sizes.sum() < self._limit:
            return np.uint64(np.iinfo(np.uint64).max)
        return self._order.max()

    def _trim(self) -> None:
        places = np.argsort(self._order, kind="stable")
        before = np.cumsum(self._sizes[places]) - self._sizes[places]
        kept = places[before < self._limit]
        self._texts = [self._texts[place] for place in kept]
        self._order, self._sizes = self._order[kept], self._sizes[kept]
