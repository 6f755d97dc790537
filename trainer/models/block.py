# SPDX-License-Identifier: Apache-2.0
"""A layer of the decoder, and the residual stream that runs through it.

Shape suffixes: N = batch * length positions in one axis, D width of the stream.
"""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from trainer.models.parts.attention import Attention, HeadSizes
from trainer.models.parts.layers import Initializer, SwiGLU, dropout
from trainer.models.parts.normalisation import RMSNorm

# The residual stream: float32, and what is still to be added to it.
Stream = tuple[tf.Tensor, tf.Tensor | None]


@dataclass(frozen=True)
class BlockSizes:
    """The sizes of a layer.

    Attributes:
        width: of the residual stream.
        heads: of attention.
        inner: width of SwiGLU's halves.
        depth: layers of the model, which initial weights follow from.
        norm_epsilon: added to the mean square in RMSNorm.
        dropout: rate on what attention and SwiGLU give.
    """

    width: int
    heads: HeadSizes
    inner: int
    depth: int
    norm_epsilon: float
    dropout: float


class Block(tf.Module):
    """One pre-norm layer: attention, then SwiGLU, each added to its input."""

    def __init__(self, sizes: BlockSizes, initializer: Initializer) -> None:
        super().__init__()
        width, epsilon = sizes.width, sizes.norm_epsilon
        self.rate = sizes.dropout
        self.attention_norm = RMSNorm(
            width, epsilon, initializer.under("attention_norm")
        )
        self.attention = Attention(
            width, sizes.heads, sizes.depth, initializer.under("attention")
        )
        self.mlp_norm = RMSNorm(width, epsilon, initializer.under("mlp_norm"))
        self.mlp = SwiGLU(width, sizes.inner, sizes.depth, initializer.under("mlp"))

    def __call__(
        self,
        x_ND: tf.Tensor,
        more_ND: tf.Tensor | None,
        seed: tf.Tensor | None,
        *,
        dtype: tf.DType,
        attend: Callable[[tf.Tensor], tf.Tensor],
        rows: tf.Tensor | None = None,
        site: int = 0,
    ) -> Stream:
        """Applies the layer to float32 `[N, D]`; returns two summands of the result.

        Summed up by the next norm, the second costs no pass over memory of its own.

        Args:
            x_ND: input.
            more_ND: what is to be added to it first, in the type of matrix products.
            seed: of dropout, None without.
            dtype: of matrix products.
            attend: maps `[N, D]` to `[N, D]`.
            rows: the rows' numbers in the global batch, for dropout.
            site: number of the first of this layer's two dropout sites.
        """
        x_ND, normed = normalised_stream(self.attention_norm, (x_ND, more_ND), dtype)
        mixed = attend(normed)
        mixed = dropout(mixed, self.rate, site_seed(seed, site), rows)
        x_ND, normed = self.mlp_norm.of_sum(x_ND, mixed)
        inner = self.mlp(normed)
        return x_ND, dropout(inner, self.rate, site_seed(seed, site + 1), rows)


def normalised_stream(
    norm: RMSNorm, stream: Stream, dtype: tf.DType
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the stream's sum, and its normalised form in `dtype`."""
    x_ND, more_ND = stream
    if more_ND is None:
        return x_ND, norm(x_ND, dtype)
    return norm.of_sum(x_ND, more_ND)


def summed(
    layer: Callable[..., Stream], x_ND: tf.Tensor, seed: tf.Tensor | None
) -> tf.Tensor:
    """Returns the sum of what `layer` makes of x."""
    x_ND, more_ND = layer(x_ND, None, seed)
    return x_ND + tf.cast(more_ND, tf.float32)


def site_seed(seed: tf.Tensor | None, number: int) -> tf.Tensor | None:
    """Returns the seed of the dropout site `number`, None without dropout."""
    if seed is None:
        return None
    return tf.random.experimental.stateless_fold_in(seed, number, alg="philox")
