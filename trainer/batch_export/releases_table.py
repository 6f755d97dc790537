# SPDX-License-Identifier: Apache-2.0
"""The releases of a tree beside each other: as lines, as JSON, sorted, the best marked.

Sorted are the releases that were judged on one split, by bits per byte and then by
size: of two datasets' figures neither is the better.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from preprocessing.contracts import releases
from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError, count_of
from preprocessing.foundation.page import short
from trainer.batch_export.figures import METRICS, ReleaseFigures, read_figures

LISTING_NAME = "releases.jsonl"
BEST_MARK = "★"
_NOTHING = "-"


@dataclass(frozen=True)
class ListedRelease:
    """A line of the table.

    Attributes:
        name: the model's.
        version: None where it was refused, and has none.
        run: its run's name; empty of published weights, or where an earlier Quern made
            it.
        step: of the checkpoint.
        checkpoint_sha256: of the checkpoint's index; empty as above.
        weights: how they are stored.
        dataset_hash: of what it was trained on; None of published weights.
        quern: the version that made it.
        figures: what was measured.
        refused: why it has no version, "" where it has one.
    """

    name: str
    version: int | None
    run: str
    step: int
    checkpoint_sha256: str
    weights: str
    dataset_hash: str | None
    quern: str
    figures: ReleaseFigures
    refused: str = ""

    @property
    def title(self) -> str:
        """What it is called: by its version, or by what it was to be made of."""
        place = f"step {self.step:,}" if self.version is None else str(self.version)
        return f"{self.name}/{place}"


@dataclass(frozen=True)
class JudgedSplit:
    """Releases that were judged on one split.

    Attributes:
        dataset: SHA-256 of its manifest; None where a release was not judged on text.
        split: its name.
        releases: sorted, the best first, those refused last.
        best: the one of the fewest bits per byte that was not refused; None of none.
    """

    dataset: str | None
    split: str | None
    releases: tuple[ListedRelease, ...]
    best: ListedRelease | None

    @property
    def title(self) -> str:
        """Which split that is, in words."""
        if self.dataset is None:
            return "Not judged on text"
        return f"{self.split} of the dataset {self.dataset[:12]}"


def listed(
    release: str,
    name: str,
    version: int | None,
    figures: ReleaseFigures,
    refused: str = "",
) -> ListedRelease:
    """Returns the line of a release, published or still a directory of its own.

    Raises:
        UsageError: it has no lineage.
    """
    lineage = releases.read_lineage(release)
    return ListedRelease(
        name=name,
        version=version,
        run=lineage.run,
        step=lineage.step,
        checkpoint_sha256=lineage.checkpoint_sha256,
        weights=lineage.weights,
        dataset_hash=lineage.dataset_hash,
        quern=lineage.versions.get("quern", ""),
        figures=figures,
        refused=refused,
    )


def judged_releases(models: str) -> list[ListedRelease]:
    """Returns a line for each release of a tree that was judged, by name and version.

    What is no release of Quern's, is arriving, or was never judged has none.
    """
    found = []
    for name in storage.list_names(models):
        model = storage.join(models, name)
        if name.startswith(".") or not storage.is_dir(model):
            continue
        for version, directory in releases.versions(model).items():
            release = storage.join(model, directory)
            try:
                figures = read_figures(release)
                if figures is not None:
                    found.append(listed(release, name, version, figures))
            except UsageError:
                continue  # another tool's, or a later Quern's
    return found


def by_split(lines: Iterable[ListedRelease]) -> list[JudgedSplit]:
    """Returns the lines of each split that releases were judged on, sorted."""

    def split_of(line: ListedRelease) -> tuple[str, str]:
        return line.figures.dataset or "", line.figures.split or ""

    found = []
    for _, group in groupby(sorted(lines, key=split_of), split_of):
        ranked = tuple(sorted(group, key=_rank))
        first = ranked[0]
        counts = first.figures.bits_per_byte is not None and not first.refused
        figures = first.figures
        found.append(
            JudgedSplit(
                figures.dataset, figures.split, ranked, first if counts else None
            )
        )
    return found


def _rank(line: ListedRelease) -> tuple[bool, bool, float, int, str, int]:
    bits = line.figures.bits_per_byte
    return (
        bool(line.refused),
        bits is None,
        bits or 0.0,
        line.figures.size,
        line.name,
        line.version or 0,
    )


def columns_of(split: JudgedSplit) -> dict[str, str]:
    """Returns metric -> head of its column, further metrics of its releases last."""
    more = {name for line in split.releases for name in line.figures.more}
    heads = {name: metric.title for name, metric in METRICS.items()}
    return heads | {name: name for name in sorted(more)}


def cell(line: ListedRelease, name: str) -> str:
    """Returns a metric of a release in words, with its unit."""
    value = line.figures.metrics().get(name)
    if value is None:
        return _NOTHING
    unit = METRICS[name].unit if name in METRICS else ""
    if unit == "s":
        return f"{1000 * value:,.3g} ms" if value < 1 else f"{value:.2f} s"
    if unit == "tok/s":
        return f"{value:,.4g} {unit}" if value < 1000 else f"{value:,.0f} {unit}"
    return short(value, unit) if unit else f"{value:.4f}"


def lost(line: ListedRelease) -> str:
    """Returns how much more bits the release takes than the trainer finds: +0.12%."""
    own, trainers = line.figures.bits_per_byte, line.figures.trainer_bits_per_byte
    if own is None or not trainers:
        return _NOTHING
    # Adding 0 to what rounds to -0 makes it 0.
    return f"{round(100 * (own / trainers - 1), 2) + 0:+.2f}%"


def table_lines(lines: Iterable[ListedRelease]) -> list[str]:
    """Returns the table as lines for a terminal, those refused with their reasons."""
    made = []
    for split in by_split(lines):
        names = columns_of(split)
        head = ["", "release", *names.values(), "lost", "run", "weights"]
        rows = [head, *(_row(line, split, names) for line in split.releases)]
        widths = [max(len(row[place]) for row in rows) for place in range(len(head))]
        numbers = range(2, len(head) - 2)
        made.append(split.title)
        for row in rows:
            cells = [
                text.rjust(width) if place in numbers else text.ljust(width)
                for place, (text, width) in enumerate(zip(row, widths, strict=True))
            ]
            made.append("  ".join(cells).rstrip())
        made += remarks(split)
    return made


def remarks(split: JudgedSplit) -> list[str]:
    """Returns sentences on what a split's table alone would not tell."""
    said = [f"{x.title} was refused: {x.refused}" for x in split.releases if x.refused]
    odd = [line for line in split.releases if line.figures.odd_documents]
    for line in odd[:1]:
        figures = line.figures
        said.append(
            f"{count_of(figures.odd_documents, 'document')} of {figures.documents:,} "
            "are read in other windows or ids by a release than by the trainer, so "
            "that the two figures of bits per byte are not of quite the same thing"
        )
    return said


