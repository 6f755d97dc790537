# SPDX-License-Identifier: Apache-2.0
"""Where a document of the input went: its rows, or why it has none."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.job.rejects import reject_files
from preprocessing.contracts.dataset_files import fault, read_file, read_provenance
from preprocessing.contracts.manifest import Manifest
from preprocessing.foundation import strict_json
from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.fingerprints import keys_of_ids, keys_of_offsets

_KEY = re.compile(r"[0-9a-f]{32}")
_PLACE = re.compile(r"(.+):(\d{1,18})")
_MOST_LINES = 200


def find_document(dataset: str, manifest: Manifest, name: str) -> Iterator[str]:
    """Yields a line for each row that holds the document, or for each reject of it.

    Args:
        dataset: the dataset's directory.
        manifest: its manifest.
        name: the document's id in any of the sources, its key in hex, or PATH:OFFSET
            as rejects and provenance give them.

    Raises:
        UsageError: no document of the dataset is called so.
        WorkError: a file of the dataset is missing or damaged.
    """
    keys = _keys(manifest, name)
    found = 0
    for line in itertools.chain(
        _rows(dataset, manifest, name, keys), _rejects(dataset, name, keys)
    ):
        found += 1
        if found <= _MOST_LINES:
            yield line
    if found > _MOST_LINES:
        yield f"and {found - _MOST_LINES} more"
    if not found:
        raise UsageError(
            f"wanted a document of {dataset}, found none called '{name}' among the "
            f"{manifest.counts.read:,} read. Give its id, its key in hex, or "
            "PATH:OFFSET with the path as quern-inspect prints it"
        )


def _keys(manifest: Manifest, name: str) -> set[str]:
    """Returns the keys that a name may stand for, in hex."""
    keys = {name} if _KEY.fullmatch(name) else set()
    for source in manifest.sources:
        keys.add(_hex(keys_of_ids(source.path, [name])))
    place = _PLACE.fullmatch(name)
    if place is not None:
        keys.add(_hex(keys_of_offsets(place[1], [int(place[2])])))
    return keys


def _hex(keys: np.ndarray) -> str:
    return keys[0].tobytes().hex()


def _rows(dataset: str, manifest: Manifest, name: str, keys: set[str]) -> Iterator[str]:
    wanted = pa.array(sorted(keys), pa.string())
    place = _PLACE.fullmatch(name)
    for split, line in manifest.splits.items():
        for shard in line.shards:
            table = read_provenance(dataset, shard)
            chosen = pc.is_in(table["document"], value_set=wanted)
            if place is not None:
                # A document with an id has a key that its place does not tell.
                at = pc.equal(table["offset"], int(place[2]))
                there = pc.and_(pc.equal(table["path"], place[1]), at)
                chosen = pc.or_(chosen, there)
            for hit in table.filter(chosen).to_pylist():
                yield (
                    f"kept: {split} row {hit['row']} segment {hit['segment']} holds "
                    f"its ids from {hit['start']} on (document {hit['document']}, "
                    f"{hit['path']} at offset {hit['offset']})"
                )


def _rejects(dataset: str, name: str, keys: set[str]) -> Iterator[str]:
    for file in reject_files(dataset):
        for line in read_file(dataset, file).splitlines():
            try:
                reject: dict[str, Any] = strict_json.loads(line)
                place = f"{reject['path']}:{reject['offset']}"
                if reject.get("document") not in keys and place != name:
                    continue
                yield (
                    f"rejected: {reject['reason']}: {reject['detail']} "
                    f"({reject['path']} at offset {reject['offset']})"
                )
            except (ValueError, KeyError, AttributeError) as error:
                raise fault(f"rejects in {file}", f"a damaged line: {error}") from None
