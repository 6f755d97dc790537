# SPDX-License-Identifier: Apache-2.0
"""What a release tells of where it is from, read out of its run."""

import dataclasses
import hashlib
import os
from typing import Any

from preprocessing.contracts.manifest import Manifest
from preprocessing.foundation import storage, strict_json
from trainer.models.functional import weight_places
from trainer.models.language_model import LanguageModel
from trainer.run.checkpoint_files import WEIGHTS_NAME, read_state, step_directory
from trainer.run.checkpoints import Run
from trainer.run.metrics import read_lines
from trainer.run.run_directory import METRICS_NAME


def facts_of(opened: Run) -> dict[str, Any]:
    """Returns fields of the lineage that tell of an opened run, by name."""
    told = {
        "dataset": dataset_facts(opened.manifest),
        "parameters": count_parameters(opened.model),
    }
    if not opened.directory:
        return told
    state = read_state(opened.directory, opened.step)
    training: dict[str, Any] = {
        "rows": state.position.rows_consumed,
        "seconds": round(state.elapsed_seconds, 1),
    }
    if state.dataset_hash != opened.manifest.dataset_hash:
        training["datasets"] = state.dataset_hash
    # Its name alone: where runs lie is nobody's business who gets the release.
    path = opened.directory.rstrip("/")
    name = path if storage.is_cloud(path) else os.path.abspath(path)
    return {
        **told,
        "run": name.rpartition("/")[2].encode(errors="replace").decode(),
        "checkpoint_sha256": checkpoint_sha256(opened.directory, opened.step),
        "training": training,
        "evaluation": _evaluation(opened.directory, opened.step),
    }


def count_parameters(model: LanguageModel) -> int:
    """Returns how many numbers a model has learnt; one that is used twice is one."""
    weights = [place.variable for place in weight_places(model)]
    return sum(weight.shape.num_elements() for weight in weights)


def checkpoint_sha256(run: str, step: int) -> str:
    """Returns the SHA-256 of a complete checkpoint's index.

    The index names each value with its place, its shape and its checksum (CRC-32C), so
    two checkpoints with one index have the same values; reading them all would cost as
    much as the export.
    """
    index = storage.join(step_directory(run, step), f"{WEIGHTS_NAME}.index")
    return hashlib.sha256(storage.read_bytes(index)).hexdigest()


def dataset_facts(manifest: Manifest) -> dict[str, Any]:
    """Returns what a manifest says of a dataset, without its shards and its files."""
    whole = dataclasses.asdict(manifest)
    names = ("objective", "sequence_length", "vocab_size", "config", "seed", "counts")
    numbers = ("rows", "tokens", "text_bytes", "sources")
    return {
        **{name: whole[name] for name in (*names, "input")},
        "input_files": len(manifest.sources),
        "splits": {
            name: {number: split[number] for number in numbers}
            for name, split in whole["splits"].items()
        },
    }


def _evaluation(run: str, step: int) -> dict[str, Any]:
    """Returns the last evaluation of a step; empty where there was none."""
    lines = read_lines(storage.join(run, METRICS_NAME))
    found = [x for x in lines if x["step"] == step and "validation_loss" in x]
    return strict_json.with_nulls(found[-1]) if found else {}
