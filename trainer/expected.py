# SPDX-License-Identifier: Apache-2.0
"""What the trainer itself answers to a few requests, for the release check to repeat.

The prompts are encoded by the corpus side's tokenizer and continued by `generate` on
the restored checkpoint, before anything is saved: a release that answers the same has
the same weights, the same ids and the same text.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing.tokenizer import Tokenizer
from trainer.generate import Decoding, Generation, generate
from trainer.models.model import LanguageModel
from trainer.sampling import Sampling
from trainer.score import score
from trainer.signatures import greedy

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
_NEW_TOKENS = (16, 1, 24, 8, 0, 12)
_TEMPERATURES = (0.0, 0.7, 1.0, 1.3, 0.0, 0.8)
_TOP_K = (0, 0, 5, 0, 0, 40)
_TOP_P = (1.0, 0.9, 1.0, 1.0, 1.0, 0.5)
_SEEDS = (0, 1, 2, 3, 4, -5)


def expected_answers(
    model: LanguageModel,
    tokenizer: Tokenizer,
    decoding: Decoding,
    sequence_length: int,
) -> dict[str, Any]:
    """Returns signature -> {"inputs", "outputs"}, each a name -> list of values."""
    ids, lengths = tokenizer.encode_batch(PROMPTS)
    prompts = _ragged(ids, lengths)
    settings = {
        "max_new_tokens": list(_NEW_TOKENS),
        "temperature": list(_TEMPERATURES),
        "top_k": list(_TOP_K),
        "top_p": list(_TOP_P),
        "seed": list(_SEEDS),
    }
    chosen = Sampling(
        tf.constant(_NEW_TOKENS),
        tf.constant(_TEMPERATURES),
        tf.constant(_TOP_K),
        tf.constant(_TOP_P),
        tf.constant(_SEEDS, tf.int64),
    )
    run = tf.function(
        lambda sampling: generate(model, prompts, sampling, decoding), autograph=False
    )
    plain = _readable(run(greedy(len(PROMPTS))), tokenizer)
    sampled = _readable(run(chosen), tokenizer)
    return {
        "serving_default": {
            "inputs": {"prompt": list(PROMPTS)},
            "outputs": {"text": plain["text"]},
        },
        "generate": {
            "inputs": {"prompt": list(PROMPTS), **settings},
            "outputs": sampled,
        },
        "score": {
            "inputs": {"text": list(PROMPTS)},
            "outputs": _score(model, tokenizer, sequence_length),
        },
    }


def _readable(generation: Generation, tokenizer: Tokenizer) -> dict[str, list[Any]]:
    lengths = generation.num_tokens.numpy()
    rows = generation.token_ids.numpy()
    texts = [
        tokenizer.decode(row[:length].tolist())
        for row, length in zip(rows, lengths, strict=True)
    ]
    reasons = generation.finish_reason.numpy()
    return {
        "text": texts,
        "token_ids": rows.tolist(),
        "num_tokens": lengths.tolist(),
        "finish_reason": [reason.decode() for reason in reasons],
    }


def _score(
    model: LanguageModel, tokenizer: Tokenizer, sequence_length: int
) -> dict[str, list[Any]]:
    documents = _ragged(*tokenizer.encode_documents(PROMPTS))
    sizes = tf.constant([len(token) for token in tokenizer.token_bytes()])
    run = tf.function(score, autograph=False)
    result = run(model, documents, sequence_length, sizes)
    return {name: value.numpy().tolist() for name, value in result._asdict().items()}


def _ragged(ids: np.ndarray, lengths: Sequence[int] | np.ndarray) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_row_lengths(
        tf.constant(ids.astype(np.int32)), tf.constant(lengths, tf.int64)
    )
