# SPDX-License-Identifier: Apache-2.0
"""Writes a release: the SavedModel, and the files that belong to it."""

import dataclasses
from importlib import metadata
from pathlib import Path

import tensorflow as tf

from preprocessing.contracts.releases import (
    LINEAGE_NAME,
    TOKENIZER_ASSET,
    WARMUP_NAME,
    Lineage,
)
from preprocessing.contracts.signatures import SIGNATURES
from preprocessing.foundation import strict_json
from preprocessing.foundation.commands import UsageError, WorkError, count_of
from preprocessing.tokenizer.tokenizer import Tokenizer
from trainer.release.expected import expected_answers
from trainer.release.warmup_requests import Request, write_requests
from trainer.run.checkpoint_values import not_finite
from trainer.run.checkpoints import Run
from trainer.run.variable_names import named_variables, read_value
from trainer.serving.generate import Decoding
from trainer.serving.signatures import TextModel

_PACKAGES = ("quern", "tensorflow", "tensorflow-text", "tokenizers")


def write_release(opened: Run, directory: str, name: str) -> None:
    """Writes all files of a release into a local directory.

    Args:
        opened: the run, its model computing in float32.
        directory: where; nothing there is looked at.
        name: the model's, for the warm-up requests.

    Raises:
        UsageError: the graph cannot reproduce the tokenizer, or a weight or an answer
            is not finite.
        WorkError: the files cannot be written.
    """
    _check_finite(opened)
    tokenizer, decoding = open_tokenizer(opened), decoding_of(opened)
    length = opened.config.sequence_length
    module = TextModel(opened.model, tokenizer, decoding, length)
    answers = expected_answers(opened.model, tokenizer, decoding, length)
    odd = strict_json.with_nulls(answers).get(strict_json.NOTE)
    if odd:
        raise _not_finite(opened, "answers", list(odd))
    lineage = _lineage(opened, decoding, answers)
    files = {
        TOKENIZER_ASSET: tokenizer.json_bytes,
        LINEAGE_NAME: lineage.to_bytes(),
        WARMUP_NAME: write_requests(name, warmup_requests()),
    }
    try:
        tf.saved_model.save(module, directory, signatures=module.signatures())
        for path, data in files.items():
            target = Path(directory, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    except (OSError, tf.errors.OpError) as error:
        raise WorkError(
            f"wanted to write the release, found: {error}. Free some space and export "
            "again; nothing was published"
        ) from error


def _check_finite(opened: Run) -> None:
    """Raises `UsageError` for weights that are NaN or infinite."""
    weights = named_variables({"model": opened.model})
    odd = not_finite({name: read_value(each) for name, each in weights.items()})
    if odd:
        raise _not_finite(opened, "weights", odd)


def _not_finite(opened: Run, what: str, names: list[str]) -> UsageError:
    more = f" and {count_of(len(names) - 1, 'other')}" if len(names) > 1 else ""
    return UsageError(
        f"wanted finite {what} of the run's step {opened.step:,}, found NaN or "
        f"infinity in {names[0]}{more}. Export an earlier --step"
    )


def decoding_of(opened: Run) -> Decoding:
    """Returns what generation must know of a run besides its weights."""
    manifest = opened.manifest
    return Decoding(
        bos_id=manifest.bos_id,
        eos_id=manifest.eos_id,
        pad_id=manifest.pad_id,
        context=opened.model.context(opened.config.sequence_length),
    )


def warmup_requests() -> list[Request]:
    """Returns one small request per signature: each traces memory and thread pools."""
    return [
        Request(name, signature.fed({i.name: [i.warmup] for i in signature.inputs}))
        for name, signature in SIGNATURES.items()
    ]


def _lineage(opened: Run, decoding: Decoding, answers: dict[str, object]) -> Lineage:
    manifest = opened.manifest
    return Lineage(
        dataset_hash=manifest.dataset_hash,
        tokenizer_sha256=manifest.tokenizer_sha256,
        config=dataclasses.asdict(opened.config),
        step=opened.step,
        vocab_size=manifest.vocab_size,
        bos_id=decoding.bos_id,
        eos_id=decoding.eos_id,
        pad_id=decoding.pad_id,
        context=decoding.context,
        versions={name: metadata.version(name) for name in _PACKAGES},
        expected=answers,
    )


def open_tokenizer(opened: Run) -> Tokenizer:
    """Opens a run's tokenizer with the special ids of its dataset.

    Raises:
        UsageError: it is not the dataset's, or the dataset was made by a Quern that
            encoded its added tokens as other text.
    """
    manifest = opened.manifest
    tokenizer = Tokenizer.restore(
        opened.tokenizer_path,
        bos_id=manifest.bos_id,
        eos_id=manifest.eos_id,
        pad_id=manifest.pad_id,
    )
    if tokenizer.sha256 != manifest.tokenizer_sha256:
        raise UsageError(
            f"wanted the tokenizer the dataset was made with, found another in "
            f"{opened.tokenizer_path}. Copy the dataset's tokenizer.json back"
        )
    if tokenizer.bpe.text_tokens and not manifest.honours_text_tokens:
        raise UsageError(
            "wanted a run on ids that a release can reproduce, found a dataset of an "
            "older Quern, which encoded its tokenizer's added tokens as other text. "
            "Prepare it again, and train on that"
        )
    return tokenizer
