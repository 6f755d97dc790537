# SPDX-License-Identifier: Apache-2.0
"""Which documents stand at given positions of the training stream.

For people who look into a rollback: a line per row, with the dataset and shard it is
in and the documents that its segments are pieces of, as the provenance files tell.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from preprocessing.contracts.dataset_files import read_provenance
from preprocessing.contracts.manifest import Shard
from preprocessing.foundation.commands import WorkError
from trainer.data.input_pipeline import SubRows
from trainer.data.mixed_order import MixedOrder

Line = dict[str, object]


def describe(
    splits: Sequence[SubRows], order: MixedOrder, first: int, end: int
) -> list[Line]:
    """Returns one line of values for JSON for each stream position [first, end).

    Args:
        splits: the training split of each dataset.
        order: in which order their rows are read.
        first: the first position.
        end: the position after the last.

    Returns:
        `position`; `dataset`, its directory; `row`, as `quern-inspect row` counts it;
        `part`, which of the equal windows that such a row is read in, from 0; `shard`,
        the file it is in; and `documents`, each with `document`, its key in
        hex, `path`, `offset`, and `start`, the first of its ids that its piece in the
        stored row has. Where a file cannot be read, `documents` is empty and `note`
        says why: a run is never stopped by what only explains it.
    """
    datasets, rows = order.locate(first, end - first)
    lines: list[Line] = [{} for _ in range(len(rows))]
    for number in np.unique(datasets).tolist():
        places = np.flatnonzero(datasets == number)
        found = _described(splits[number], rows[places])
        for place, line in zip(places.tolist(), found, strict=True):
            lines[place] = {"position": first + place, **line}
    return lines


def _described(split: SubRows, rows: np.ndarray) -> list[Line]:
    """Returns the lines of sub-rows [n] of one dataset, without their positions."""
    shards = split.manifest.splits[split.split].shards
    ends = np.cumsum([shard.rows for shard in shards])
    per_row = split.manifest.sequence_length // split.sequence_length
    stored, places = np.divmod(rows, per_row)
    owners = np.searchsorted(ends, stored, side="right")
    lines: list[Line] = [{} for _ in range(len(rows))]
    for owner in np.unique(owners).tolist():
        mine = np.flatnonzero(owners == owner)
        found = _documents(split, shards[owner], rows[mine], stored[mine])
        for at, documents in zip(mine.tolist(), found, strict=True):
            lines[at] = {
                "dataset": split.dataset,
                "row": int(stored[at]),
                "part": int(places[at]),
                "shard": shards[owner].name,
                **documents,
            }
    return lines


def _documents(
    split: SubRows, shard: Shard, rows: np.ndarray, stored: np.ndarray
) -> list[Line]:
    """Returns the documents of sub-rows [n] of one shard, or why they are unknown."""
    try:
        table = read_provenance(split.dataset, shard)
        kept = table.filter(pc.is_in(table["row"], pa.array(np.unique(stored))))
        return [
            {"documents": _of_row(kept, *split.stored(row))} for row in rows.tolist()
        ]
    except (WorkError, OSError) as error:
        return [{"documents": [], "note": str(error)} for _ in range(len(rows))]


def _of_row(
    table: pa.Table, row: int, segments: Sequence[int]
) -> list[Mapping[str, object]]:
    """Returns the documents of some segments of a stored row."""
    mine = table.filter(pc.equal(table["row"], row)).to_pylist()
    names = ("document", "path", "offset", "start")
    return [
        {name: line[name] for name in names}
        for line in mine
        if line["segment"] in segments
    ]
