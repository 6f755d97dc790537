# SPDX-License-Identifier: Apache-2.0
"""Which files of an input are Quern's own: no documents, whatever matches them.

A glob over a directory that an output lies in, such as `corpus/**/*` with `--output
corpus/dataset`, matches what the job writes: the same command would never be the same
job again, and the next one would read manifests and records as text.
"""

import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence

from pipelines.job.plan import WORK_NAME
from preprocessing.claims.claims import CLAIM_NAME
from preprocessing.contracts.manifest import MANIFEST_NAME
from preprocessing.contracts.releases import LINEAGE_NAME
from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError, note
from preprocessing.foundation.storage import InputFile

# What lies in a directory that Quern writes: a dataset or a run, an unfinished one,
# one under way, a release.
_MARKS = (MANIFEST_NAME, f"{WORK_NAME}/job.json", CLAIM_NAME, LINEAGE_NAME)
# Of a manifest of any version; other programs' have files of that name too.
_MANIFEST_KEYS = {"schema_version", "splits", "counts", "config"}
_MOST_NAMED = 3


def without_own(
    files: Sequence[InputFile], output: str | None = None, besides: Sequence[str] = ()
) -> list[InputFile]:
    """Returns the files that are not Quern's own, and says which are left out.

    Left out are those below the output, below a directory that carries Quern's marks
    (datasets, runs, releases, finished or not), and those that the command reads as
    something else. A directory costs four looks, in a bucket four requests.

    Args:
        files: what globs name.
        output: what the command writes.
        besides: what the command reads besides, such as its tokenizer.

    Raises:
        UsageError: none is left.
    """
    lines = {home: _upwards(home) for home in {_home(file) for file in files}}
    homes = sorted(set(itertools.chain.from_iterable(lines.values())))
    own = dict.fromkeys(_marked(homes), "a directory that Quern wrote")
    if output is not None:
        inside = {home for home in homes if _is_at_or_below(home, output)}
        own |= dict.fromkeys(inside, "the output")
    others = _identities(besides)
    kept, left = [], Counter[tuple[str, str]]()
    for file in files:
        home = next((each for each in lines[_home(file)] if each in own), None)
        if home is not None:
            left[home, own[home]] += 1
        elif file.identity in others:
            left[file.path, "which this command reads as something else"] += 1
        else:
            kept.append(file)
    _say(left, bool(kept))
    return kept


def _say(left: Counter[tuple[str, str]], any_kept: bool) -> None:
    named = [
        f"{count:,} file{'s' * (count > 1)} of {path}, {why}"
        for (path, why), count in left.most_common(_MOST_NAMED)
    ]
    if len(left) > _MOST_NAMED:
        named.append(f"{len(left) - _MOST_NAMED:,} places more")
    if left and not any_kept:
        raise UsageError(
            f"wanted documents in the input, found {'; '.join(named)}. Name other "
            "files, or an output apart from them"
        )
    if left:
        note(f"not read: {'; '.join(named)}")


def _home(file: InputFile) -> str:
    return os.path.dirname(file.path)


def _upwards(home: str) -> list[str]:
    """Returns a directory and those it lies in, the highest first."""
    if storage.is_cloud(home):
        parts, least = home.split("/"), 3  # "s3:", "", "bucket"
    else:
        parts, least = os.path.abspath(home).split("/"), 1
    return ["/".join(parts[:n]) or "/" for n in range(least, len(parts) + 1)]


def _marked(homes: Sequence[str]) -> Iterator[str]:
    """Yields the directories that carry a mark of Quern's."""
    marks = [storage.join(home, mark) for mark in _MARKS for home in homes]
    there = [size is not None for size in storage.file_sizes(marks)]
    for number, home in enumerate(homes):
        manifest, *others = there[number :: len(homes)]
        if any(others) or (manifest and _is_manifest(home)):
            yield home


def _is_manifest(home: str) -> bool:
    try:
        fields = strict_json.loads(
            storage.read_bytes(storage.join(home, MANIFEST_NAME))
        )
    except (ValueError, OSError):
        return False
    return isinstance(fields, dict) and fields.keys() >= _MANIFEST_KEYS


def _is_at_or_below(path: str, output: str) -> bool:
    if not storage.is_cloud(output):
        path, output = os.path.realpath(path), os.path.realpath(output)
    return path == output.rstrip("/") or path.startswith(f"{output.rstrip('/')}/")


def _identities(paths: Sequence[str]) -> set[str]:
    """Returns what tells the files at some paths; others ask whether they exist."""
    found: set[str] = set()
    for path in paths:
        with contextlib.suppress(UsageError):
            found.update(file.identity for file in storage.expand([path]))
    return found