def _row(
    line: ListedRelease, split: JudgedSplit, names: Mapping[str, str]
) -> list[str]:
    mark = BEST_MARK if line == split.best else "x" if line.refused else ""
    cells = [cell(line, name) for name in names]
    return [mark, line.title, *cells, lost(line), origin(line), line.weights]


def origin(line: ListedRelease) -> str:
    """Returns what a release was made of: its run and step."""
    return f"{line.run or _NOTHING} {line.step:,}"


def jsonl(lines: Sequence[ListedRelease]) -> bytes:
    """Returns a line of JSON for each release, sorted, the best of a split marked."""
    written = []
    for split in by_split(lines):
        for line in split.releases:
            figures = line.figures
            values = {
                "release": line.title,
                "name": line.name,
                "version": line.version,
                "best": line == split.best,
                "refused": line.refused or None,
                **{name: getattr(figures, name) for name in METRICS},
                "metrics": dict(figures.more),
                "run": line.run or None,
                "step": line.step,
                "checkpoint_sha256": line.checkpoint_sha256 or None,
                "weights": line.weights,
                "trained_on": line.dataset_hash,
                "quern": line.quern,
                "judged_on": {"dataset": figures.dataset, "split": figures.split},
                "documents": figures.documents,
                "odd_documents": figures.odd_documents,
            }
            written.append(strict_json.dumps(strict_json.with_nulls(values)) + "\n")
    return "".join(written).encode()


def read_refused(models: str) -> list[ListedRelease]:
    """Returns those of a tree's last listing that were refused.

    They spare work and no more: a listing that cannot be read tells of none.
    """
    try:
        listing = storage.read_bytes(storage.join(models, LISTING_NAME))
        read = [strict_json.loads(line) for line in listing.splitlines()]
        return [_from_values(values) for values in read if values["refused"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []


def _from_values(values: Mapping[str, Any]) -> ListedRelease:
    """Returns what `jsonl` wrote."""
    figures = ReleaseFigures(
        **{name: values[name] for name in METRICS},
        **values["judged_on"],
        documents=values["documents"],
        odd_documents=values["odd_documents"],
        more=values["metrics"],
    )
    return ListedRelease(
        name=values["name"],
        version=values["version"],
        run=values["run"] or "",
        step=values["step"],
        checkpoint_sha256=values["checkpoint_sha256"] or "",
        weights=values["weights"],
        dataset_hash=values["trained_on"],
        quern=values["quern"],
        figures=figures,
        refused=values["refused"] or "",
    )
