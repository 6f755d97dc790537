# SPDX-License-Identifier: Apache-2.0
"""Slot models for the engine: of a language model in memory, and of a release."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import tensorflow as tf

from preprocessing.contracts.signatures import FRESH, SIGNATURES, STATE
from trainer.models.language_model import LanguageModel
from trainer.serving.engine.slot_model import Inputs
from trainer.serving.generate import Decoding
from trainer.serving.slot_graphs import NAMES, SlotGraphs

State = list[tf.Tensor]
# A call by the names of its inputs, states among them.
_Call = Callable[[Mapping[str, tf.Tensor]], Mapping[str, tf.Tensor]]


class CalledSlots:
    """A slot model of three functions; states are lists of tensors.

    Args:
        calls: the functions of `prefill`, `insert` and `decode`.
        states: the tensors of a state.
    """

    def __init__(
        self, calls: Mapping[str, _Call], states: Sequence[tf.TensorSpec]
    ) -> None:
        self._calls, self._states = calls, states
        # They would be an operation a tensor, for each prompt that is alone.
        self._empty = dict[int, State]()

    def empty(self, rows: int) -> State:
        """Returns zeros, of size 1 where a size is open; the same at each call."""
        if rows not in self._empty:
            self._empty[rows] = [
                tf.zeros(
                    [rows, *(1 if n is None else n for n in each.shape[1:])], each.dtype
                )
                for each in self._states
            ]
        return self._empty[rows]

    def prefill(self, inputs: Inputs, state: State) -> State:
        """Reads pieces of prompts."""
        return self._state(self._run("prefill", inputs, {STATE: state}))

    def insert(self, inputs: Inputs, state: State, fresh: State) -> State:
        """Puts rows into slots."""
        states = {STATE: state, FRESH: fresh}
        return self._state(self._run("insert", inputs, states))

    def decode(
        self, inputs: Inputs, state: State
    ) -> tuple[State, np.ndarray, np.ndarray, np.ndarray]:
        """Continues rows."""
        found = self._run("decode", inputs, {STATE: state})
        names = [each.name for each in SIGNATURES["decode"].outputs]
        token_ids, num_tokens, stopped = (found[name].numpy() for name in names)
        return self._state(found), token_ids, num_tokens, stopped

    def num_bytes(self, state: State) -> int:
        """Returns the bytes of all tensors."""
        return sum(each.dtype.size * int(tf.size(each)) for each in state)

    def _run(
        self, name: str, inputs: Inputs, states: Mapping[str, State]
    ) -> Mapping[str, tf.Tensor]:
        fed = {key: tf.constant(value) for key, value in inputs.items()}
        for prefix, tensors in states.items():
            fed |= {f"{prefix}_{index}": each for index, each in enumerate(tensors)}
        return self._calls[name](fed)

    def _state(self, found: Mapping[str, tf.Tensor]) -> State:
        return [found[f"{STATE}_{index}"] for index in range(len(self._states))]


def slots_of_model(
    model: LanguageModel,
    decoding: Decoding,
    values: Callable[[], list[tf.Tensor]] = list,
    called_with: Callable[
        [list[tf.Tensor]], AbstractContextManager[Any]
    ] = lambda values: nullcontext(),
) -> CalledSlots:
    """Returns the slot model of a language model in memory.

    Args:
        model: the model.
        decoding: what must be known of it besides the weights.
        values: returns the values of its weights for a call; none are its own.
        called_with: within it the model computes with such values.
    """
    graphs = SlotGraphs(model, decoding)

    def call_of(name: str) -> _Call:
        @tf.function(autograph=False, reduce_retracing=True)
        def run(values: list[tf.Tensor], tensors: list[tf.Tensor]) -> Any:
            with called_with(values):
                return graphs.run(name, tensors)

        specs = graphs.specs(name)
        names = [each.name for each in specs]
        traced = dict[str, Any]()

        def call(fed: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
            given = values()
            if not traced:
                kinds = [tf.TensorSpec(each.shape, each.dtype) for each in given]
                traced["run"] = run.get_concrete_function(kinds, specs)
            return traced["run"](given, [fed[each] for each in names])

        return call

    return CalledSlots({name: call_of(name) for name in NAMES}, graphs.states)


def slots_of_signatures(signatures: Mapping[str, Any]) -> CalledSlots:
    """Returns the slot model of a SavedModel's signatures."""

    def call_of(name: str) -> _Call:
        return lambda fed: signatures[name](**fed)

    given = signatures["prefill"].structured_input_signature[1]
    count = sum(name.startswith(f"{STATE}_") for name in given)
    states = [given[f"{STATE}_{index}"] for index in range(count)]
    return CalledSlots({name: call_of(name) for name in NAMES}, states)
