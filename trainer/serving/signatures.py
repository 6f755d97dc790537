# SPDX-License-Identifier: Apache-2.0
"""What computes a release's answers: text in, text out, the tokenizer in the graph.

There is a function for each signature of the table in
`preprocessing.contracts.signatures`.
"""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from preprocessing.tokenizer.tokenizer import Tokenizer
from trainer.models.language_model import LanguageModel
from trainer.serving.embed import embed
from trainer.serving.generate import Decoding, Generation, generate
from trainer.serving.graph_tokenizer import GraphTokenizer
from trainer.serving.sampling import Sampling
from trainer.serving.score import pair_ids, score, score_pairs
from trainer.serving.slot_graphs import NAMES, SlotGraphs, inputs_of
from trainer.serving.stop_graph import Stops, stops_of

# What `serving_default` asks for: enough to see a sentence end, little enough to answer
# within the 30 s that TensorFlow Serving's REST interface waits. Greedy, so that the
# same prompt has the same answer.
DEFAULT_MAX_NEW_TOKENS = 64


def _reading_weights(method: Callable[..., Any]) -> Callable[..., Any]:
    """Has a signature read the weights once, where it begins, and compute with them."""

    @functools.wraps(method)
    def run(self: "TextModel", *tensors: tf.Tensor) -> Any:
        with self._called():
            return method(self, *tensors)

    return run


class StoredModel(Protocol):
    """A `tf.Module` of weights that stand in for a model's."""

    def called(self) -> AbstractContextManager[None]:
        """Has the model compute with them until the block ends."""


