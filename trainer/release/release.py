# SPDX-License-Identifier: Apache-2.0
"""Writes a release: the SavedModel, and the files that belong to it."""

from collections.abc import Mapping
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing.contracts.releases import (
    CARD_NAME,
    LINEAGE_NAME,
    TOKENIZER_ASSET,
    WARMUP_NAME,
    Lineage,
    file_names,
)
from preprocessing.contracts.signatures import SIGNATURES
from preprocessing.foundation import strict_json
from preprocessing.foundation.commands import UsageError, WorkError, count_of
from trainer.models.stored_weights import StoredWeights
from trainer.release.card import model_card
from trainer.release.expected import expected_answers
from trainer.release.servable import Servable
from trainer.release.warmup_requests import Request, write_requests
from trainer.run.checkpoint_values import not_finite
from trainer.run.variable_names import named_variables, read_value
from trainer.serving.signatures import TextModel

_PACKAGES = ("quern", "tensorflow", "tensorflow-text", "tokenizers")


def write_release(
    servable: Servable, directory: str, name: str, weights: str = "float32"
) -> None:
    """Writes all files of a release into a local directory.

    Args:
        servable: what it is made of.
        directory: where; nothing there is looked at.
        name: the model's, for the warm-up requests.
        weights: one of `WEIGHT_TYPES`, how they are stored; what the release is
            checked against is computed with weights stored so.

    Raises:
        UsageError: the graph cannot reproduce the tokenizer, or a weight or an answer
            is not finite.
        WorkError: the files cannot be written.
    """
    _check_finite(servable)
    model, tokenizer, length = servable.model, servable.tokenizer, servable.length
    stored = None if weights == "float32" else StoredWeights(model, weights)
    module = TextModel(
        model, tokenizer, servable.decoding, length, stored, servable.graph
    )
    with nullcontext() if stored is None else stored.called():
        answers = expected_answers(model, tokenizer, servable.decoding, length)
    odd = strict_json.with_nulls(answers).get(strict_json.NOTE)
    if odd:
        raise _not_finite(servable, "answers", list(odd))
    beside = {
        TOKENIZER_ASSET: tokenizer.json_bytes,
        WARMUP_NAME: write_requests(name, warmup_requests(module)),
    }
    try:
        # Nobody takes gradients of a release; tracing them is a sixth of saving.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, directory, module.signatures(), options)
        _write(directory, beside)
        lineage = _lineage(servable, answers, weights, _sizes(directory))
        card = model_card(lineage).encode()
        _write(directory, {LINEAGE_NAME: lineage.to_bytes(), CARD_NAME: card})
    except (OSError, tf.errors.OpError) as error:
        raise WorkError(
            f"wanted to write the release, found: {error}. Free some space and export "
            "again; nothing was published"
        ) from error


def _write(directory: str, files: Mapping[str, bytes]) -> None:
    for path, data in files.items():
        target = Path(directory, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def _sizes(directory: str) -> dict[str, int]:
    """Returns the size in bytes of each file that is there."""
    names = file_names(directory)
    return {name: Path(directory, name).stat().st_size for name in names}


def _check_finite(servable: Servable) -> None:
    """Raises `UsageError` for weights that are NaN or infinite."""
    weights = named_variables({"model": servable.model})
    odd = not_finite({name: read_value(each) for name, each in weights.items()})
    if odd:
        raise _not_finite(servable, "weights", odd)


def _not_finite(servable: Servable, what: str, names: list[str]) -> UsageError:
    more = f" and {count_of(len(names) - 1, 'other')}" if len(names) > 1 else ""
    return UsageError(
        f"wanted finite {what} of {servable.what}, found NaN or infinity in "
        f"{names[0]}{more}. {servable.remedy}"
    )


def warmup_requests(module: TextModel) -> list[Request]:
    """Returns one small request per signature: each traces memory and thread pools."""
    empty = [
        np.zeros([1 if n is None else n for n in each.shape], each.dtype.as_numpy_dtype)
        for each in module.slots.states
    ]
    requests = []
    for name, signature in SIGNATURES.items():
        values: dict[str, Any] = {i.name: [i.warmup] for i in signature.inputs}
        for state in signature.states:
            values |= {f"{state}_{index}": each for index, each in enumerate(empty)}
        requests.append(Request(name, signature.fed(values)))
    return requests


def _lineage(
    servable: Servable,
    answers: dict[str, object],
    weights: str,
    files: Mapping[str, int],
) -> Lineage:
    tokenizer, decoding = servable.tokenizer, servable.decoding
    return Lineage(
        dataset_hash=servable.dataset_hash,
        tokenizer_sha256=tokenizer.sha256,
        config=servable.config,
        step=servable.step,
        vocab_size=tokenizer.vocab_size,
        bos_id=decoding.bos_id,
        eos_id=decoding.eos_id,
        pad_id=decoding.pad_id,
        context=decoding.context,
        versions={name: metadata.version(name) for name in _PACKAGES},
        expected=answers,
        stop_ids=list(decoding.stop_ids),
        weights=weights,
        files=files,
        **servable.facts,
    )
