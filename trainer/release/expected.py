# SPDX-License-Identifier: Apache-2.0
"""What the trainer itself answers to a few requests, for the release check to repeat.

The prompts are encoded by the corpus side's tokenizer and continued by `generate` on
the restored checkpoint, before anything is saved: a release that answers the same has
the same weights, the same ids and the same text.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing.contracts.signatures import SIGNATURES, STOP_DIVIDER
from preprocessing.tokenizer.tokenizer import Tokenizer
from trainer.models.model import LanguageModel
from trainer.serving.embed import embed
from trainer.serving.generate import Decoding, Generation, generate, texts_of
from trainer.serving.sampling import Sampling
from trainer.serving.score import Score, pair_ids, score, score_pairs
from trainer.serving.signatures import greedy
from trainer.serving.stop_graph import stops_of

# Answered together in one batch, so their lengths must differ: empty, one word, code,
# scripts and emoji, runs of space, and one longer than any small context.
PROMPTS = (
    "",
    "The",
    "def main(argv):\n    ",
    "Größe, naïve café, 東京都, 한국어, العربية 🙂 e\u0301",
    "  two  spaces\tand a tab\r\n\r\n",
    "One sentence after another, and so on and on. " * 40,
)
# Behind them: nothing, within a word, behind a space, across scripts, and a long one.
CONTINUATIONS = (
    "The",
    "",
    "return 0\n",
    "\u0302 é",
    "\n  and so on",
    "So on and so forth. " * 40,
)
# Vectors are long: one word, and a text above any small context.
EMBEDDED = (PROMPTS[1], PROMPTS[-1])
_SETTINGS: Mapping[str, list[Any]] = {
    "max_new_tokens": [16, 1, 24, 8, 0, 12],
    "temperature": [0.0, 0.7, 1.0, 1.3, 0.0, 0.8],
    "top_k": [0, 0, 5, 0, 0, 40],
    "top_p": [1.0, 0.9, 1.0, 1.0, 1.0, 0.5],
    "min_p": [0.0, 0.0, 0.2, 0.0, 0.0, 0.05],
    "repetition_penalty": [1.0, 1.0, 1.2, 0.9, 1.0, 1.3],
    # A vowel ends what any model says, before long.
    "stop": ["", "\n", STOP_DIVIDER.join(["e", "in"]), "a", "", "o"],
    "seed": [0, 1, 2, 3, 4, -5],
}


def expected_answers(
    model: LanguageModel,
    tokenizer: Tokenizer,
    decoding: Decoding,
    sequence_length: int,
) -> dict[str, Any]:
    """Returns signature -> {"inputs", "outputs"}, each a name -> list of values."""
    prompts = _ragged(*tokenizer.encode_batch(PROMPTS))
    requests: dict[str, list[Any]] = {"prompt": list(PROMPTS), **_SETTINGS}
    # As a graph tokenizer has it: behind the last id an empty one.
    table = np.array([*tokenizer.token_bytes(), b""], dtype=object)

    @tf.function(autograph=False)
    def run(sampling: Sampling, stop: tf.Tensor) -> Generation:
        stops = stops_of(stop, tf.constant(table))
        return generate(model, prompts, sampling, decoding, stops, with_logprobs=True)

    fed = SIGNATURES["generate"].fed(requests)
    del fed["prompt"]
    stop = tf.constant(fed.pop("stop"))
    chosen = Sampling(**{name: tf.constant(value) for name, value in fed.items()})
    sampled = _readable(run(chosen, stop), tokenizer)
    # The same graph, which takes a second and more to trace: all of `greedy`, and
    # neither limits, penalties nor strings that end a row.
    usual = {k: v for k, v in greedy(len(PROMPTS))._asdict().items() if v is not None}
    without = {"min_p": tf.zeros_like(chosen.min_p)}
    without["repetition_penalty"] = tf.ones_like(chosen.repetition_penalty)
    plain = run(Sampling(**usual, **without), tf.fill([len(PROMPTS)], ""))
    return {
        "serving_default": {
            "inputs": {"prompt": list(PROMPTS)},
            "outputs": {"text": texts_of(plain, tokenizer)},
        },
        "generate": {
            "inputs": requests,
            "outputs": sampled,
        },
        "detokenize": _halves(tokenizer),
        "score": {
            "inputs": {"text": list(PROMPTS)},
            "outputs": _listed(_score(model, tokenizer, sequence_length)),
        },
        "score_continuation": {
            "inputs": {"prompt": list(PROMPTS), "continuation": list(CONTINUATIONS)},
            "outputs": _listed(_score_pairs(model, tokenizer, decoding)),
        },
        "embed": {
            "inputs": {"text": list(EMBEDDED)},
            "outputs": _embedded(model, tokenizer, decoding),
        },
    }


def _readable(generation: Generation, tokenizer: Tokenizer) -> dict[str, list[Any]]:
    reasons = generation.finish_reason.numpy()
    found = {
        "text": texts_of(generation, tokenizer),
        "token_ids": generation.token_ids.numpy().tolist(),
        "num_tokens": generation.num_tokens.numpy().tolist(),
        "finish_reason": [reason.decode() for reason in reasons],
    }
    if generation.logprobs is not None:
        found["logprobs"] = _rounded(generation.logprobs)
    return found


def _halves(tokenizer: Tokenizer) -> dict[str, Any]:
    """Returns texts of ids that end anywhere, within characters too."""
    rows = [tokenizer.encode_batch([text])[0].tolist() for text in PROMPTS[:-1]]
    width, counts = max(map(len, rows)), [len(row) // 2 for row in rows]
    texts = [
        tokenizer.decode(row[:count]) for row, count in zip(rows, counts, strict=True)
    ]
    padded = [row + [0] * (width - len(row)) for row in rows]
    inputs = {"token_ids": padded, "num_tokens": counts}
    return {"inputs": inputs, "outputs": {"text": texts}}


def _rounded(values: tf.Tensor) -> list[list[float]]:
    """Returns rows of numbers of six digits, which are more than what is compared."""
    return [[float(f"{x:.6g}") for x in row] for row in values.numpy().tolist()]


def _score(model: LanguageModel, tokenizer: Tokenizer, sequence_length: int) -> Score:
    documents = _ragged(*tokenizer.encode_documents(PROMPTS))
    run = tf.function(score, autograph=False)
    return run(model, documents, sequence_length, _sizes(tokenizer))


def _score_pairs(
    model: LanguageModel, tokenizer: Tokenizer, decoding: Decoding
) -> Score:
    together = [a + b for a, b in zip(PROMPTS, CONTINUATIONS, strict=True)]
    prompts, whole = (
        _ragged(*tokenizer.encode_batch(texts)) for texts in (PROMPTS, together)
    )
    sizes = _sizes(tokenizer)
    pairs = pair_ids(prompts, whole, sizes, decoding)
    run = tf.function(score_pairs, autograph=False)
    return run(model, pairs, decoding.context, sizes)


def _embedded(
    model: LanguageModel, tokenizer: Tokenizer, decoding: Decoding
) -> dict[str, list[Any]]:
    texts = _ragged(*tokenizer.encode_batch(EMBEDDED))
    run = tf.function(embed, autograph=False)
    found = run(model, texts, decoding)
    return {
        "mean": _rounded(found.mean),
        "last": _rounded(found.last),
        "num_tokens": found.num_tokens.numpy().tolist(),
    }


def _listed(found: Score) -> dict[str, list[Any]]:
    return {name: value.numpy().tolist() for name, value in found._asdict().items()}


def _sizes(tokenizer: Tokenizer) -> tf.Tensor:
    return tf.constant([len(token) for token in tokenizer.token_bytes()])


def _ragged(ids: np.ndarray, lengths: Sequence[int] | np.ndarray) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_row_lengths(
        tf.constant(ids.astype(np.int32)), tf.constant(lengths, tf.int64)
    )
