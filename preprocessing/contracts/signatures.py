# SPDX-License-Identifier: Apache-2.0
"""What a release answers: its signatures, their inputs and their outputs.

    serving_default   prompt -> text
    generate          prompt, max_new_tokens, temperature, top_k, top_p, min_p,
                      repetition_penalty, stop, seed
                      -> text, token_ids, num_tokens, finish_reason, logprobs
    score             text -> log_likelihood, num_tokens, num_bytes, is_greedy
    score_continuation   prompt, continuation -> the same
    embed             text -> mean, last, num_tokens
    tokenize          text -> token_ids, num_tokens
    detokenize        token_ids, num_tokens -> text
    prefill           token_ids, position, num_tokens, source, state -> state
    insert            slot, capacity, state, fresh -> state
    decode            token_ids, num_tokens, position, steps, count, temperature, top_k,
                      top_p, min_p, repetition_penalty, seed, history, state
                      -> state, token_ids, num_tokens, stopped

The last three are for whoever keeps slots that are refilled, as batch generation does:
`trainer/serving/slots.py` says what each promises. A state is as many tensors as the
model has, `state_0`, `state_1` and on, a row each; zeros with 1 for every open size are
an empty one.

The one table of them: the graph, its check, the expected answers, the warm-up and batch
generation follow it. Every input and output has an entry per row: TensorFlow Serving's
batching refuses scalars, and its REST interface refuses inputs left out, hence the
small first one. `stop` is one text a row for the same reason: that batching merges
requests only where all sizes but the first are equal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

STRING = "string"
# Between the strings of a row's `stop`: no text of a corpus holds it.
STOP_DIVIDER = "\0"
# Several ids a row, padded on the right to the longest row of the batch.
IDS = (None,)
# A number for each of the model's hidden units, whose count only the model knows.
UNITS = (-1,)


@dataclass(frozen=True)
class Output:
    """A named answer.

    Attributes:
        name: of the tensor.
        dtype: numpy's name of a number's type, or `STRING`, UTF-8.
        meaning: what it tells.
        shape: of one row's entry; None is any size, -1 one that a release fixes.
    """

    name: str
    dtype: str
    meaning: str
    shape: tuple[int | None, ...] = ()


@dataclass(frozen=True)
class Input:
    """A named argument, an entry a row.

    Attributes:
        name: of the tensor.
        dtype: as an output's.
        meaning: what it asks for.
        warmup: what a request that only warms up sends.
        shape: of one row's entry; None is any size.
    """

    name: str
    dtype: str
    meaning: str
    warmup: str | int | float | Sequence[int]
    shape: tuple[int | None, ...] = ()


@dataclass(frozen=True)
class Signature:
    """What goes into a function of a release, in order, and what comes out.

    Attributes:
        inputs: the named ones.
        outputs: likewise.
        states: names of the states that go in behind the inputs; where there is one,
            a state comes out before the outputs.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    states: tuple[str, ...] = ()

    def fed(self, values: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Returns what to feed: numbers as arrays, texts as lists of bytes.

        Raises:
            KeyError: an input is left out.
        """
        named = {each.name: _typed(each, values[each.name]) for each in self.inputs}
        states = tuple(f"{name}_" for name in self.states)
        return named | {
            name: value for name, value in values.items() if name.startswith(states)
        }


_PROMPT = Input("prompt", STRING, "text to continue", "Once upon a time")
_DOCUMENT = Input("text", STRING, "a whole document", "Once upon a time")
_ANSWER = Output("text", STRING, "the continuation, without the prompt")
_NUM_TOKENS = Output("num_tokens", "int32", "ids of the row")
_TEMPERATURE = Input("temperature", "float32", "0 or less is greedy", 1.0)
_TOP_K = Input("top_k", "int32", "likeliest ids sampled among; 0 for all", 40)
_TOP_P = Input("top_p", "float32", "mass of the ids sampled among; 1 for all", 1.0)
_MIN_P = Input("min_p", "float32", "least share of the likeliest's; 0 for all", 0.1)
_PENALTY = Input("repetition_penalty", "float32", "1 for none", 1.1)
_SEED = Input("seed", "int64", "the row's own", 1)
_NEW_IDS = Output("token_ids", "int32", "the new ids, PAD behind them, no EOS", IDS)
STATE, FRESH = "state", "fresh"
_SCORE = (
    Output("log_likelihood", "float32", "natural logarithm, over the targets"),
    _NUM_TOKENS,
    Output("num_bytes", "int32", "UTF-8 bytes of the targets"),
    Output("is_greedy", "bool", "whether each target is the likeliest id there"),
)

SIGNATURES: Mapping[str, Signature] = {
    "serving_default": Signature((_PROMPT,), (_ANSWER,)),
    "generate": Signature(
        (
            _PROMPT,
            Input("max_new_tokens", "int32", "the most ids to generate", 2),
            _TEMPERATURE,
            _TOP_K,
            _TOP_P,
            _MIN_P,
            _PENALTY,
            Input("stop", STRING, "texts that end it, NUL between them", "\n\n"),
            _SEED,
        ),
        (
            _ANSWER,
            _NEW_IDS,
            _NUM_TOKENS,
            Output("finish_reason", STRING, "stop at EOS or a stop, length at a limit"),
            Output("logprobs", "float32", "natural, of each new id; 0 behind", IDS),
        ),
    ),
    "score": Signature((_DOCUMENT,), _SCORE),
    "score_continuation": Signature(
        (_PROMPT, Input("continuation", STRING, "text behind it", " there was")),
        _SCORE,
    ),
    "embed": Signature(
        (_DOCUMENT,),
        (
            Output("mean", "float32", "of the last hidden states of its ids", UNITS),
            Output("last", "float32", "the last hidden state of its last id", UNITS),
            _NUM_TOKENS,
        ),
    ),
    "tokenize": Signature(
        (_DOCUMENT,),
        (
            Output("token_ids", "int32", "ids without BOS and EOS, PAD behind", IDS),
            _NUM_TOKENS,
        ),
    ),
    "detokenize": Signature(
        (
            Input("token_ids", "int32", "ids, anything behind them", [0], IDS),
            Input("num_tokens", "int32", "how many of the row are read", 1),
        ),
        (Output("text", STRING, "without special ids, U+FFFD for half characters"),),
    ),
    "prefill": Signature(
        (
            Input("token_ids", "int32", "ids to read", [0], IDS),
            Input("position", "int32", "of the first; 0 begins anew", 0),
            Input("num_tokens", "int32", "how many of them there are", 1),
            Input("source", "int32", "the row of the state that goes on", 0),
        ),
        (),
        (STATE,),
    ),
    "insert": Signature(
        (
            Input("slot", "int32", "where the fresh row goes; -1 is nowhere", 0),
            Input("capacity", "int32", "positions to have room for", 16),
        ),
        (),
        (STATE, FRESH),
    ),
    "decode": Signature(
        (
            Input("token_ids", "int32", "the newest ids, to be read first", [0], IDS),
            Input("num_tokens", "int32", "how many of them there are, from 1", 1),
            Input("position", "int32", "of the first; 0 begins anew", 0),
            Input("steps", "int32", "the most ids to generate now", 2),
            Input("count", "int32", "ids generated before", 0),
            _TEMPERATURE,
            _TOP_K,
            _TOP_P,
            _MIN_P,
            _PENALTY,
            _SEED,
            Input("history", "int32", "ids that are penalised; -1 fills", [0], IDS),
        ),
        (
            _NEW_IDS,
            _NUM_TOKENS,
            Output("stopped", "bool", "whether an id that ends was met"),
        ),
        (STATE,),
    ),
}


def _typed(each: Input, values: Sequence[Any]) -> np.ndarray | list[bytes]:
    if each.dtype == STRING:
        return [text.encode() for text in values]
    return np.array(values, each.dtype)
