# SPDX-License-Identifier: Apache-2.0
"""Root mean square normalisation, alone and behind a residual sum.

    r = 1 / sqrt(mean(x^2) + epsilon)      n = r x      y = scale n

and, with dy the gradient of y and g = scale dy, those of x and scale:

    dx = r (g - n mean(g n))      dscale = sum of dy n over positions

Zhang and Sennrich 2019, arXiv 1910.07467. All is computed in float32. Written out, the
gradient keeps x and r alone, and each direction is one pass over memory.
"""

from collections.abc import Callable

import tensorflow as tf

from trainer.compute.fusion import fused, sum_of
from trainer.models.parts.layers import Initializer
from trainer.models.parts.weights import Role, Weight

Gradient = Callable[..., tuple[tf.Tensor, ...]]


class RMSNorm(tf.Module):
    """Normalises `[N, D]` and multiplies by a scale for each of D."""

    def __init__(
        self,
        width: int,
        epsilon: float,
        initializer: Initializer,
        offset: float = 0.0,
    ) -> None:
        """Makes the scales.

        Args:
            width: D.
            epsilon: added to the mean square.
            initializer: makes them.
            offset: added to each scale where it is used; the scale that is kept and
                decayed begins at 1 - offset.
        """
        super().__init__()
        self.epsilon, self._offset = epsilon, offset
        self.scale = initializer.constant(
            "scale", [width], 1.0 - offset, Weight(Role.NORM)
        )

    def _scale(self) -> tf.Tensor:
        scale = tf.convert_to_tensor(self.scale)
        return scale + self._offset if self._offset else scale

    def __call__(self, x_ND: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """Normalises `x_ND` of any floating type; returns the result in `dtype`."""

        @tf.custom_gradient
        def run(x_ND: tf.Tensor, scale_D: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
            y_ND, inverse_N1 = _normalised(x_ND, scale_D, self.epsilon, dtype.name)

            def gradient(dy_ND: tf.Tensor) -> tuple[tf.Tensor, ...]:
                return _gradient(x_ND, scale_D, inverse_N1, dy_ND)

            return y_ND, gradient

        return run(x_ND, self._scale())

    def of_sum(
        self, x_ND: tf.Tensor, more_ND: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns x + more in float32, and its normalised form in the type of more."""

        @tf.custom_gradient
        def run(
            x_ND: tf.Tensor, more_ND: tf.Tensor, scale_D: tf.Tensor
        ) -> tuple[tuple[tf.Tensor, tf.Tensor], Gradient]:
            sum_ND, y_ND, inverse_N1 = _sum_normalised(
                x_ND, more_ND, scale_D, self.epsilon
            )

            def gradient(dsum_ND: tf.Tensor, dy_ND: tf.Tensor) -> tuple[tf.Tensor, ...]:
                return _sum_gradient(
                    sum_ND, scale_D, inverse_N1, dsum_ND, dy_ND, more_ND.dtype.name
                )

            return (sum_ND, y_ND), gradient

        return run(x_ND, more_ND, self._scale())


@fused
def _normalised(
    x_ND: tf.Tensor, scale_D: tf.Tensor, epsilon: float, dtype: str
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns y in `dtype`, and r `[N, 1]`."""
    x_ND = tf.cast(x_ND, tf.float32)
    square_N1 = sum_of(tf.square(x_ND), -1) / x_ND.shape[-1]
    inverse_N1 = tf.math.rsqrt(square_N1 + epsilon)
    return tf.cast(x_ND * inverse_N1 * scale_D, dtype), inverse_N1


@fused
def _sum_normalised(
    x_ND: tf.Tensor, more_ND: tf.Tensor, scale_D: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns x + more, y of it in the type of more, and r `[N, 1]`."""
    sum_ND = x_ND + tf.cast(more_ND, tf.float32)
    return sum_ND, *_normalised(sum_ND, scale_D, epsilon, more_ND.dtype.name)


@fused
def _gradient(
    x_ND: tf.Tensor, scale_D: tf.Tensor, inverse_N1: tf.Tensor, dy_ND: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns dx in the type of x, and dscale."""
    dy_ND = tf.cast(dy_ND, tf.float32)
    n_ND, g_ND = tf.cast(x_ND, tf.float32) * inverse_N1, dy_ND * scale_D
    mean_N1 = sum_of(g_ND * n_ND, -1) / x_ND.shape[-1]
    into_ND = inverse_N1 * (g_ND - n_ND * mean_N1)
    return tf.cast(into_ND, x_ND.dtype), sum_of(dy_ND * n_ND, 0)[0]


@fused
def _sum_gradient(
    sum_ND: tf.Tensor,
    scale_D: tf.Tensor,
    inverse_N1: tf.Tensor,
    dsum_ND: tf.Tensor,
    dy_ND: tf.Tensor,
    dtype: str,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the gradients of x and more, which are one in two types, and of scale."""
    into_ND, into_scale_D = _gradient(sum_ND, scale_D, inverse_N1, dy_ND)
    into_ND += dsum_ND
    return into_ND, tf.cast(into_ND, dtype), into_scale_D
