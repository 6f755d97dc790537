# SPDX-License-Identifier: Apache-2.0
"""What a token of training costs, and what a device's matrix products reach.

Model FLOP/s utilisation is operations a token x tokens a second / the rate of a large
product, measured on the same card in the same run. Both sides of a comparison are
counted by this one formula.
"""

import math
import time
from collections.abc import Callable

import tensorflow as tf

from trainer.models.functional import weight_places

_CALLS, _REPEATS = 10, 5


def training_flops(weights: int, layers: int, width: int, length: int) -> int:
    """Returns the operations that training costs a token, forward and backward.

        6 x weights + 6 x layers x width x length

    Two operations a multiply-add, and three products a weight: one forward, two
    backward. Of attention's scores the causal half counts, unlike in PaLM's formula
    (Chowdhery et al. 2022, arXiv 2204.02311, appendix B), whose second term is 12 x
    layers x width x length: a kernel that skips what is masked gains nothing here.

    Args:
        weights: numbers in matrices that enter products. A tied embedding counts
            once, as the output matrix; looking rows up is no product.
        layers: blocks with attention.
        width: of all query heads together.
        length: positions a row, of one document.
    """
    return 6 * weights + 6 * layers * width * length


def product_weights(model: tf.Module) -> int:
    """Returns how many numbers a model with tied embeddings has in its matrices."""
    shapes = [place.variable.shape.as_list() for place in weight_places(model)]
    return sum(math.prod(shape) for shape in shapes if len(shape) > 1)


def product_rate(size: int) -> float:
    """Measures the FLOP/s of a bfloat16 product of random square matrices under XLA.

    Random, since zeros run faster: a card's clock follows its power. The best of five
    runs of ten calls.

    Args:
        size: rows and columns; 8,192 fills a large card for 1.5 ms.
    """

    def draw(seed: int) -> tf.Tensor:
        return tf.cast(tf.random.stateless_normal([size, size], [seed, 0]), tf.bfloat16)

    matrices = [_compiled(lambda seed=seed: draw(seed))() for seed in (1, 2)]
    # All of the product comes back: of a corner alone XLA would compute the corner.
    multiply = _compiled(tf.matmul)
    seconds = [_time(lambda: multiply(*matrices)) for _ in range(1 + _REPEATS)]
    return 2 * size**3 * _CALLS / min(seconds[1:])


def _compiled(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    return tf.function(function, autograph=False, jit_compile=True)


def _time(call: Callable[[], tf.Tensor]) -> float:
    """Returns the seconds of ten calls, waited for."""
    tf.test.experimental.sync_devices()
    began = time.perf_counter()
    for _ in range(_CALLS):
        call()
    tf.test.experimental.sync_devices()
    return time.perf_counter() - began
