# SPDX-License-Identifier: Apache-2.0
"""A run's directory: what stands in it, and who may continue it.

    config.json      every value of the configuration, a valid --config
    manifest.json    the dataset's, byte for byte: its SHA-256 is the dataset's hash
    tokenizer.json   the dataset's
    mixture.json     of several datasets, of which the above are the first: their hash
    origin/          of published weights: what is kept of them (`origin.py`)
    checkpoints/     step-%08d/, each complete or invisible
    metrics.jsonl    one line per logged step and per evaluation
    events.out.*     the same numbers for TensorBoard

`config.json` is written after the two copies, so a directory that holds it is a run.
"""

import hashlib
from dataclasses import dataclass

from preprocessing.contracts.manifest import (
    MANIFEST_NAME,
    TOKENIZER_NAME,
    Manifest,
    parse_manifest,
)
from preprocessing.foundation import storage, strict_json
from preprocessing.foundation.commands import UsageError
from preprocessing.tokenizer.tokenizer import Tokenizer
from trainer.published.origin import ORIGIN_NAME, Origin, write_origin
from trainer.run.config import RunConfig, differences, from_json, with_length

CONFIG_NAME = "config.json"
CHECKPOINTS_NAME = "checkpoints"
METRICS_NAME = "metrics.jsonl"
MIXTURE_NAME = "mixture.json"


@dataclass(frozen=True)
class RunFiles:
    """What an existing run was made from; `config` has a sequence length."""

    config: RunConfig
    manifest: Manifest
    tokenizer_path: str
    dataset_hash: str


def read_run(run: str) -> RunFiles:
    """Reads the configuration and dataset description of an existing run.

    Raises:
        UsageError: `run` is not a run's directory.
    """
    try:
        config = storage.read_bytes(storage.join(run, CONFIG_NAME)).decode()
        manifest = storage.read_bytes(storage.join(run, MANIFEST_NAME))
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"wanted a run's directory at {run}, found no {CONFIG_NAME} and "
            f"{MANIFEST_NAME} there. Point --run at what quern-train wrote"
        ) from None
    parsed = parse_manifest(manifest, storage.join(run, MANIFEST_NAME))
    try:
        mixture = strict_json.loads(storage.read_bytes(storage.join(run, MIXTURE_NAME)))
        dataset_hash = mixture["hash"]
    except FileNotFoundError:
        dataset_hash = parsed.dataset_hash
    return RunFiles(
        config=with_length(from_json(config, storage.join(run, CONFIG_NAME)), [parsed]),
        manifest=parsed,
        tokenizer_path=storage.join(run, TOKENIZER_NAME),
        dataset_hash=dataset_hash,
    )


def is_run(run: str) -> bool:
    """Tells whether `run` holds a run already."""
    return storage.exists(storage.join(run, CONFIG_NAME))


def check_can_hold(run: str) -> None:
    """Checks that a new run may be made at `run`.

    A beginning cut short before `config.json` was written may be begun again.

    Raises:
        UsageError: something else is there.
    """
    if storage.exists(run) and not storage.is_dir(run):
        raise UsageError(
            f"wanted a directory for --run, {run} is a file. Choose another path"
        )
    visible = [name for name in storage.list_names(run) if not name.startswith(".")]
    ours = {MANIFEST_NAME, TOKENIZER_NAME, MIXTURE_NAME, ORIGIN_NAME}
    foreign = sorted(set(visible) - ours)
    if foreign:
        raise UsageError(
            f"wanted an empty directory or a run at {run}, found {foreign[0]} and no "
            f"{CONFIG_NAME}. Choose another --run"
        )


def check_same(run: str, dataset: str, dataset_hash: str, config: RunConfig) -> None:
    """Checks that the run at `run` may be resumed with this data and configuration.

    Args:
        run: the run's directory.
        dataset: how errors call what is given now.
        dataset_hash: what it is known by.
        config: what is asked for now.

    Raises:
        UsageError: the data differ, or a key does that may not change.
    """
    stored = read_run(run)
    if stored.dataset_hash != dataset_hash:
        raise UsageError(
            f"wanted the dataset that {run} was begun with "
            f"({stored.dataset_hash[:12]}), {dataset} is another "
            f"({dataset_hash[:12]}). Restore it or choose another --run"
        )
    changes = differences(stored.config, config)
    if changes:
        raise UsageError(
            f"wanted to resume {run}, where only loop.*, samples.* and compute.* may "
            f"differ, found {'; '.join(changes)}. Drop the change or choose another "
            "--run"
        )


def read_tokenizer(dataset: str, manifest: Manifest) -> bytes:
    """Returns the dataset's `tokenizer.json`.

    Raises:
        UsageError: it is absent, or not the one that encoded the dataset.
    """
    path = storage.join(dataset, TOKENIZER_NAME)
    try:
        data = storage.read_bytes(path)
    except FileNotFoundError:
        raise UsageError(
            f"wanted {path}, found none. Copy the dataset again, or prepare it again"
        ) from None
    if hashlib.sha256(data).hexdigest() != manifest.tokenizer_sha256:
        raise UsageError(
            f"wanted the tokenizer that encoded {dataset}, {TOKENIZER_NAME} there has "
            "another SHA-256 than the manifest says. Restore it"
        )
    return data


def restore_tokenizer(path: str, manifest: Manifest) -> Tokenizer:
    """Opens a `tokenizer.json` with the special ids of the dataset it encoded."""
    return Tokenizer.restore(
        path,
        bos_id=manifest.bos_id,
        eos_id=manifest.eos_id,
        pad_id=manifest.pad_id,
    )


def write_run(
    run: str,
    config: RunConfig,
    manifest: Manifest,
    tokenizer: bytes,
    dataset_hash: str,
    origin: Origin | None = None,
) -> None:
    """Makes the directory of a new run, or renews `config.json` of a resumed one.

    `dataset_hash` is the manifest's own, or that of a mixture it is the first of;
    `origin` is what a new run keeps of the published weights that it begins with.

    Raises:
        UsageError: the directory cannot be written.
    """
    files = {MANIFEST_NAME: manifest.to_bytes(), TOKENIZER_NAME: tokenizer}
    if dataset_hash != manifest.dataset_hash:
        mixture = strict_json.dumps({"hash": dataset_hash}) + "\n"
        files[MIXTURE_NAME] = mixture.encode()
    files[CONFIG_NAME] = config.to_json().encode()  # last: it says that this is a run
    try:
        storage.make_directory(run)
        if origin is not None:
            write_origin(run, origin)
        for name, data in files.items():
            storage.write_atomically(storage.join(run, name), data, durable=True)
    except OSError as error:
        raise UsageError(
            f"wanted to write the run's directory {run}, failed: {error.strerror}. "
            "Check the permissions and the free space, or choose another --run"
        ) from None
