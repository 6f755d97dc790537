# SPDX-License-Identifier: Apache-2.0
"""A run that begins with published weights: what it takes from them, and what fits.

The decoder comes from their `config.json`; what only training decides may be set beside
it. Their tokenizer has to be the dataset's, for ids are rows of the embedding.
"""

import dataclasses

from preprocessing.contracts.manifest import Manifest
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from preprocessing.tokenizer import byte_level
from preprocessing.tokenizer.comparison import first_difference
from trainer.published.origin import read_origin
from trainer.published.published_model import (
    PublishedConfig,
    PublishedModel,
    read_published_config,
)
from trainer.published.saving import TRAINING_KEYS
from trainer.published.tokenizer_files import TOKENIZER_JSON
from trainer.run.config import RunConfig
from trainer.run.overrides import flattened
from trainer.run.run_directory import is_run, read_tokenizer


def with_published(config: RunConfig, published: PublishedConfig) -> RunConfig:
    """Returns `config` with the decoder of published weights."""
    return dataclasses.replace(config, model=published.decoder)


def check_keys(config: RunConfig, published: PublishedConfig) -> None:
    """Checks that a configuration has the decoder of published weights.

    Raises:
        UsageError: a key says otherwise than their `config.json`.
    """
    wanted, found = flattened(published.decoder), flattened(config.model)
    odd = [
        f"model.{key} {found.get(key, 'absent')}, not {value}"
        for key, value in wanted.items()
        if key not in TRAINING_KEYS and found.get(key) != value
    ]
    if odd:
        raise UsageError(
            f"wanted the model that {published.directory} describes, found "
            f"{'; '.join(odd)}. Leave the keys out: beside --init_from only "
            f"{', '.join(f'model.{key}' for key in sorted(TRAINING_KEYS))} can be set"
        )


def check_tokenizer(dataset: str, manifest: Manifest, directory: str) -> None:
    """Checks that a dataset's ids are those of published weights.

    Args:
        dataset: the dataset.
        manifest: the dataset's.
        directory: of the weights.

    Raises:
        UsageError: their tokenizers give other ids, or theirs cannot be read.
    """
    path = storage.join(directory, TOKENIZER_JSON)
    try:
        theirs = storage.read_bytes(path)
    except FileNotFoundError:
        raise UsageError(
            f"wanted {TOKENIZER_JSON} beside the weights in {directory}, found none. "
            "Download it: the dataset has to be of the same"
        ) from None
    name = storage.join(dataset, TOKENIZER_JSON)
    ours = read_tokenizer(dataset, manifest)
    odd = first_difference(byte_level.parse(ours, name), byte_level.parse(theirs, path))
    if odd is not None:
        raise UsageError(
            f"wanted a dataset of the weights' tokenizer, {path}, found another in "
            f'{dataset} ("here"): {odd}. Prepare it with --tokenizer {path}'
        )


def check_origin(run: str, published: PublishedModel | None, begun: bool) -> None:
    """Checks that a run at `run`, if there is one, goes on with the weights it had.

    Args:
        run: the run's directory.
        published: what is named now; None where nothing is.
        begun: whether the run has a checkpoint, or nothing is there yet.

    Raises:
        UsageError: other weights are named, or none where they are still needed.
    """
    if not is_run(run):
        return
    origin = read_origin(run)
    if published is None:
        if origin is not None and not begun:
            raise UsageError(
                f"wanted --init_from with the weights that {run} begins with, for it "
                "has no checkpoint yet, found none. Name their directory"
            )
        return
    was = "fresh weights" if origin is None else f"others ({origin.digest[:12]})"
    if origin is None or origin.digest != published.digest:
        raise UsageError(
            f"wanted the weights that {run} began with, {was}, found those in "
            f"{published.config.directory} ({published.digest[:12]}). Leave "
            "--init_from out, or choose another --run"
        )


def described_by(directory: str | None) -> PublishedConfig | None:
    """Returns what a directory says it is; None of none."""
    return None if directory is None else read_published_config(directory)
