# SPDX-License-Identifier: Apache-2.0
"""A layer of the decoder, and the residual stream that runs through it.

With A attention and F the feed-forward layer, each behind dropout and a scale:

    before      x += A(norm(x))             x += F(norm(x))
    after       x += norm(A(x))             x += norm(F(x))             (OLMo 2)
    around      x += norm(A(norm(x)))       x += norm(F(norm(x)))       (Gemma 3)
    parallel    x += A(norm(x)) + F(norm'(x))                           (GPT-NeoX)

Shape suffixes: N = batch * length positions in one axis, D width of the stream.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from trainer.models.parts.attention import Attention, AttentionSizes
from trainer.models.parts.experts import Experts, ExpertsSizes
from trainer.models.parts.feed_forward import FeedForward, FeedForwardSizes
from trainer.models.parts.layer_norm import LayerNorm
from trainer.models.parts.layers import Initializer, dropout
from trainer.models.parts.normalisation import RMSNorm

# The residual stream: float32, and what is still to be added to it.
Stream = tuple[tf.Tensor, tf.Tensor | None]
Norm = RMSNorm | LayerNorm


class LayerResult(NamedTuple):
    """What a layer makes of the residual stream.

    Attributes:
        first: of two summands, float32 `[N, D]`.
        more: the second, in the type of matrix products.
        penalty: what each position adds to what is minimised, float32; None where
            nothing is asked for.
    """

    first: tf.Tensor
    more: tf.Tensor
    penalty: tf.Tensor | None


@dataclass(frozen=True)
class NormSizes:
    """What the norms of a model are.

    Attributes:
        width: of the residual stream.
        epsilon: added to the mean square, or the variance.
        layer: whether they are layer norms, not of the root mean square.
        bias: whether layer norms add one.
        offset: added to the scales.
    """

    width: int
    epsilon: float
    layer: bool = False
    bias: bool = False
    offset: float = 0.0

    def norm(self, initializer: Initializer) -> Norm:
        """Makes one."""
        if self.layer:
            return LayerNorm(
                self.width, self.epsilon, initializer, self.offset, self.bias
            )
        return RMSNorm(self.width, self.epsilon, initializer, self.offset)


@dataclass(frozen=True)
class BlockSizes:
    """What a layer is made of.

    Attributes:
        norms: its norms.
        placement: where they stand: "before", "after" or "around".
        parallel: whether both halves read the same input.
        attention: its attention.
        ffn: its feed-forward layer, or its experts.
        dropout: rate on what both give.
        scale: what both are multiplied by before they are added.
    """

    norms: NormSizes
    placement: str
    parallel: bool
    attention: AttentionSizes
    ffn: FeedForwardSizes | ExpertsSizes
    dropout: float
    scale: float


class Block(tf.Module):
    """One layer: attention, then a feed-forward layer, each added to its input."""

    def __init__(self, sizes: BlockSizes, initializer: Initializer) -> None:
        super().__init__()
        self.rate, self._scale = sizes.dropout, sizes.scale
        self._parallel = sizes.parallel
        self.attention_norm = self.mlp_norm = None
        self.attention_post_norm = self.mlp_post_norm = None
        norm = sizes.norms.norm
        if sizes.placement != "after":
            self.attention_norm = norm(initializer.under("attention_norm"))
            self.mlp_norm = norm(initializer.under("mlp_norm"))
        if sizes.placement != "before":
            self.attention_post_norm = norm(initializer.under("attention_post_norm"))
            self.mlp_post_norm = norm(initializer.under("mlp_post_norm"))
        self.attention = Attention(sizes.attention, initializer.under("attention"))
        under = initializer.under("mlp")
        self.mlp: FeedForward | Experts
        if isinstance(sizes.ffn, ExpertsSizes):
            self.mlp = Experts(sizes.ffn, under)
        else:
            self.mlp = FeedForward(sizes.ffn, under)

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
        counted: tf.Tensor | None = None,
    ) -> LayerResult:
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
            counted: bool `[B, T]`, which positions are not padding, where experts'
                penalty is asked for.
        """

        def given(y_ND: tf.Tensor, norm: Norm | None, number: int) -> tf.Tensor:
            """Returns what a half adds to the stream."""
            if norm is not None:
                y_ND = norm(y_ND, dtype)
            if self._scale != 1.0:
                y_ND *= tf.cast(self._scale, dtype)
            return dropout(y_ND, self.rate, site_seed(seed, number), rows)

        x_ND, read = normalised_stream(self.attention_norm, (x_ND, more_ND), dtype)
        mixed = given(attend(read), self.attention_post_norm, site)
        if self._parallel:
            _, read = normalised_stream(self.mlp_norm, (x_ND, None), dtype)
            x_ND += tf.cast(mixed, tf.float32)
        else:
            x_ND, read = normalised_stream(self.mlp_norm, (x_ND, mixed), dtype)
        penalty_N = None
        if isinstance(self.mlp, Experts):
            inner, penalty_N = self.mlp(read, counted)
        else:
            inner = self.mlp(read)
        return LayerResult(x_ND, given(inner, self.mlp_post_norm, site + 1), penalty_N)


def normalised_stream(
    norm: Norm | None, stream: Stream, dtype: tf.DType
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the stream's sum, and its normalised form in `dtype`.

    Without a norm the form is the sum itself.
    """
    x_ND, more_ND = stream
    if norm is None:
        x_ND = x_ND if more_ND is None else x_ND + tf.cast(more_ND, tf.float32)
        return x_ND, tf.cast(x_ND, dtype)
    if more_ND is None:
        return x_ND, norm(x_ND, dtype)
    return norm.of_sum(x_ND, more_ND)


def summed(
    layer: Callable[..., LayerResult], x_ND: tf.Tensor, seed: tf.Tensor | None
) -> list[tf.Tensor]:
    """Returns the sum of what `layer` makes of x, and its penalty if there is one."""
    x_ND, more_ND, penalty_N = layer(x_ND, None, seed)
    total_ND = x_ND + tf.cast(more_ND, tf.float32)
    return [total_ND] if penalty_N is None else [total_ND, penalty_N]


def site_seed(seed: tf.Tensor | None, number: int) -> tf.Tensor | None:
    """Returns the seed of the dropout site `number`, None without dropout."""
    if seed is None:
        return None
    return tf.random.experimental.stateless_fold_in(seed, number, alg="philox")
