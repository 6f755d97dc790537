# SPDX-License-Identifier: Apache-2.0
"""Small layers that all families share: weights, biases, vocabulary, dropout.

Shape suffixes: B batch, T length, N = B * T positions in one axis, D d_model,
F ffn_dim, V vocabulary. Matrix products run on `[N, D]`: oneDNN's 2-D kernels are the
fast ones on a CPU.
"""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tensorflow as tf

from trainer.compute.fusion import fused, sum_of
from trainer.models.parts.weights import Role, Weight, declare


@dataclass(frozen=True)
class Initializer:
    """Draws weights from a seed and the weight's name.

    Attributes:
        seed: the run's seed.
        path: name of the module the weights belong to, "" at the top.
    """

    seed: int
    path: str = ""

    def under(self, name: str) -> "Initializer":
        """Returns the initializer for the weights of the child module `name`."""
        return dataclasses.replace(self, path=f"{self.path}{name}/")

    def normal(
        self, name: str, shape: Sequence[int], stddev: float, weight: Weight
    ) -> tf.Variable:
        """Makes a weight drawn from a normal distribution of mean 0.

        Args:
            name: of the attribute that will hold it.
            shape: its shape.
            stddev: of the distribution.
            weight: what it is for.
        """
        text = f"{self.seed}:{self.path}{name}".encode()
        key = hashlib.blake2b(text, digest_size=16).digest()
        halves = [int.from_bytes(key[:8], "little", signed=True)]
        halves.append(int.from_bytes(key[8:], "little", signed=True))
        # Philox by name: the automatic choice differs between devices.
        value = tf.random.stateless_normal(
            shape, tf.constant(halves, tf.int64), stddev=stddev, alg="philox"
        )
        return declare(tf.Variable(value, name=name), weight)

    def constant(
        self,
        name: str,
        shape: Sequence[int],
        value: float,
        weight: Weight,
        trained: bool = True,
    ) -> tf.Variable:
        """Makes a weight filled with `value`; one that is not `trained` stays."""
        made = tf.Variable(tf.fill(shape, value), trainable=trained, name=name)
        return declare(made, weight)


class Zeros(Initializer):
    """Makes zeros in place of what would be drawn, for a model that is never run."""

    def normal(
        self, name: str, shape: Sequence[int], stddev: float, weight: Weight
    ) -> tf.Variable:
        """Makes a weight of zeros."""
        return self.constant(name, shape, 0.0, weight)


def dimensions(tensor: tf.Tensor) -> list[int | tf.Tensor]:
    """Returns the sizes of the axes, as integers where they are static."""
    dynamic = tf.shape(tensor)
    return [
        dynamic[axis] if size is None else size
        for axis, size in enumerate(tensor.shape)
    ]


def residual_stddev(fan_in: int, depth: int) -> float:
    """Spread of weights that write into the residual stream.

    1/sqrt(fan_in), divided by sqrt(2 * depth) so that the stream's variance does not
    grow with the number of layers (GPT-2, Radford et al. 2019, section 2.3).
    """
    return 1.0 / math.sqrt(fan_in * 2 * depth)


