# SPDX-License-Identifier: Apache-2.0
"""The dataset's manifest: its format, as frozen dataclasses and as JSON.

`manifest.json` is written last, so a directory that holds one is a whole dataset. It
names nothing that changes between two runs of the same job (no time, host, absolute
path or worker count); the SHA-256 of its bytes is therefore the dataset's hash.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError, WorkError

# 3 adds `input`, what was read of it, and gives all splits `sources`, which in 2 only
# those of mixtures had and in 1 none. 1 and 2 are read, and written by earlier Querns.
SCHEMA_VERSION, MIXTURE_VERSION, FIRST_VERSION = 3, 2, 1
MANIFEST_NAME = "manifest.json"
TOKENIZER_NAME = "tokenizer.json"


@dataclass(frozen=True)
class Shard:
    """One file of records: its name, rows, size in bytes and SHA-256 in hex."""

    name: str
    rows: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """One split. `tokens` counts ids written, `text_bytes` the UTF-8 behind them.

    `sources` gives the rows, tokens and text_bytes of each source of a mixture, by
    name; it is empty where the dataset is none.
    """

    rows: int
    tokens: int
    text_bytes: int
    shards: tuple[Shard, ...]
    sources: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        found = sum(shard.rows for shard in self.shards)
        if found != self.rows:
            raise WorkError(
                f"wanted shards that add up to the split's {self.rows} rows, found "
                f"{found}. This is a defect in Quern: report it with the manifest"
            )


@dataclass(frozen=True)
class Counts:
    """The job's counters over all splits; refused unless both conservation laws hold.

    read = kept + sum of rejected, in documents;
    tokens_encoded + overlap_tokens = tokens_written + dropped_tokens, in ids.
    """

    read: int
    kept: int
    rejected: Mapping[str, int]
    tokens_encoded: int
    tokens_written: int
    overlap_tokens: int
    dropped_tokens: int

    def __post_init__(self) -> None:
        rejected = sum(self.rejected.values())
        if self.read != self.kept + rejected:
            raise WorkError(
                f"wanted documents read = kept + rejected, found {self.read} != "
                f"{self.kept} + {rejected}. This is a defect in Quern: report it"
            )
        made = self.tokens_encoded + self.overlap_tokens
        used = self.tokens_written + self.dropped_tokens
        if made != used:
            raise WorkError(
                f"wanted tokens encoded + overlaps = written + dropped, found {made} "
                f"!= {used}. This is a defect in Quern: report it"
            )


@dataclass(frozen=True)
class InputTotals:
    """The input's bytes as stored, refused unless size = read + not_read.

    Bytes are not read where no document and no reject stands for them: what lies behind
    damage, and what had to be skipped to find the next record. `not_to_end` counts the
    files that were not read to their end. `inputs.parquet` has a row for each file.
    """

    files: int
    size: int
    read: int
    not_read: int
    not_to_end: int

    def __post_init__(self) -> None:
        if self.size != self.read + self.not_read:
            raise WorkError(
                f"wanted bytes of input = read + not read, found {self.size} != "
                f"{self.read} + {self.not_read}. This is a defect in Quern: report it"
            )


@dataclass(frozen=True)
class Source:
    """One input file: its path relative to the glob's fixed prefix, and its bytes."""

    path: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """Everything a reader of the dataset must know; its fields in the file's order.

    `features` maps a feature's name to {"dtype": str, "count": int}. `record_bytes`
    is the length of the serialised `tf.train.Example` without its TFRecord frame.
    `input` is None where an earlier Quern wrote the file.
    """

    sequence_length: int
    objective: str
    token_dtype: str
    vocab_size: int
    bos_id: int | None
    eos_id: int
    pad_id: int
    tokenizer_sha256: str
    config: Mapping[str, Any]
    config_hash: str
    seed: int
    max_segments: int
    record_bytes: int
    features: Mapping[str, Mapping[str, Any]]
    splits: Mapping[str, Split]
    counts: Counts
    sources: tuple[Source, ...]
    input: InputTotals | None = None

    @property
    def honours_text_tokens(self) -> bool:
        """Whether its ids are those of the tokenizer's added tokens that are text.

        It is not told of a tokenizer without such tokens.
        """
        tokenizer = self.config.get("tokenizer")
        return isinstance(tokenizer, Mapping) and bool(tokenizer.get("text_tokens"))

    @property
    def schema_version(self) -> int:
        """The version of its form: 3; of earlier Querns 2 for a mixture, else 1."""
        if self.input is not None:
            return SCHEMA_VERSION
        mixed = any(split.sources for split in self.splits.values())
        return MIXTURE_VERSION if mixed else FIRST_VERSION

    @property
    def row_places(self) -> int:
        """Ids that a row has room for, both of its sequences where it has two."""
        names = ("tokens", "inputs", "targets")
        held = (self.features[name] for name in names if name in self.features)
        return sum(feature["count"] for feature in held)

    def to_bytes(self) -> bytes:
        """Returns the canonical JSON: sorted keys, indent 1, a final newline."""
        fields = dataclasses.asdict(self)
        if self.input is None:
            del fields["input"]
        if self.schema_version == FIRST_VERSION:
            for split in fields["splits"].values():
                del split["sources"]
        return canonical_json({**fields, "schema_version": self.schema_version})

    @property
    def dataset_hash(self) -> str:
        """SHA-256, in hex, of the manifest's bytes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()


def canonical_json(value: Any) -> bytes:
    """Returns the one JSON form this project hashes: sorted keys, indent 1, UTF-8."""
    text = strict_json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False)
    return text.encode() + b"\n"


def config_hash(config: Mapping[str, Any]) -> str:
    """Returns the SHA-256, in hex, of a configuration's canonical JSON."""
    return hashlib.sha256(canonical_json(dict(config))).hexdigest()


