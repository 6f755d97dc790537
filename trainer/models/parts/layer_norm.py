# SPDX-License-Identifier: Apache-2.0
"""Layer normalisation, alone and behind a residual sum.

    m = mean(x)      r = 1 / sqrt(mean((x - m)^2) + epsilon)      n = r (x - m)
    y = scale n + bias

and, with dy the gradient of y and g = scale dy, those of x, scale and bias:

    dx = r (g - mean(g) - n mean(g n))      dscale = sum of dy n      dbias = sum of dy

Ba et al. 2016, arXiv 1607.06450. Computed in float32, as `normalisation.py` does its.
"""

from collections.abc import Callable

import tensorflow as tf

from trainer.compute.fusion import fused, sum_of
from trainer.models.parts.layers import Initializer
from trainer.models.parts.weights import Role, Weight

Gradient = Callable[..., tuple[tf.Tensor, ...]]


class LayerNorm(tf.Module):
    """Normalises `[N, D]`, multiplies by a scale and may add a bias, for each of D."""

    def __init__(
        self,
        width: int,
        epsilon: float,
        initializer: Initializer,
        offset: float = 0.0,
        bias: bool = True,
    ) -> None:
        """Makes the weights.

        Args:
            width: D.
            epsilon: added to the variance.
            initializer: makes them.
            offset: added to each scale where it is used.
            bias: whether one is added.
        """
        super().__init__()
        self.epsilon, self._offset = epsilon, offset
        self.scale = initializer.constant(
            "scale", [width], 1.0 - offset, Weight(Role.NORM)
        )
        if bias:
            self.bias = initializer.constant("bias", [width], 0.0, Weight(Role.BIAS))
        self._biased = bias

    def _weights(self) -> list[tf.Tensor]:
        scale = tf.convert_to_tensor(self.scale)
        scale = scale + self._offset if self._offset else scale
        return [scale, tf.convert_to_tensor(self.bias)] if self._biased else [scale]

    def __call__(self, x_ND: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """Normalises `x_ND` of any floating type; returns the result in `dtype`."""

        @tf.custom_gradient
        def run(x_ND: tf.Tensor, *weights: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
            y_ND, mean_N1, inverse_N1 = _normalised(
                x_ND, self.epsilon, dtype.name, *weights
            )

            def gradient(dy_ND: tf.Tensor) -> tuple[tf.Tensor, ...]:
                into = _gradient(x_ND, weights[0], mean_N1, inverse_N1, dy_ND)
                return into[: 1 + len(weights)]

            return y_ND, gradient

        return run(x_ND, *self._weights())

    def of_sum(
        self, x_ND: tf.Tensor, more_ND: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns x + more in float32, and its normalised form in the type of more."""

        @tf.custom_gradient
        def run(
            x_ND: tf.Tensor, more_ND: tf.Tensor, *weights: tf.Tensor
        ) -> tuple[tuple[tf.Tensor, tf.Tensor], Gradient]:
            dtype = more_ND.dtype.name
            sum_ND, y_ND, mean_N1, inverse_N1 = _sum_normalised(
                x_ND, more_ND, self.epsilon, *weights
            )

            def gradient(dsum_ND: tf.Tensor, dy_ND: tf.Tensor) -> tuple[tf.Tensor, ...]:
                into = _sum_gradient(
                    sum_ND, weights[0], mean_N1, inverse_N1, dsum_ND, dy_ND, dtype
                )
                return into[: 2 + len(weights)]

            return (sum_ND, y_ND), gradient

        return run(x_ND, more_ND, *self._weights())


@fused
def _normalised(
    x_ND: tf.Tensor, epsilon: float, dtype: str, *weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns y in `dtype`, m and r `[N, 1]`."""
    x_ND, width = tf.cast(x_ND, tf.float32), x_ND.shape[-1]
    mean_N1 = sum_of(x_ND, -1) / width
    centred_ND = x_ND - mean_N1
    # Of what is left: the difference of two means would lose small variances.
    variance_N1 = sum_of(tf.square(centred_ND), -1) / width
    inverse_N1 = tf.math.rsqrt(variance_N1 + epsilon)
    y_ND = centred_ND * inverse_N1 * weights[0]
    for bias_D in weights[1:]:
        y_ND += bias_D
    return tf.cast(y_ND, dtype), mean_N1, inverse_N1


@fused
def _sum_normalised(
    x_ND: tf.Tensor, more_ND: tf.Tensor, epsilon: float, *weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns x + more, y of it in the type of more, m and r."""
    sum_ND = x_ND + tf.cast(more_ND, tf.float32)
    return sum_ND, *_normalised(sum_ND, epsilon, more_ND.dtype.name, *weights)


@fused
def _gradient(
    x_ND: tf.Tensor,
    scale_D: tf.Tensor,
    mean_N1: tf.Tensor,
    inverse_N1: tf.Tensor,
    dy_ND: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns dx in the type of x, dscale and dbias."""
    dy_ND, width = tf.cast(dy_ND, tf.float32), x_ND.shape[-1]
    n_ND = (tf.cast(x_ND, tf.float32) - mean_N1) * inverse_N1
    g_ND = dy_ND * scale_D
    along_N1, mean_g_N1 = sum_of(g_ND * n_ND, -1) / width, sum_of(g_ND, -1) / width
    into_ND = inverse_N1 * (g_ND - mean_g_N1 - n_ND * along_N1)
    into_ND = tf.cast(into_ND, x_ND.dtype)
    return into_ND, sum_of(dy_ND * n_ND, 0)[0], sum_of(dy_ND, 0)[0]


@fused
def _sum_gradient(
    sum_ND: tf.Tensor,
    scale_D: tf.Tensor,
    mean_N1: tf.Tensor,
    inverse_N1: tf.Tensor,
    dsum_ND: tf.Tensor,
    dy_ND: tf.Tensor,
    dtype: str,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the gradients of x and more, one in two types, of scale and bias."""
    into_ND, *others = _gradient(sum_ND, scale_D, mean_N1, inverse_N1, dy_ND)
    into_ND += dsum_ND
    return into_ND, tf.cast(into_ND, dtype), *others
