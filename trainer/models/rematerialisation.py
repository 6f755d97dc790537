# SPDX-License-Identifier: Apache-2.0
"""Layers computed again in the backward pass, so that only their inputs are kept.

Chen et al. 2016, arXiv 1604.06174. TensorFlow's own `tf.recompute_grad` gives no
gradient to a tensor that the function captures, which is what weights are in a step
(`trainer.models.functional`); here every weight is an argument.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from trainer.models.functional import WeightPlace, called_with

Layer = Callable[[tf.Tensor, tf.Tensor | None], Sequence[tf.Tensor]]


def rematerialised(
    module: tf.Module, layer: Layer, x: tf.Tensor, seed: tf.Tensor | None
) -> Sequence[tf.Tensor]:
    """Returns the tensors of `layer(x, seed)`, computed again in the backward pass.

    Args:
        module: whose weights `layer` reads, variables or tensors in their place;
            gradients flow to those, to `x` and to nothing else.
        layer: a function of its arguments and the weights alone, so that a second
            call draws the same dropout.
        x: input, of a floating type.
        seed: integers that all of the layer's chance follows from, or None.
    """
    places = _weights_in(module)
    weights = [tf.convert_to_tensor(place.variable) for place in places]

    @tf.custom_gradient
    def run(
        x: tf.Tensor, *weights: tf.Tensor
    ) -> tuple[Sequence[tf.Tensor], Callable[..., list[tf.Tensor]]]:
        def gradient(*upstream: tf.Tensor) -> list[tf.Tensor]:
            zero = _zero_after(upstream[0])
            with (
                tf.GradientTape(watch_accessed_variables=False) as tape,
                called_with(places, weights),
            ):
                again = x + tf.cast(zero, x.dtype)
                tape.watch([again, *weights])
                same = None if seed is None else seed + tf.cast(zero, seed.dtype)
                y = list(layer(again, same))
            return tape.gradient(y, [again, *weights], list(upstream))

        with called_with(places, weights):
            return layer(x, seed), gradient

    return run(x, *weights)


def _weights_in(module: tf.Module) -> list[WeightPlace]:
    """Returns where the module and those inside it hold variables or tensors."""
    return [
        WeightPlace(owner, name, name, value)
        for owner in (module, *module.submodules)
        for name, value in sorted(vars(owner).items())
        if isinstance(value, tf.Variable) or tf.is_tensor(value)
    ]


def _zero_after(upstream: tf.Tensor) -> tf.Tensor:
    """Returns 0 that only `upstream` tells, NaN if its first entry is NaN.

    Without it Grappler and XLA would find the second computation equal to the first,
    and keep the first's results for it. A product with 0 they would see through.
    """
    entry = tf.cast(tf.reshape(upstream, [-1])[0], tf.float32)
    return tf.where(tf.math.is_nan(entry), entry, 0.0)
