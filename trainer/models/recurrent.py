# SPDX-License-Identifier: Apache-2.0
"""The recurrent family: embedding, GRU layers, dense to the vocabulary.

The GRU is the reset-after form of Keras and cuDNN (Cho et al. 2014, arXiv 1406.1078,
in the variant of its section 3 implementation notes); with W, U, b, c the input and
recurrent weights and their biases, * elementwise:

    z = sigmoid(x W_z + b_z + h U_z + c_z)          update gate
    r = sigmoid(x W_r + b_r + h U_r + c_r)          reset gate
    n = tanh(x W_n + b_n + r * (h U_n + c_n))       candidate
    h' = z * h + (1 - z) * n

The state is zero at the start of every segment. The output has no bias, so that both
families end in one matrix. Shape suffixes: B batch, T length, N = B * T, D d_model.
"""

from dataclasses import dataclass

import tensorflow as tf

from trainer.models.language_model import ModelConfig, PrecisionConfig
from trainer.models.parameters import product_flops
from trainer.models.parts.layers import Initializer, Vocabulary, dimensions, dropout
from trainer.models.parts.weights import Role, Weight

# Bytes that a GRU layer keeps of each position, for each unit: 24 float32 vectors,
# measured on a CPU as the growth of a process's memory with the batch.
_KEPT_BYTES = 24 * 4


@dataclass(frozen=True)
class RecurrentConfig(ModelConfig):
    """The shape of a recurrent model.

    Attributes:
        family: how configurations name it.
        dropout: rate on the embedding and on each layer's output; 0 turns it off.
        num_layers: GRU layers.
        d_model: units of each, and width of the embedding.
        tie_embeddings: whether the output weights are the embedding table.
    """

    family: str = "recurrent"
    num_layers: int = 4
    d_model: int = 256
    tie_embeddings: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("num_layers", "d_model")

    def build(
        self, vocab_size: int, precision: PrecisionConfig, initializer: Initializer
    ) -> "Recurrent":
        """Builds the model; see `ModelConfig.build`."""
        return Recurrent(self, vocab_size, precision, initializer)


