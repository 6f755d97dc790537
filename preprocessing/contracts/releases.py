# SPDX-License-Identifier: Apache-2.0
"""A release's format on disk: where its versions lie and what it was made from.

NAME/
  3/                                          one version, complete or absent
    saved_model.pb  variables/                what TensorFlow Serving loads
    assets/tokenizer.json  assets/lineage.json
    assets/figures.json                       where it was judged: what it measured
    assets.extra/tf_serving_warmup_requests   replayed before traffic is taken
    README.md                                 for people: what it is
"""

import dataclasses
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from preprocessing.contracts.manifest import canonical_json
from preprocessing.contracts.signatures import SIGNATURES
from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError
from preprocessing.foundation.protocol_buffers import declare, read

SCHEMA_VERSION = 1
LARGEST_VERSION = 2**63 - 1  # TensorFlow Serving reads no other name as a version.
_VERSION = re.compile(r"[ \t\n\v\f\r]*(-?[0-9]+)[ \t\n\v\f\r]*")
SAVED_MODEL_NAME = "saved_model.pb"
WARMUP_NAME = "assets.extra/tf_serving_warmup_requests"
LINEAGE_NAME = "assets/lineage.json"
CARD_NAME = "README.md"
TOKENIZER_ASSET = "assets/tokenizer.json"
FIGURES_NAME = "assets/figures.json"

# Signatures that answers are made with: a release from before the others will do.
USED = ("score", "score_continuation", "embed", "prefill", "insert", "decode")
# Of tensorflow/core/protobuf/saved_model.proto and meta_graph.proto: names alone.
_SAVED_MODEL = declare(
    {
        "SavedModel": {"meta_graphs": (2, "repeated MetaGraphDef")},
        "MetaGraphDef": {"signature_def": (5, "repeated SignatureEntry")},
        "SignatureEntry": {"key": (1, "string"), "value": (2, "SignatureDef")},
        "SignatureDef": {"inputs": (1, "repeated InputEntry")},
        "InputEntry": {"key": (1, "string")},
    }
)["SavedModel"]

# What the matrices and tables of a release may be stored in; see
# trainer/models/stored_weights.py.
WEIGHT_TYPES = ("float32", "bfloat16", "int8")


@dataclass(frozen=True)
class Lineage:
    """What a release was made from, and what it must answer.

    Attributes:
        dataset_hash: SHA-256 of the dataset's manifest; None of published weights.
        tokenizer_sha256: SHA-256 of the tokenizer file.
        config: the run's whole configuration; of published weights the decoder, their
            digest and their `config.json`.
        step: the checkpoint's step; 0 of published weights.
        vocab_size: number of ids.
        bos_id: id put before each prompt, or None.
        eos_id: id that ends a continuation.
        pad_id: id that fills `token_ids`.
        context: positions a prompt and its continuation may take; None for a
            recurrent model, which has no limit.
        versions: name of a package -> the version that exported.
        expected: requests with the answers that the trainer itself gave.
        stop_ids: further ids that end a continuation.
        weights: the type that matrices and tables are stored in.
        run: the name of the run's directory; empty of published weights.
        checkpoint_sha256: of the checkpoint's index, which holds the checksum of each
            of its values; empty where it has none.
        parameters: how many numbers the model has learnt; None where not counted.
        dataset: what its manifest says of it, without its files.
        training: `rows` read and `seconds` taken up to the checkpoint; `datasets` is
            the SHA-256 of several, of which the above is the first.
        evaluation: what the run measured at the checkpoint, as in `metrics.jsonl`.
        files: name -> size in bytes of each other file, but for those for people.
        schema_version: of this file.

    Releases of earlier Querns lack what stands behind `expected`.
    """

    dataset_hash: str | None
    tokenizer_sha256: str
    config: Mapping[str, Any]
    step: int
    vocab_size: int
    bos_id: int | None
    eos_id: int
    pad_id: int
    context: int | None
    versions: Mapping[str, str]
    expected: Mapping[str, Any]
    stop_ids: Sequence[int] = dataclasses.field(default_factory=list)
    weights: str = "float32"
    run: str = ""
    checkpoint_sha256: str = ""
    parameters: int | None = None
    dataset: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    evaluation: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    files: Mapping[str, int] = dataclasses.field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def to_bytes(self) -> bytes:
        """Returns canonical JSON."""
        return canonical_json(dataclasses.asdict(self))


