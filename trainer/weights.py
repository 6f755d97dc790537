# SPDX-License-Identifier: Apache-2.0
"""A model in a notebook or a test: from published weights, a run or a release.

from trainer.weights import load_model

model = load_model("Qwen3-0.6B")            # or a run, or models/quern
model.logits(input_ids=[[1, 2, 3]])         # float32 [batch, length, vocab_size]
model.generate(["Once upon a time"], max_new_tokens=20)
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing.contracts.manifest import MANIFEST_NAME
from preprocessing.foundation import storage
from preprocessing.foundation.commands import UsageError
from preprocessing.tokenizer.tokenizer import Tokenizer
from trainer.models.language_model import LanguageModel, PrecisionConfig
from trainer.published.known_families import CONFIG_NAME
from trainer.published.published_model import load_published
from trainer.published.published_tokenizer import (
    open_published_tokenizer,
    published_stop_ids,
)
from trainer.release.reopened import servable_of_release
from trainer.release.servable import decoding_of_published, servable_of_run
from trainer.run.checkpoints import open_run
from trainer.serving.engine.engine import continue_all
from trainer.serving.engine.prompts import as_read
from trainer.serving.engine.requests import SlotRequest
from trainer.serving.generate import Decoding
from trainer.serving.slot_models import slots_of_model

# Prompts that decode together.
_ROWS = 32


class LoadedModel:
    """A model with its weights, computing in float32, and its tokenizer.

    Attributes:
        model: the model, a `tf.Module`; see `trainer.models.language_model`.
        tokenizer: its own; None where published weights have none that is read.
        decoding: what generation must know besides the weights.
    """

    def __init__(
        self,
        model: LanguageModel,
        decoding: Decoding,
        tokenizer: Tokenizer | None,
        refusal: UsageError | None = None,
    ) -> None:
        """Takes what `load_model` found; `refusal` says why there is no tokenizer."""
        self.model, self.decoding, self.tokenizer = model, decoding, tokenizer
        self._refusal = refusal
        self._logits = tf.function(
            self._compute_logits,
            autograph=False,
            input_signature=[tf.TensorSpec([None, None], tf.int32)],
        )
        self._slots = slots_of_model(model, decoding)

    def logits(self, input_ids: Any) -> tf.Tensor:
        """Returns what the model holds of each next id.

        Args:
            input_ids: int32 `[batch, length]`, rows of one document each.

        Returns:
            float32 `[batch, length, vocab_size]`.

        Raises:
            UsageError: they are no such rows, or of ids that the model does not have.
        """
        ids = np.asarray(input_ids)
        if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
            raise UsageError(
                "wanted input_ids of the shape [batch, length] and of integers, found "
                f"{list(ids.shape)} of {ids.dtype}. Give rows of equal lengths"
            )
        self._check_ids(ids.reshape(-1).tolist())
        return self._logits(tf.constant(ids, tf.int32))

    def generate(
        self,
        prompts: str | Sequence[str] | Sequence[Sequence[int]],
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Any:
        """Continues prompts, as a release's signature `generate` does.

        Args:
            prompts: texts, or rows of ids as the model is to read them.
            max_new_tokens: most ids of a continuation.
            temperature: 0 is greedy.
            top_k: sample among the k likeliest; 0 among all.
            top_p: sample among the fewest ids whose mass reaches p.
            seed: of the first prompt; the next have the numbers that follow.

        Returns:
            A text for each text (of one text alone, that of it), or a list of ids for
            each row of ids; neither holds what ended it.

        Raises:
            UsageError: texts, and there is no tokenizer to read them.
        """
        if isinstance(prompts, str):
            return self.generate(
                [prompts], max_new_tokens, temperature, top_k, top_p, seed
            )[0]
        texts = [prompt for prompt in prompts if isinstance(prompt, str)]
        if texts and len(texts) < len(prompts):
            raise UsageError(
                "wanted prompts that are all texts or all rows of ids, found both. "
                "Ask for them apart"
            )
        rows = self._encode(texts) if texts else [[*map(int, row)] for row in prompts]
        self._check_ids([id for row in rows for id in row])
        decoding = self.decoding if texts else replace(self.decoding, bos_id=None)
        requests = [
            SlotRequest(
                place,
                *as_read(row, max_new_tokens, decoding),
                temperature=float(temperature),
                top_k=top_k,
                top_p=float(top_p),
                seed=seed + place,
            )
            for place, row in enumerate(rows)
        ]
        found = continue_all(self._slots, requests, _ROWS)
        if texts and self.tokenizer is not None:
            return [self.tokenizer.decode(ids) for ids in found]
        return found

    def _compute_logits(self, ids: tf.Tensor) -> tf.Tensor:
        positions = tf.zeros_like(ids) + tf.range(tf.shape(ids)[1])
        return self.model.logits(self.model(ids, tf.ones_like(ids), positions))

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        if self.tokenizer is None:
            assert self._refusal is not None
            raise self._refusal
        ids, lengths = self.tokenizer.encode_batch(texts)
        return [row.tolist() for row in np.split(ids, np.cumsum(lengths)[:-1])]

    def _check_ids(self, ids: Sequence[int]) -> None:
        """Raises `UsageError` for an id that the model does not have."""
        odd = next((id for id in ids if not 0 <= id < self.model.vocab_size), None)
        if odd is not None:
            raise UsageError(
                f"wanted ids from 0 to {self.model.vocab_size - 1:,}, found {odd:,}. "
                "Encode with the model's own tokenizer"
            )


def load_model(path: str) -> LoadedModel:
    """Reads a model, to compute in float32.

    Args:
        path: a directory of published weights in Hugging Face's form, a run's (its last
            checkpoint), a release's or that of its versions; local or cloud.

    Raises:
        UsageError: it is none of them, or not whole.
    """
    if storage.exists(storage.join(path, MANIFEST_NAME)):
        of_run = servable_of_run(open_run(path, precision=PrecisionConfig()))
        return LoadedModel(of_run.model, of_run.decoding, of_run.tokenizer)
    if storage.exists(storage.join(path, CONFIG_NAME)):
        return _load_published(path)
    try:
        release = servable_of_release(path)
    except UsageError as error:
        if storage.is_dir(path) and storage.list_names(path):
            raise
        raise UsageError(
            f"wanted a run, a release, or published weights with their {CONFIG_NAME} "
            f"at {path}, found none of them. Check the path"
        ) from error
    return LoadedModel(release.model, release.decoding, release.tokenizer)


def _load_published(directory: str) -> LoadedModel:
    """Reads published weights, and their tokenizer if it is one that can be read."""
    config, model = load_published(directory)
    context = model.context(config.decoder.max_positions or 0)
    try:
        tokenizer = open_published_tokenizer(directory)
    except UsageError as error:
        first, *others = published_stop_ids(directory) or (-1,)
        decoding = Decoding(None, first, 0, context, stop_ids=tuple(others))
        return LoadedModel(model, decoding, None, error)
    decoding = decoding_of_published(directory, tokenizer, context)
    return LoadedModel(model, decoding, tokenizer)