def add_bias(x_ND: tf.Tensor, bias_D: tf.Tensor | None) -> tf.Tensor:
    """Adds a float32 bias to each row, in the type of the rows; None adds nothing.

    Its gradient is summed up in float32: TensorFlow's would be in the rows' type, in
    which a sum of bfloat16 stands still after some 256 rows.
    """
    if bias_D is None:
        return x_ND

    @tf.custom_gradient
    def run(
        x_ND: tf.Tensor, bias_D: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return upstream, _sum_of_rows(upstream)

        return _with_bias(x_ND, bias_D), gradient

    return run(x_ND, tf.convert_to_tensor(bias_D))


@fused
def _with_bias(x_ND: tf.Tensor, bias_D: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.cast(x_ND, tf.float32) + bias_D, x_ND.dtype)


@fused
def _sum_of_rows(upstream: tf.Tensor) -> tf.Tensor:
    return sum_of(tf.cast(upstream, tf.float32), 0)[0]


class Vocabulary(tf.Module):
    """The embedding table and the output matrix, one variable when tied."""

    def __init__(
        self, vocab_size: int, width: int, tied: bool, initializer: Initializer
    ) -> None:
        super().__init__()
        # 0.02 (GPT-2): tied logits then start near 0 and the loss near ln(V).
        shape = [vocab_size, width]
        self.embedding = initializer.normal(
            "embedding", shape, 0.02, Weight(Role.EMBEDDING)
        )
        self.output = None
        if not tied:
            self.output = initializer.normal("output", shape, 0.02, Weight(Role.OUTPUT))

    def output_weights(self) -> tf.Variable:
        """Returns the output matrix `[V, D]`."""
        return self.embedding if self.output is None else self.output

    def embed(self, tokens: tf.Tensor) -> tf.Tensor:
        """Looks ids up: int32 `[...]` to float32 `[..., D]`."""
        # A release may keep the table in a narrower type; the stream is float32.
        rows = _lookup(tf.convert_to_tensor(self.embedding), tokens)
        return tf.cast(rows, tf.float32)

    def logits(self, hidden: tf.Tensor) -> tf.Tensor:
        """Maps `[..., D]` to float32 `[..., V]`."""
        weights = tf.cast(self.output_weights(), hidden.dtype)
        *outer, width = dimensions(hidden)
        flat = tf.matmul(tf.reshape(hidden, [-1, width]), weights, transpose_b=True)
        return tf.reshape(tf.cast(flat, tf.float32), [*outer, weights.shape[0]])


@tf.custom_gradient
def _lookup(
    table_VD: tf.Tensor, tokens: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, None]]]:
    """Gathers rows; the gradient is dense.

    TensorFlow's own is a list of slices. Where the table is also the output matrix it
    would turn the dense half into slices too and scatter all of it.
    """

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        size = tf.shape(table_VD)[0]
        return tf.math.unsorted_segment_sum(upstream, tokens, size), None

    return tf.gather(table_VD, tokens), gradient


def add_positions(
    x_ND: tf.Tensor, table_PD: tf.Tensor, positions_N: tf.Tensor
) -> tf.Tensor:
    """Adds to each row the row of a table that its position names."""
    rows = _lookup(tf.convert_to_tensor(table_PD), positions_N)
    return x_ND + tf.cast(rows, x_ND.dtype)


def dropout(
    x_NE: tf.Tensor, rate: float, seed: tf.Tensor | None, rows_B: tf.Tensor | None
) -> tf.Tensor:
    """Zeroes a share of the entries and scales the rest by 1 / (1 - rate).

    Row b's mask is a function of (seed, rows_B[b]) only, so that it stays the same
    whichever replica or micro-batch the row falls into.

    Args:
        x_NE: `[batch * length, width]`, rows one after another.
        rate: probability of a zero.
        seed: int32 `[2]`, or None to return the input unchanged.
        rows_B: int32 `[batch]`, the global number of each row.
    """
    if seed is None or rate == 0.0:
        return x_NE
    if rows_B is None:
        raise ValueError("wanted rows with dropout_seed, found None. Pass row numbers")
    positions, width = dimensions(x_NE)
    length = positions // dimensions(rows_B)[0]

    def draw(row: tf.Tensor) -> tf.Tensor:
        row_seed = tf.random.experimental.stateless_fold_in(seed, row, alg="philox")
        return tf.random.stateless_uniform([length, width], row_seed, alg="philox")

    uniform = tf.map_fn(draw, rows_B, fn_output_signature=tf.float32)
    keep = tf.cast(tf.reshape(uniform, tf.shape(x_NE)) >= rate, x_NE.dtype)
    return x_NE * keep * (1.0 / (1.0 - rate))
