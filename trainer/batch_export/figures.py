# SPDX-License-Identifier: Apache-2.0
"""What is measured of a release: its names, units, and how a release keeps them."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from preprocessing.contracts.manifest import canonical_json
from preprocessing.contracts.releases import FIGURES_NAME
from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Metric:
    """A number that is known of a release.

    Attributes:
        title: the head of its column.
        unit: B, s, tok/s, or nothing.
        meaning: what it tells, in a sentence's part.
    """

    title: str
    unit: str
    meaning: str


METRICS: Mapping[str, Metric] = {
    "size": Metric("size", "B", "bytes of all its files"),
    "bits_per_byte": Metric(
        "bits/byte", "", "of the split's documents, by its own signature `score`"
    ),
    "trainer_bits_per_byte": Metric(
        "trainer's", "", "of the same split by the checkpoint, as quern-evaluate tells"
    ),
    "tokens_per_second_1": Metric("1 prompt", "tok/s", "one prompt at a time"),
    "tokens_per_second_8": Metric("8 prompts", "tok/s", "eight prompts together"),
    "first_token_seconds": Metric("first token", "s", "one prompt to its first id"),
    "peak_memory": Metric(
        "memory", "B", "the most that a process of its own held to load and generate"
    ),
}
# Those that are of a split: of two of them they cannot be compared.
OF_TEXT = frozenset({"bits_per_byte", "trainer_bits_per_byte"})
# Those that are measured the same again: others are of a machine, and of its hour.
LASTING = OF_TEXT | {"size"}


@dataclass(frozen=True)
class ReleaseFigures:
    """The figures of a release; None where one was not or cannot be measured.

    Attributes:
        size: bytes of all its files.
        bits_per_byte: of the split's documents, by its own signature `score`.
        trainer_bits_per_byte: what the trainer finds of the same split.
        tokens_per_second_1: ids made a second, prompts read one at a time.
        tokens_per_second_8: the same of eight prompts together.
        first_token_seconds: from one prompt to its first id.
        peak_memory: bytes a process held at most to load it and generate.
        dataset: SHA-256 of the manifest of what it was judged on; None of nothing.
        split: of that dataset.
        documents: how many were scored.
        odd_documents: how many of them the release encodes otherwise than the dataset,
            or reads in other windows than the trainer: where there are any, the two
            figures of bits per byte are not of quite the same thing.
        more: further metrics, by name.
    """

    size: int
    bits_per_byte: float | None = None
    trainer_bits_per_byte: float | None = None
    tokens_per_second_1: float | None = None
    tokens_per_second_8: float | None = None
    first_token_seconds: float | None = None
    peak_memory: int | None = None
    dataset: str | None = None
    split: str | None = None
    documents: int = 0
    odd_documents: int = 0
    more: Mapping[str, float] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """Returns name -> number of all that was measured."""
        found = {name: getattr(self, name) for name in METRICS}
        known = {name: each for name, each in found.items() if each is not None}
        return {**known, **self.more}

    def to_bytes(self) -> bytes:
        """Returns canonical JSON."""
        fields = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}
        return canonical_json(fields)


def write_figures(directory: str, judged: ReleaseFigures) -> None:
    """Puts its figures into a release that is not visible yet."""
    path = storage.join(directory, FIGURES_NAME)
    storage.write_atomically(path, judged.to_bytes())


def read_figures(release: str) -> ReleaseFigures | None:
    """Returns the figures that a release keeps; None where it was never judged.

    Raises:
        UsageError: they are not what this version reads.
    """
    path = storage.join(release, FIGURES_NAME)
    try:
        fields: dict[str, Any] = strict_json.loads(storage.read_bytes(path))
        found = fields.pop("schema_version")
        if found == SCHEMA_VERSION:
            return ReleaseFigures(**fields)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        found = "something else"
    raise UsageError(
        f"wanted schema_version {SCHEMA_VERSION} in {path}, found {found}. Judge "
        "another version of the release"
    )