def version_of(name: str) -> int | None:
    """Returns the version that TensorFlow Serving reads in a name, None for no version.

    That is any name that its `safe_strto64` takes: `7`, and `007`, ` 7` and `-7` too;
    but neither `+7` nor a number beyond 64 bits.
    """
    found = _VERSION.fullmatch(name)
    if found is None or not -LARGEST_VERSION - 1 <= int(found[1]) <= LARGEST_VERSION:
        return None
    return int(found[1])


def versions(directory: str) -> dict[int, str]:
    """Returns the versions below a model's directory, ascending, each with its name.

    Of two names for one version, as `007` and `7`, TensorFlow Serving takes the one
    that sorts last; so is it here.
    """
    names = sorted(storage.list_names(directory), key=os.fsencode)
    read = [(version_of(name), name) for name in names]
    found = {version: name for version, name in read if version is not None}
    return dict(sorted(found.items()))


def find_release(path: str) -> str:
    """Returns the directory of a release: `path` itself, or its highest version.

    Raises:
        UsageError: neither is a release.
    """
    numbered = [storage.join(path, name) for name in versions(path).values()]
    # An upload that was cut short has a version's name, but not yet this file.
    for release in (path, *reversed(numbered)):
        if storage.exists(storage.join(release, SAVED_MODEL_NAME)):
            read_lineage(release)
            return release.rstrip("/")
    raise UsageError(
        f"wanted a release (a directory with {SAVED_MODEL_NAME}) or a directory of "
        f"versions at {path}, found neither. Make one with quern-export"
    )


def read_lineage(release: str) -> Lineage:
    """Reads the lineage of a release.

    Raises:
        UsageError: there is none, or it is not one this version reads.
    """
    path = storage.join(release, LINEAGE_NAME)
    try:
        fields = strict_json.loads(storage.read_bytes(path))
        found = fields["schema_version"]
        if found == SCHEMA_VERSION:
            return Lineage(**fields)
    except FileNotFoundError:
        raise UsageError(
            f"wanted a release made by quern-export at {release}, found no "
            f"{LINEAGE_NAME} in it. Export the run again"
        ) from None
    except (ValueError, KeyError, TypeError):
        found = "something else"
    raise UsageError(
        f"wanted schema_version {SCHEMA_VERSION} in {path}, found {found}. Export the "
        "run again with this version of Quern"
    )


def check_used(release: str) -> None:
    """Raises `UsageError` for a release that answers cannot be made with.

    It is an older one, or its graph is damaged. Nothing of TensorFlow is loaded.
    """
    path = storage.join(release, SAVED_MODEL_NAME)
    try:
        graphs = read(_SAVED_MODEL, storage.read_bytes(path)).meta_graphs
    except ValueError as error:
        raise UsageError(
            f"wanted a SavedModel in {path}, found something else: {error}. Export the "
            "run again"
        ) from None
    found = {
        each.key: {entry.key for entry in each.value.inputs}
        for graph in graphs
        for each in graph.signature_def
    }
    wanted = {name: {each.name for each in SIGNATURES[name].inputs} for name in USED}
    missing = [name for name in USED if not wanted[name] <= found.get(name, set())]
    if missing:
        raise UsageError(
            f"wanted the signatures {', '.join(USED)} in {release}, found no "
            f"{', '.join(missing)} with all its inputs: it is of an older Quern. "
            "Export the run again"
        )


def copy_tree(source: str, target: str, last: str = SAVED_MODEL_NAME) -> None:
    """Copies a directory between local and cloud paths, the file `last` last.

    An object store cannot rename: readers that look for that file see all or nothing.
    A release's lineage comes first: by it one that was cut short is known for one.
    """
    order = {LINEAGE_NAME: 0, last: 2}
    names = sorted(file_names(source), key=lambda name: order.get(name, 1))
    for name in names:
        path = storage.join(target, name)
        storage.make_directory(os.path.dirname(path))
        with (
            storage.open_input(storage.join(source, name)) as original,
            storage.atomic_file(path) as copy,
        ):
            shutil.copyfileobj(original, copy)


def file_names(directory: str, prefix: str = "") -> list[str]:
    """Returns the names of all files below a directory, each behind `prefix`."""
    found = []
    for name in storage.list_names(directory):
        path = storage.join(directory, name)
        if storage.is_dir(path):
            found += file_names(path, f"{prefix}{name}/")
        else:
            found.append(prefix + name)
    return found
