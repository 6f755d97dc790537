# SPDX-License-Identifier: Apache-2.0
"""Tells a whole release from what is arriving, was cut short, or is another tool's."""

import re

from preprocessing.contracts.releases import (
    LINEAGE_NAME,
    SAVED_MODEL_NAME,
    TOKENIZER_ASSET,
    WARMUP_NAME,
    Lineage,
    read_lineage,
)
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError

_VARIABLES = "variables"
_INDEX = "variables.index"
_SHARD = re.compile(r"variables\.data-(\d{5})-of-(\d{5})")


def check_whole(release: str) -> Lineage:
    """Checks that all files of a release are there, and returns its lineage.

    Sizes are compared where the lineage has them, which earlier Querns did not write.

    Raises:
        UsageError: it is no release of Quern's, or a file is missing or cut short.
    """
    if not storage.exists(storage.join(release, SAVED_MODEL_NAME)):
        raise _part(release, f"no {SAVED_MODEL_NAME}")
    lineage = read_lineage(release)
    wanted: dict[str, int | None] = dict.fromkeys(
        (SAVED_MODEL_NAME, LINEAGE_NAME, TOKENIZER_ASSET, WARMUP_NAME)
    )
    wanted |= dict.fromkeys(_variables(release)) | dict(lineage.files)
    paths = [storage.join(release, name) for name in wanted]
    sizes = storage.file_sizes(paths)
    for (name, size), found in zip(wanted.items(), sizes, strict=True):
        if found is None:
            raise _part(release, f"no {name}")
        if size not in (None, found):
            raise _part(release, f"{found:,} of {size:,} bytes of {name}")
    return lineage


def _variables(release: str) -> list[str]:
    """Returns the files that a release's variables must have, by their own names."""
    names = storage.list_names(storage.join(release, _VARIABLES))
    shards = [found for name in names if (found := _SHARD.fullmatch(name))]
    count = max((int(shard[2]) for shard in shards), default=1)
    data = [f"variables.data-{part:05d}-of-{count:05d}" for part in range(count)]
    return [f"{_VARIABLES}/{name}" for name in (_INDEX, *data)]


def _part(release: str, found: str) -> UsageError:
    return UsageError(
        f"wanted a whole release in {release}, found {found}: it is still arriving, "
        "or was cut short. Wait, or export it again"
    )