class GRU(tf.Module):
    """One GRU layer; the gates stand in the order z, r, n in every weight."""

    def __init__(self, width: int, initializer: Initializer) -> None:
        super().__init__()
        self.width = width
        shape, spread = [width, 3 * width], width**-0.5
        gates, bias = Weight(Role.MATRIX, widths=(width,) * 3), Weight(Role.BIAS)
        self.kernel = initializer.normal("kernel", shape, spread, gates)
        self.recurrent_kernel = initializer.normal(
            "recurrent_kernel", shape, spread, gates
        )
        self.bias = initializer.constant("bias", [3 * width], 0.0, bias)
        self.recurrent_bias = initializer.constant(
            "recurrent_bias", [3 * width], 0.0, bias
        )

    def __call__(
        self, x_BTD: tf.Tensor, reset_BT: tf.Tensor, state_BD: tf.Tensor
    ) -> tf.Tensor:
        """Runs over time.

        Args:
            x_BTD: inputs in the compute type.
            reset_BT: bool, where the state is zeroed before the token is read.
            state_BD: float32 state left by the token before the first.

        Returns:
            The float32 states after each token `[B, T, D]`.
        """
        dtype = x_BTD.dtype
        batch, length, width = dimensions(x_BTD)
        flat = tf.matmul(tf.reshape(x_BTD, [-1, width]), tf.cast(self.kernel, dtype))
        # All inputs meet their weights in one product; only h U stays in the loop.
        inputs_NG = tf.cast(flat, tf.float32) + self.bias
        inputs_BTG = tf.reshape(inputs_NG, [batch, length, 3 * width])
        inputs_TBG = tf.transpose(inputs_BTG, [1, 0, 2])
        keep_TB1 = tf.cast(~tf.transpose(reset_BT), tf.float32)[..., None]
        recurrent_kernel = tf.cast(self.recurrent_kernel, dtype)

        def step(state_BD: tf.Tensor, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            input_BG, keep_B1 = inputs
            state_BD = state_BD * keep_B1
            product = tf.matmul(tf.cast(state_BD, dtype), recurrent_kernel)
            recurrent_BG = tf.cast(product, tf.float32) + self.recurrent_bias
            return gru_cell(input_BG, recurrent_BG, state_BD)

        states_TBD = tf.scan(step, (inputs_TBG, keep_TB1), initializer=state_BD)
        return tf.transpose(states_TBD, [1, 0, 2])


def gru_cell(
    input_BG: tf.Tensor, recurrent_BG: tf.Tensor, state_BD: tf.Tensor
) -> tf.Tensor:
    """Returns the next state, from x W + b and h U + c, both `[B, 3 D]`."""
    input_z, input_r, input_n = tf.split(input_BG, 3, axis=-1)
    recurrent_z, recurrent_r, recurrent_n = tf.split(recurrent_BG, 3, axis=-1)
    update = tf.sigmoid(input_z + recurrent_z)
    reset = tf.sigmoid(input_r + recurrent_r)
    candidate = tf.tanh(input_n + reset * recurrent_n)
    return update * state_BD + (1.0 - update) * candidate


class Recurrent(tf.Module):
    """The recurrent family; see `LanguageModel` for what each method promises."""

    def __init__(
        self,
        config: RecurrentConfig,
        vocab_size: int,
        precision: PrecisionConfig,
        initializer: Initializer,
    ) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self.compute_dtype = tf.as_dtype(precision.compute)
        self.vocabulary = Vocabulary(
            vocab_size,
            config.d_model,
            config.tie_embeddings,
            initializer.under("vocabulary"),
        )
        self.layers = [
            GRU(config.d_model, initializer.under(f"layers/{index}"))
            for index in range(config.num_layers)
        ]

    def __call__(
        self,
        tokens: tf.Tensor,
        segment_ids: tf.Tensor,
        positions: tf.Tensor,
        *,
        prefix: tf.Tensor | None = None,
        max_segments: int | None = None,
        dropout_seed: tf.Tensor | None = None,
        rows: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Computes hidden states of packed rows: `[batch, length, d_model]`."""
        del segment_ids  # position 0 says where a segment starts
        if prefix is not None:
            raise ValueError("wanted no prefix, found one: a GRU never looks ahead")
        state = self.initial_state(dimensions(tokens)[0], 1)
        hidden, _ = self._run(tokens, state, positions <= 0, dropout_seed, rows)
        return hidden

    def initial_state(
        self, batch: tf.Tensor, capacity: int | tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """Returns a zero state `[batch, d_model]` per layer; capacity plays no part."""
        del capacity
        shape = [batch, self.config.d_model]
        return tuple(tf.zeros(shape, tf.float32) for _ in self.layers)

    def with_capacity(
        self, state: tuple[tf.Tensor, ...], capacity: int | tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """Returns the state: capacity plays no part."""
        del capacity
        return state

    def decode(
        self,
        tokens: tf.Tensor,
        state: tuple[tf.Tensor, ...],
        positions: tf.Tensor,
        lengths: tf.Tensor,
        *,
        owned: bool = False,
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        """Continues rows from their states, and keeps those of the last real tokens."""
        del owned  # a state is as small as what is made of it
        reset = positions[:, None] + tf.range(dimensions(tokens)[1]) <= 0
        hidden, after = self._run(tokens, state, reset, None, None)
        last, reads = tf.maximum(lengths - 1, 0), lengths[:, None] > 0
        return hidden, tuple(
            tf.where(reads, tf.gather(new_BTD, last, batch_dims=1), old_BD)
            for new_BTD, old_BD in zip(after, state, strict=True)
        )

    def logits(self, hidden: tf.Tensor) -> tf.Tensor:
        """Turns hidden states into float32 logits."""
        return self.vocabulary.logits(hidden)

    def output_weights(self) -> tf.Variable:
        """Returns the output matrix `[vocab_size, d_model]`."""
        return self.vocabulary.output_weights()

    def context(self, sequence_length: int) -> int | None:
        """Returns None: the state holds what is needed of any past."""
        del sequence_length
        return None

    def flops_per_token(self, sequence_length: int) -> float:
        """Returns 6 N: three products a weight, two operations a multiply-add.

        N: parameters that enter a matrix product (all but an untied embedding table
        and the biases). There is no attention, so the length plays no part.
        """
        del sequence_length
        tied = {Role.EMBEDDING} if self.config.tie_embeddings else set()
        return product_flops(self, {Role.MATRIX, Role.OUTPUT} | tied)

    def activation_bytes(self, rows: int, sequence_length: int) -> int:
        """Returns the bytes that a forward pass keeps for the backward pass."""
        units = self.config.num_layers * self.config.d_model
        return rows * sequence_length * units * _KEPT_BYTES

    def _run(
        self,
        tokens: tf.Tensor,
        states: tuple[tf.Tensor, ...],
        reset: tf.Tensor,
        dropout_seed: tf.Tensor | None,
        rows: tf.Tensor | None,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns the model's hidden states and each layer's, `[B, T, D]`."""
        x_BTD, after = self.vocabulary.embed(tokens), []
        for number, (layer, state) in enumerate(zip(self.layers, states, strict=True)):
            x_BTD = self._drop(x_BTD, dropout_seed, number, rows)
            x_BTD = layer(tf.cast(x_BTD, self.compute_dtype), reset, state)
            after.append(x_BTD)
        x_BTD = self._drop(x_BTD, dropout_seed, len(self.layers), rows)
        return tf.cast(x_BTD, self.compute_dtype), after

    def _drop(
        self,
        x_BTD: tf.Tensor,
        seed: tf.Tensor | None,
        number: int,
        rows: tf.Tensor | None,
    ) -> tf.Tensor:
        if seed is None:
            return x_BTD
        seed = tf.random.experimental.stateless_fold_in(seed, number, alg="philox")
        flat_ND = tf.reshape(x_BTD, [-1, self.config.d_model])
        dropped_ND = dropout(flat_ND, self.config.dropout, seed, rows)
        return tf.reshape(dropped_ND, tf.shape(x_BTD))
