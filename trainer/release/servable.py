# SPDX-License-Identifier: Apache-2.0
"""What a release is made of: of a run's checkpoint, or of published weights."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from preprocessing.contracts.manifest import Manifest
from preprocessing.foundation.commands import UsageError
from preprocessing.tokenizer.tokenizer import Tokenizer
from trainer.models.language_model import LanguageModel, PrecisionConfig
from trainer.published.published_model import build_published, open_published
from trainer.published.published_tokenizer import (
    further_stop_ids,
    open_published_tokenizer,
)
from trainer.release.run_facts import count_parameters, facts_of
from trainer.run.checkpoints import Run
from trainer.serving.generate import Decoding
from trainer.serving.graph_tokenizer import GraphTokenizer

_FLOAT32 = PrecisionConfig()


@dataclass(frozen=True)
class Servable:
    """A model with its tokenizer, and what its release tells of them.

    Attributes:
        what: how errors call it.
        model: computes in float32, or what its weights are to be stored in.
        tokenizer: its own.
        decoding: what generation must know besides the weights.
        length: inputs of a window that is scored.
        config: for the lineage: the run's, or what is known of published weights.
        dataset_hash: of what it was trained on; None of published weights.
        step: of the checkpoint; 0 of published weights.
        remedy: what to do where a weight or an answer is not finite.
        facts: further fields of the lineage, by name.
        graph: the tokenizer's graph, where another release has it already.
    """

    what: str
    model: LanguageModel
    tokenizer: Tokenizer
    decoding: Decoding
    length: int
    config: Mapping[str, Any]
    dataset_hash: str | None
    step: int
    remedy: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    graph: GraphTokenizer | None = None


def servable_of_run(opened: Run) -> Servable:
    """Returns what a run's checkpoint is released as.

    Raises:
        UsageError: its tokenizer is not its dataset's, or encoded otherwise.
    """
    return Servable(
        what=f"the run's step {opened.step:,}",
        model=opened.model,
        tokenizer=open_tokenizer(opened),
        decoding=decoding_of(opened),
        length=opened.config.sequence_length,
        config=dataclasses.asdict(opened.config),
        dataset_hash=opened.manifest.dataset_hash,
        step=opened.step,
        remedy="Export an earlier checkpoint",
        facts=facts_of(opened),
    )


def servable_of_published(
    directory: str, precision: PrecisionConfig = _FLOAT32
) -> Servable:
    """Returns what published weights are released as, without training.

    Raises:
        UsageError: they are not supported or not whole, or no graph can reproduce
            their tokenizer.
    """
    published = open_published(directory)
    config = published.config
    tokenizer = open_published_tokenizer(directory)
    config.decoder.ids(tokenizer.vocab_size)
    model = build_published(published, precision, config.decoder)
    length = config.decoder.max_positions or 0
    return Servable(
        what=f"the published weights in {directory}",
        model=model,
        tokenizer=tokenizer,
        decoding=decoding_of_published(directory, tokenizer, model.context(length)),
        length=length,
        config={
            "model": dataclasses.asdict(config.decoder),
            "published": {"digest": published.digest, "config": dict(config.fields)},
        },
        dataset_hash=None,
        step=0,
        remedy="Take other weights",
        facts={"parameters": count_parameters(model)},
    )


def decoding_of_published(
    directory: str, tokenizer: Tokenizer, context: int | None
) -> Decoding:
    """Returns what generation must know of published weights besides them.

    Args:
        directory: where they are.
        tokenizer: theirs.
        context: positions that decoding may use; None is any number.
    """
    return Decoding(
        bos_id=tokenizer.bos_id,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        context=context,
        stop_ids=further_stop_ids(directory, tokenizer),
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


def check_servable(manifest: Manifest) -> None:
    """Raises `UsageError` for a run whose model a release would use otherwise."""
    if "prefix_lengths" in manifest.features:
        raise UsageError(
            "wanted a run that reads from left to right, found one of the objective "
            f"{manifest.objective}, whose prompts are read whole: no release does that "
            "yet. Train on another objective to serve the model"
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
