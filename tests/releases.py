# SPDX-License-Identifier: Apache-2.0
"""Small releases for tests, of models that were never trained."""

import fcntl
from pathlib import Path

from preprocessing.contracts.manifest import TOKENIZER_NAME, read_manifest
from preprocessing.tokenizer.tokenizer import Tokenizer
from tests.datasets import write_dataset
from trainer.data.input_pipeline import DataConfig
from trainer.models.decoder import DecoderConfig
from trainer.models.model import PrecisionConfig, build_model, with_family
from trainer.release.publish import staged
from trainer.release.release import write_release
from trainer.release.servable import servable_of_run
from trainer.run.checkpoints import Run
from trainer.run.config import RunConfig

SEQUENCE_LENGTH = 64


def untrained_run(dataset: Path, family: str) -> Run:
    """Returns a run at step 0, with weights large enough for clear-cut choices."""
    manifest = read_manifest(str(dataset))
    config = RunConfig(
        model=with_family(DecoderConfig(num_layers=1, d_model=32, num_heads=4), family),
        data=DataConfig(sequence_length=SEQUENCE_LENGTH),
    )
    model = build_model(config.model, manifest.vocab_size, PrecisionConfig(), 5)
    for weight in model.trainable_variables:
        weight.assign(weight * 3)
    return Run(config, manifest, str(dataset / TOKENIZER_NAME), model, 0)


def release_untrained(dataset: Path, family: str, models: Path) -> Path:
    """Publishes the next version of `models` from an untrained run."""
    with staged(str(models), None) as (staging, version):
        write_release(
            servable_of_run(untrained_run(dataset, family)), staging, models.name
        )
    return models / str(version)


def shared_release(directory: Path, family: str) -> Path:
    """Returns version 1 of an untrained model, written by whoever asks first.

    Args:
        directory: of all processes of a test run; `dataset` there is the model's.
        family: of the model.
    """
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        dataset = directory / "dataset"
        if not dataset.exists():
            write_dataset(dataset)
        # TensorFlow takes the path of a SavedModel for a glob; we do not.
        models = directory / f"{family}[m]*"
        if not (models / "1").exists():
            release_untrained(dataset, family, models)
    return models / "1"


def tokenizer_of(run: Run) -> Tokenizer:
    """Opens a run's tokenizer."""
    return Tokenizer.restore(
        run.tokenizer_path,
        bos_id=run.manifest.bos_id,
        eos_id=run.manifest.eos_id,
        pad_id=run.manifest.pad_id,
    )
