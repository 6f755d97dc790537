# SPDX-License-Identifier: Apache-2.0
"""What a mixture's provenance tells of its rows: their source, and which are repeats.

A source's rows are drawn in one order, again from the first after the last. So from
where its first row comes back all of them are repeats. Of a document whose rows were
drawn in part, the segment that starts it may be missing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass
class MixtureRows:
    """Looks at a split's rows, shard by shard, in their order.

    Attributes:
        names: the sources' names, by number.
        later: documents of segments that start none, in each shard so far.
    """

    names: Sequence[str]
    later: list[pa.ChunkedArray] = field(default_factory=list)
    _firsts: dict[int, tuple[str, int]] = field(default_factory=dict)
    _again: set[int] = field(default_factory=set)

    def misplaced(self, sources: np.ndarray, table: pa.Table) -> np.ndarray:
        """Tells which rows are not of the source that their file lies in, bool [rows].

        Args:
            sources: what the rows say, [rows].
            table: the shard's provenance, with a segment 0 for each row.
        """
        paths = table.filter(pc.equal(table["segment"], 0))["path"]
        found = pc.list_element(pc.split_pattern(paths, "/", max_splits=1), 0)
        places = pc.index_in(found, pa.array(self.names)).to_numpy()
        return places != sources

    def repeated(self, sources: np.ndarray, table: pa.Table) -> np.ndarray:
        """Tells which rows an earlier draw had already, bool [rows].

        Arguments are those of `misplaced`.
        """
        heads = table.filter(pc.equal(table["segment"], 0))
        documents, starts = heads["document"].to_numpy(), heads["start"].to_numpy()
        repeated = np.zeros(len(sources), bool)
        for source in np.unique(sources).tolist():
            mine = np.flatnonzero(sources == source)
            if source not in self._firsts:
                head = int(mine[0])
                self._firsts[source] = documents[head], int(starts[head])
                mine = mine[1:]
            document, start = self._firsts[source]
            back = (documents[mine] == document) & (starts[mine] == start)
            if source not in self._again and back.any():
                mine = mine[np.argmax(back) :]
                self._again.add(source)
            if source in self._again:
                repeated[mine] = True
        self.later.append(table["document"].filter(pc.greater(table["start"], 0)))
        return repeated

    def without_start(self, started: Iterable[pa.ChunkedArray]) -> int:
        """Returns how many documents have segments, but not the one that starts them.

        Args:
            started: documents of the segments that start one, in each shard.
        """
        later = pc.unique(_joined(self.later))
        for documents in started:
            known = pc.is_in(later, _joined([documents]))
            later = later.filter(pc.invert(known))
        return len(later)


def _joined(parts: Sequence[pa.ChunkedArray]) -> pa.Array:
    chunks = [chunk for part in parts for chunk in part.chunks]
    return pa.chunked_array(chunks, pa.string()).combine_chunks()
