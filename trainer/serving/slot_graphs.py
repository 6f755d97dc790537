# SPDX-License-Identifier: Apache-2.0
"""The calls of a slot model as functions of tensors in the order of their signature.

A model's states are nests of its own making; here they are lists of tensors.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from preprocessing.contracts.signatures import SIGNATURES, STATE
from trainer.models.language_model import LanguageModel
from trainer.serving import slots
from trainer.serving.generate import Decoding
from trainer.serving.sampling import Sampling

NAMES = ("prefill", "insert", "decode")


def inputs_of(signature: str) -> list[tf.TensorSpec]:
    """Returns what a signature of the table takes, in its order, but for states."""
    return [
        tf.TensorSpec([None, *each.shape], each.dtype, name=each.name)
        for each in SIGNATURES[signature].inputs
    ]


class SlotGraphs:
    """What a language model computes for slots; called within a graph.

    Attributes:
        states: the tensors of a state, the rows' and positions' sizes open.
    """

    def __init__(self, model: LanguageModel, decoding: Decoding) -> None:
        self._model, self._decoding = model, decoding
        size = tf.TensorSpec([], tf.int32)
        made = tf.function(model.initial_state, autograph=False)
        self._nest = made.get_concrete_function(size, size).structured_outputs
        self.states = [
            tf.TensorSpec(each.shape, each.dtype)
            for each in tf.nest.flatten(self._nest)
        ]

    def specs(self, name: str) -> list[tf.TensorSpec]:
        """Returns the inputs of a signature, states behind the others."""
        named = [
            tf.TensorSpec(each.shape, each.dtype, f"{state}_{index}")
            for state in SIGNATURES[name].states
            for index, each in enumerate(self.states)
        ]
        return [*inputs_of(name), *named]

    def run(self, name: str, tensors: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
        """Computes what the signature of a name does, of inputs in its order."""
        named, size = SIGNATURES[name].inputs, len(self.states)
        inputs = {each.name: t for each, t in zip(named, tensors, strict=False)}
        firsts = [len(named) + size * i for i in range(len(SIGNATURES[name].states))]
        state, *others = [
            tf.nest.pack_sequence_as(self._nest, tensors[first : first + size])
            for first in firsts
        ]
        if name == "decode":
            return self._decode(inputs, state)
        if name == "prefill":
            read = slots.Read(**inputs)
            return self._named(slots.prefill(self._model, state, read, self._decoding))
        where = slots.Insertion(**inputs)
        (fresh,) = others
        return self._named(
            slots.insert(self._model, state, fresh, where, self._decoding)
        )

    def _decode(self, inputs: dict[str, tf.Tensor], state: Any) -> dict[str, tf.Tensor]:
        rows = slots.SlotRows(*(inputs.pop(name) for name in slots.SlotRows._fields))
        history = inputs.pop("history")
        sampling = Sampling(max_new_tokens=rows.steps, **inputs)
        made = slots.decode(self._model, state, rows, sampling, history, self._decoding)
        answers = made._asdict()
        return self._named(answers.pop("state")) | answers

    def _named(self, state: Any) -> dict[str, tf.Tensor]:
        """Returns a state's tensors under their names, with the shapes of `states`."""
        found = zip(tf.nest.flatten(state), self.states, strict=True)
        return {
            f"{STATE}_{index}": tf.ensure_shape(each, spec.shape)
            for index, (each, spec) in enumerate(found)
        }
