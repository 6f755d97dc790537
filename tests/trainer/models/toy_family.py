# SPDX-License-Identifier: Apache-2.0
"""A family of one file: embedding, one linear layer, output.

It knows an id by the one before it, keeps no state, and has a bias that is not trained.
"""

from dataclasses import dataclass

import tensorflow as tf

from trainer.models.language_model import ModelConfig, PrecisionConfig
from trainer.models.parameters import product_flops
from trainer.models.parts.layers import Initializer
from trainer.models.parts.weights import Role, Weight


@dataclass(frozen=True)
class Config(ModelConfig):
    width: int = 24

    def build(self, vocab_size, precision: PrecisionConfig, initializer: Initializer):
        return Toy(self, vocab_size, precision, initializer)


class Toy(tf.Module):
    def __init__(self, config, vocab_size, precision, initializer):
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self.compute_dtype = tf.as_dtype(precision.compute)
        width, make = config.width, initializer
        rows = [vocab_size, width]
        self.seen = make.normal("seen", rows, 0.1, Weight(Role.EMBEDDING))
        self.turn = make.normal("turn", [width, width], 0.2, Weight(Role.MATRIX))
        self.shift = make.constant("shift", [width], 0.5, Weight(Role.BIAS), False)
        self.said = make.normal("said", rows, 0.1, Weight(Role.OUTPUT))

    def __call__(self, tokens, segment_ids, positions, *, prefix=None, **_):
        x = tf.gather(tf.convert_to_tensor(self.seen), tokens)
        x = tf.cast(tf.nn.relu(x + self.shift), self.compute_dtype)
        return tf.einsum("btd,de->bte", x, tf.cast(self.turn, x.dtype))

    def logits(self, hidden):
        said = tf.cast(self.said, hidden.dtype)
        return tf.cast(tf.einsum("...d,vd->...v", hidden, said), tf.float32)

    def output_weights(self):
        return self.said

    def initial_state(self, batch, capacity):
        return tf.zeros([batch, 0])

    def with_capacity(self, state, capacity):
        return state

    def decode(self, tokens, state, positions, lengths, *, owned=False):
        return self(tokens, tokens, tokens), state

    def context(self, sequence_length):
        return None

    def flops_per_token(self, sequence_length):
        return product_flops(self, {Role.MATRIX, Role.OUTPUT})

    def activation_bytes(self, rows, sequence_length):
        return rows * sequence_length * 3 * 4 * self.config.width
