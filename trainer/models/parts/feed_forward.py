# SPDX-License-Identifier: Apache-2.0
"""Feed-forward layers: gated, down(act(gate(x)) * up(x)), and plain, down(act(up(x))).

Gated ones are of Shazeer 2020, arXiv 2002.05202; SwiGLU is that of silu. Gate and up
are the halves of one product. Shape suffixes are those of `layers.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from trainer.compute.fusion import compiled_whole, fused, sum_of
from trainer.models.parts.activations import activated, activated_and_slope
from trainer.models.parts.layers import Initializer, add_bias, residual_stddev
from trainer.models.parts.weights import Role, Weight


@dataclass(frozen=True)
class FeedForwardSizes:
    """What a feed-forward layer is made of.

    Attributes:
        width: D, of the residual stream.
        inner: F, columns between its products.
        depth: layers of the model, which initial weights follow from.
        gated: whether one half of the first product gates the other.
        activation: one of `activations.py`.
        bias: whether its products add biases.
    """

    width: int
    inner: int
    depth: int
    gated: bool = True
    activation: str = "silu"
    bias: bool = False


class FeedForward(tf.Module):
    """A gated or plain feed-forward layer."""

    def __init__(self, sizes: FeedForwardSizes, initializer: Initializer) -> None:
        super().__init__()
        self._activation, self._gated = sizes.activation, sizes.gated
        width, inner = sizes.width, sizes.inner
        halves = (inner, inner) if sizes.gated else (inner,)
        first = initializer.normal(
            "gate_up" if sizes.gated else "up",
            [width, sum(halves)],
            width**-0.5,
            Weight(Role.MATRIX, widths=halves),
        )
        if sizes.gated:
            self.gate_up = first
        else:
            self.up = first
        self.down = initializer.normal(
            "down",
            [inner, width],
            residual_stddev(inner, sizes.depth),
            Weight(Role.MATRIX),
        )
        self.up_bias = self.down_bias = None
        if sizes.bias:
            bias = Weight(Role.BIAS)
            self.up_bias = initializer.constant("up_bias", [sum(halves)], 0.0, bias)
            self.down_bias = initializer.constant("down_bias", [width], 0.0, bias)

    def __call__(self, x_ND: tf.Tensor) -> tf.Tensor:
        """Maps `[positions, d_model]` to the same shape and type."""
        mixed_NF = self._gate(x_ND) if self._gated else self._activate(x_ND)
        out_ND = tf.matmul(mixed_NF, tf.cast(self.down, x_ND.dtype))
        return add_bias(out_ND, self.down_bias)

    def _gate(self, x_ND: tf.Tensor) -> tf.Tensor:
        gate_up = tf.cast(self.gate_up, x_ND.dtype)
        if compiled_whole() and self.up_bias is None:
            # Two products spare the gradient its join, a pass over memory on a GPU.
            gate_DF, up_DF = tf.split(gate_up, 2, axis=1)
            return _gated_halves(
                tf.matmul(x_ND, gate_DF), tf.matmul(x_ND, up_DF), self._activation
            )
        both_N2F = add_bias(tf.matmul(x_ND, gate_up), self.up_bias)
        return _gated(both_N2F, self._activation)

    def _activate(self, x_ND: tf.Tensor) -> tf.Tensor:
        product_NF = tf.matmul(x_ND, tf.cast(self.up, x_ND.dtype))
        biases = [] if self.up_bias is None else [tf.convert_to_tensor(self.up_bias)]
        return _biased_activation(product_NF, self._activation, biases)


def _gated(both_N2F: tf.Tensor, name: str) -> tf.Tensor:
    """Returns act(gate) * up of the halves `[gate, up]`, computed in float32.

    The gradient follows from the halves alone.
    """

    @tf.custom_gradient
    def run(
        both_N2F: tf.Tensor,
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        def gradient(upstream_NF: tf.Tensor) -> tf.Tensor:
            # The join is a copy that XLA's loops would branch in for every element.
            return tf.concat(_gate_gradient(both_N2F, upstream_NF, name), axis=-1)

        return _gate(both_N2F, name), gradient

    return run(both_N2F)


def _gated_halves(gate_NF: tf.Tensor, up_NF: tf.Tensor, name: str) -> tf.Tensor:
    """Returns what `_gated` does of halves that are tensors of their own."""

    @tf.custom_gradient
    def run(
        gate_NF: tf.Tensor, up_NF: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], list[tf.Tensor]]]:
        def gradient(upstream_NF: tf.Tensor) -> list[tf.Tensor]:
            return _halves_gradient(gate_NF, up_NF, upstream_NF, name)

        return _gate_halves(gate_NF, up_NF, name), gradient

    return run(gate_NF, up_NF)


@fused
def _gate(both_N2F: tf.Tensor, name: str) -> tf.Tensor:
    gate_NF, up_NF = tf.split(both_N2F, 2, axis=-1)
    return _gate_halves(gate_NF, up_NF, name)


@fused
def _gate_gradient(
    both_N2F: tf.Tensor, upstream_NF: tf.Tensor, name: str
) -> list[tf.Tensor]:
    """Returns the gradients of gate and up."""
    gate_NF, up_NF = tf.split(both_N2F, 2, axis=-1)
    return _halves_gradient(gate_NF, up_NF, upstream_NF, name)


def _gate_halves(gate_NF: tf.Tensor, up_NF: tf.Tensor, name: str) -> tf.Tensor:
    gate, up = (tf.cast(x, tf.float32) for x in (gate_NF, up_NF))
    return tf.cast(activated(gate, name) * up, gate_NF.dtype)


def _halves_gradient(
    gate_NF: tf.Tensor, up_NF: tf.Tensor, upstream_NF: tf.Tensor, name: str
) -> list[tf.Tensor]:
    halves = (gate_NF, up_NF, upstream_NF)
    gate, up, upstream = (tf.cast(x, tf.float32) for x in halves)
    value, slope = activated_and_slope(gate, name)
    into = [upstream * up * slope, upstream * value]
    return [tf.cast(x, gate_NF.dtype) for x in into]


def _biased_activation(
    product_NF: tf.Tensor, name: str, biases: list[tf.Tensor]
) -> tf.Tensor:
    """Returns act(x + bias), computed in float32, of one bias or none."""

    @tf.custom_gradient
    def run(
        product_NF: tf.Tensor, *biases: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], list[tf.Tensor]]]:
        def gradient(upstream_NF: tf.Tensor) -> list[tf.Tensor]:
            return _activation_gradient(product_NF, upstream_NF, name, *biases)

        return _activation(product_NF, name, *biases), gradient

    return run(product_NF, *biases)


@fused
def _activation(product_NF: tf.Tensor, name: str, *biases: tf.Tensor) -> tf.Tensor:
    value = activated(_sum(product_NF, *biases), name)
    return tf.cast(value, product_NF.dtype)


@fused
def _activation_gradient(
    product_NF: tf.Tensor, upstream_NF: tf.Tensor, name: str, *biases: tf.Tensor
) -> list[tf.Tensor]:
    """Returns the gradient of the product, and of the bias if there is one."""
    _, slope = activated_and_slope(_sum(product_NF, *biases), name)
    into_NF = tf.cast(upstream_NF, tf.float32) * slope
    gradients = [tf.cast(into_NF, product_NF.dtype)]
    return gradients + [sum_of(into_NF, 0)[0] for _ in biases]


def _sum(product_NF: tf.Tensor, *biases: tf.Tensor) -> tf.Tensor:
    x_NF = tf.cast(product_NF, tf.float32)
    for bias_F in biases:
        x_NF += bias_F
    return x_NF