class TextModel(tf.Module):
    """A language model with its tokenizer, every signature a method.

    Attributes:
        model: the model, where its weights are stored as they are.
        weights: what is stored of them otherwise.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        decoding: Decoding,
        sequence_length: int,
        weights: StoredModel | None = None,
        graph: GraphTokenizer | None = None,
    ) -> None:
        """Makes the module.

        Args:
            model: the model.
            tokenizer: its own.
            decoding: what generation must know besides the weights.
            sequence_length: ids of a window that is scored.
            weights: what is saved of the model's weights; None saves the model's own.
            graph: the tokenizer's, where another module has it already.
        """
        super().__init__()
        # What an attribute holds is saved: the model only where its own weights are.
        if weights is None:
            self.model = model
        else:
            self.weights = weights
        self._get_model: Callable[[], LanguageModel] = lambda: model
        self._called = nullcontext if weights is None else weights.called
        self.tokenizer = graph or GraphTokenizer(tokenizer)
        self._decoding, self._sequence_length = decoding, sequence_length
        sizes = [len(token) for token in tokenizer.token_bytes()]
        self._token_bytes = np.array(sizes, np.int32)
        self.slots = SlotGraphs(model, decoding)
        self._of_slots = {name: self._slot_function(name) for name in NAMES}

    def signatures(self) -> dict[str, tf.types.experimental.GenericFunction]:
        """Returns the functions to save, by the name of their signature."""
        return {
            "serving_default": self.complete,
            "generate": self.generate,
            "score": self.score,
            "score_continuation": self.score_continuation,
            "embed": self.embed,
            "tokenize": self.tokenize,
            "detokenize": self.detokenize,
            **self._of_slots,
        }

    @tf.function(autograph=False, input_signature=inputs_of("serving_default"))
    @_reading_weights
    def complete(self, prompt: tf.Tensor) -> dict[str, tf.Tensor]:
        """Continues each prompt greedily by up to `DEFAULT_MAX_NEW_TOKENS` ids."""
        return {"text": self._text(self._generate(prompt, greedy(tf.size(prompt))))}

    @tf.function(autograph=False, input_signature=inputs_of("generate"))
    @_reading_weights
    def generate(
        self,
        prompt: tf.Tensor,
        max_new_tokens: tf.Tensor,
        temperature: tf.Tensor,
        top_k: tf.Tensor,
        top_p: tf.Tensor,
        min_p: tf.Tensor,
        repetition_penalty: tf.Tensor,
        stop: tf.Tensor,
        seed: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Continues each prompt as its own parameters say (`Sampling`, `Stops`)."""
        drawn = max_new_tokens, temperature, top_k, top_p, seed
        sampling = Sampling(*drawn, min_p, repetition_penalty)
        stops = stops_of(stop, self.tokenizer.token_bytes())
        made = self._generate(prompt, sampling, stops, with_logprobs=True)
        answers = made._asdict()
        del answers["num_bytes"]
        return {"text": self._text(made), **answers}

    @tf.function(autograph=False, input_signature=inputs_of("score"))
    @_reading_weights
    def score(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scores each text as a whole document; see `trainer.serving.score`."""
        ids = self.tokenizer.encode(text)
        batch = ids.nrows()
        parts = [ids, tf.fill([batch, 1], self._decoding.eos_id)]
        if self._decoding.bos_id is not None:
            parts.insert(0, tf.fill([batch, 1], self._decoding.bos_id))
        documents = tf.concat(parts, axis=1)
        sizes = tf.constant(self._token_bytes)
        return score(
            self._get_model(), documents, self._sequence_length, sizes
        )._asdict()

    @tf.function(autograph=False, input_signature=inputs_of("score_continuation"))
    @_reading_weights
    def score_continuation(
        self, prompt: tf.Tensor, continuation: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Scores what follows each prompt; see `pair_ids` for the ids between them."""
        sizes = tf.constant(self._token_bytes)
        # Concatenated, not joined: one row would be repeated beside several.
        together = tf.stack([prompt, continuation], axis=1)
        whole = self.tokenizer.encode(tf.strings.reduce_join(together, axis=1))
        prompts = self.tokenizer.encode(prompt)
        pairs = pair_ids(prompts, whole, sizes, self._decoding)
        context = self._decoding.context
        return score_pairs(self._get_model(), pairs, context, sizes)._asdict()

    @tf.function(autograph=False, input_signature=inputs_of("embed"))
    @_reading_weights
    def embed(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Turns each text into vectors; see `trainer.serving.embed`."""
        ids = self.tokenizer.encode(text)
        return embed(self._get_model(), ids, self._decoding)._asdict()

    @tf.function(autograph=False, input_signature=inputs_of("tokenize"))
    def tokenize(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """Encodes each text, without BOS and EOS, padded on the right with PAD."""
        ids = self.tokenizer.encode(text)
        padded = ids.to_tensor(self._decoding.pad_id)
        lengths = tf.cast(ids.row_lengths(), tf.int32)
        return {"token_ids": padded, "num_tokens": lengths}

    @tf.function(autograph=False, input_signature=inputs_of("detokenize"))
    def detokenize(
        self, token_ids: tf.Tensor, num_tokens: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Returns the texts of ids, whatever stands behind those of a row."""
        size = tf.shape(token_ids)[1]
        lengths = tf.clip_by_value(num_tokens, 0, size)
        ids = tf.RaggedTensor.from_tensor(token_ids, lengths=lengths)
        return {"text": tf.ensure_shape(self.tokenizer.decode(ids), [None])}

    def _slot_function(self, name: str) -> tf.types.experimental.GenericFunction:
        """Returns the function of `prefill`, `insert` or `decode`; see `slots`."""

        def run(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
            with self._called():
                return self.slots.run(name, tensors)

        specs = self.slots.specs(name)
        return tf.function(run, autograph=False, input_signature=specs)

    def _generate(
        self,
        prompt: tf.Tensor,
        sampling: Sampling,
        stops: Stops | None = None,
        with_logprobs: bool = False,
    ) -> Generation:
        prompts, model = self.tokenizer.encode(prompt), self._get_model()
        return generate(model, prompts, sampling, self._decoding, stops, with_logprobs)

    def _text(self, generation: Generation) -> tf.Tensor:
        ids = tf.RaggedTensor.from_tensor(
            generation.token_ids, lengths=generation.num_tokens
        )
        return tf.ensure_shape(self.tokenizer.decode(ids, generation.num_bytes), [None])


def greedy(batch: tf.Tensor) -> Sampling:
    """Returns what `serving_default` asks for, `[batch]` of each parameter."""
    return Sampling(
        max_new_tokens=tf.fill([batch], DEFAULT_MAX_NEW_TOKENS),
        temperature=tf.zeros([batch]),
        top_k=tf.zeros([batch], tf.int32),
        top_p=tf.ones([batch]),
        seed=tf.zeros([batch], tf.int64),
    )