def write_manifest(dataset: str, manifest: Manifest) -> None:
    """Publishes `manifest.json` in the directory `dataset`; call it last of all."""
    path = storage.join(dataset, MANIFEST_NAME)
    storage.write_atomically(path, manifest.to_bytes(), durable=True)


def read_manifest(dataset: str) -> Manifest:
    """Reads and checks the manifest of the directory `dataset`.

    Raises:
        UsageError: the directory is absent or not a finished dataset, or its manifest
            is of another version or was edited after it was written.
    """
    path = storage.join(dataset, MANIFEST_NAME)
    try:
        data = storage.read_bytes(path)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(_why_absent(dataset)) from None
    return parse_manifest(data, path)


def _why_absent(dataset: str) -> str:
    if not storage.exists(dataset):
        return f"wanted a dataset at {dataset}, found nothing. Check the path"
    return (
        f"wanted a dataset at {dataset}, found no {MANIFEST_NAME} in it, so it is "
        "unfinished or something else. Run quern-prepare on it again"
    )


def parse_manifest(data: bytes, name: str = MANIFEST_NAME) -> Manifest:
    """Parses the bytes of a manifest; `name` is how errors call it.

    Raises:
        UsageError: as for `read_manifest`.
    """
    try:
        fields = strict_json.loads(data)
        version = fields["schema_version"]
    except (ValueError, TypeError, KeyError):
        raise UsageError(
            f"wanted a Quern manifest, {name} is not one. Point at the directory that "
            "quern-prepare wrote"
        ) from None
    if version not in range(FIRST_VERSION, SCHEMA_VERSION + 1):
        raise UsageError(
            f"wanted schema_version {FIRST_VERSION} to {SCHEMA_VERSION}, {name} has "
            f"{version}. Prepare the dataset again with this Quern, or read it with "
            "the Quern that wrote it"
        )
    try:
        manifest = _build(fields)
    except (TypeError, KeyError, AttributeError, WorkError) as error:
        raise UsageError(
            f"wanted the fields of schema_version {version}, {name} fails: "
            f"{error}. Prepare the dataset again"
        ) from None
    if manifest.to_bytes() != data:
        raise UsageError(
            f"wanted the manifest as quern-prepare wrote it, {name} was edited or "
            "re-indented. Restore the original: its bytes are the dataset's identity"
        )
    return manifest


def _build(fields: dict[str, Any]) -> Manifest:
    splits = {
        name: Split(
            rows=split["rows"],
            tokens=split["tokens"],
            text_bytes=split["text_bytes"],
            shards=tuple(Shard(**shard) for shard in split["shards"]),
            sources=split.get("sources", {}),
        )
        for name, split in fields["splits"].items()
    }
    known = {
        **{name: fields[name] for name in fields if name != "schema_version"},
        "splits": splits,
        "counts": Counts(**fields["counts"]),
        "sources": tuple(Source(**source) for source in fields["sources"]),
    }
    if "input" in fields:
        known["input"] = InputTotals(**fields["input"])
    return Manifest(**known)
