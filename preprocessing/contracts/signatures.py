# SPDX-License-Identifier: Apache-2.0
"""What a release answers: its signatures, their inputs and their outputs.

    serving_default   prompt -> text
    generate          prompt, max_new_tokens, temperature, top_k, top_p, seed
                      -> text, token_ids, num_tokens, finish_reason
    score             text -> log_likelihood, num_tokens, num_bytes
    tokenize          text -> token_ids, num_tokens

The one table of them: the graph, its check, the expected answers, the warm-up and batch
generation follow it. Every input and output has an entry per row: TensorFlow Serving's
batching refuses scalars, and its REST interface refuses inputs left out, hence the
small first one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

STRING = "string"
# Several ids a row, padded on the right to the longest row of the batch.
IDS = (None,)


@dataclass(frozen=True)
class Output:
    """A named answer.

    Attributes:
        name: of the tensor.
        dtype: numpy's name of a number's type, or `STRING`, UTF-8.
        meaning: what it tells.
        shape: of one row's entry; None is any size.
    """

    name: str
    dtype: str
    meaning: str
    shape: tuple[int | None, ...] = ()


@dataclass(frozen=True)
class Input:
    """A named argument, one value a row.

    Attributes:
        name: of the tensor.
        dtype: as an output's.
        meaning: what it asks for.
        warmup: what a request that only warms up sends.
    """

    name: str
    dtype: str
    meaning: str
    warmup: str | int | float


@dataclass(frozen=True)
class Signature:
    """What goes into a function of a release, in order, and what comes out."""

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]

    def fed(self, values: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Returns what to feed: numbers as arrays `[batch]`, texts as lists of bytes.

        Raises:
            KeyError: an input is left out.
        """
        return {each.name: _typed(each, values[each.name]) for each in self.inputs}


_PROMPT = Input("prompt", STRING, "text to continue", "Once upon a time")
_DOCUMENT = Input("text", STRING, "a whole document", "Once upon a time")
_ANSWER = Output("text", STRING, "the continuation, without the prompt")
_NUM_TOKENS = Output("num_tokens", "int32", "ids of the row")

SIGNATURES: Mapping[str, Signature] = {
    "serving_default": Signature((_PROMPT,), (_ANSWER,)),
    "generate": Signature(
        (
            _PROMPT,
            Input("max_new_tokens", "int32", "the most ids to generate", 2),
            Input("temperature", "float32", "0 or less is greedy", 1.0),
            Input("top_k", "int32", "likeliest ids sampled among; 0 for all", 40),
            Input("top_p", "float32", "mass of the ids sampled among; 1 for all", 1.0),
            Input("seed", "int64", "the row's own", 1),
        ),
        (
            _ANSWER,
            Output("token_ids", "int32", "the new ids, PAD behind them, no EOS", IDS),
            _NUM_TOKENS,
            Output("finish_reason", STRING, "stop at EOS, length at a limit"),
        ),
    ),
    "score": Signature(
        (_DOCUMENT,),
        (
            Output("log_likelihood", "float32", "natural logarithm, over the targets"),
            _NUM_TOKENS,
            Output("num_bytes", "int32", "UTF-8 bytes of the targets"),
        ),
    ),
    "tokenize": Signature(
        (_DOCUMENT,),
        (
            Output("token_ids", "int32", "ids without BOS and EOS, PAD behind", IDS),
            _NUM_TOKENS,
        ),
    ),
}


def _typed(each: Input, values: Sequence[Any]) -> np.ndarray | list[bytes]:
    if each.dtype == STRING:
        return [text.encode() for text in values]
    return np.array(values, each.dtype)
