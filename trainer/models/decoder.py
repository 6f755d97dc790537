# SPDX-License-Identifier: Apache-2.0
"""A Llama-style decoder (Touvron et al. 2023, arXiv 2302.13971).

    x = embed(tokens)
    for each block:  x += attention(norm(x));  x += swiglu(norm(x))
    hidden = norm(x)

Equal, weight for weight, to Hugging Face's LlamaForCausalLM. The residual stream is
float32 whatever the compute type.
"""

from collections.abc import Callable
from functools import partial

import tensorflow as tf

from trainer.models.attention import (
    Attention,
    cache_mask,
    segment_mask,
)
from trainer.models.chunked_attention import Segments
from trainer.models.language_model import ModelConfig, PrecisionConfig
from trainer.models.layers import (
    Initializer,
    SwiGLU,
    Vocabulary,
    dimensions,
    dropout,
)
from trainer.models.normalisation import RMSNorm
from trainer.models.rematerialisation import rematerialised
from trainer.models.rotary import rotation_table

Cache = tuple[tf.Tensor, tf.Tensor]
# The residual stream: float32, and what is still to be added to it.
Stream = tuple[tf.Tensor, tf.Tensor | None]


class Block(tf.Module):
    """One pre-norm layer: attention, then SwiGLU, each added to its input."""

    def __init__(self, config: ModelConfig, initializer: Initializer) -> None:
        super().__init__()
        width, epsilon = config.d_model, config.norm_epsilon
        self.rate = config.dropout
        self.attention_norm = RMSNorm(
            width, epsilon, initializer.under("attention_norm")
        )
        self.attention = Attention(config, initializer.under("attention"))
        self.mlp_norm = RMSNorm(width, epsilon, initializer.under("mlp_norm"))
        self.mlp = SwiGLU(
            width, config.hidden_dim, config.num_layers, initializer.under("mlp")
        )

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
        x_ND, normed = _normed(self.attention_norm, (x_ND, more_ND), dtype)
        mixed = attend(normed)
        mixed = dropout(mixed, self.rate, _site(seed, site), rows)
        x_ND, normed = self.mlp_norm.of_sum(x_ND, mixed)
        inner = self.mlp(normed)
        return x_ND, dropout(inner, self.rate, _site(seed, site + 1), rows)


class Decoder(tf.Module):
    """The decoder family; see `LanguageModel` for what each method promises."""

    def __init__(
        self,
        config: ModelConfig,
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
            Block(config, initializer.under(f"layers/{index}"))
            for index in range(config.num_layers)
        ]
        self.norm = RMSNorm(
            config.d_model, config.norm_epsilon, initializer.under("norm")
        )

    def __call__(
        self,
        tokens: tf.Tensor,
        segment_ids: tf.Tensor,
        positions: tf.Tensor,
        *,
        prefix: tf.Tensor | None = None,
        dropout_seed: tf.Tensor | None = None,
        rows: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Computes hidden states of packed rows: `[batch, length, d_model]`."""
        sight, rotation = self._sight(segment_ids, prefix), self._rotation(positions)
        x_ND = self._embed(tokens)
        x_ND = dropout(x_ND, self.config.dropout, _site(dropout_seed, 0), rows)
        stream: Stream = (x_ND, None)
        for number, block in enumerate(self.layers, 1):
            layer = partial(
                block,
                dtype=self.compute_dtype,
                attend=partial(block.attention, rotation=rotation, sight=sight),
                rows=rows,
                site=2 * number,
            )
            if self.config.remat == "full":
                x_ND = rematerialised(block, partial(_whole, layer), x_ND, dropout_seed)
                stream = (x_ND, None)
            else:
                stream = layer(*stream, dropout_seed)
        return self._finish(stream, tokens)

    def initial_state(
        self, batch: tf.Tensor, capacity: int | tf.Tensor
    ) -> tuple[Cache, ...]:
        """Returns empty keys and values per layer, `[capacity, batch, kv_heads, H]`."""
        shape = [capacity, batch, self.config.kv_heads, self.config.head_dim]
        empty = tf.zeros(shape, self.compute_dtype)
        return tuple((empty, empty) for _ in self.layers)

    def decode(
        self,
        tokens: tf.Tensor,
        state: tuple[Cache, ...],
        index: tf.Tensor,
        pad: tf.Tensor,
    ) -> tuple[tf.Tensor, tuple[Cache, ...]]:
        """Continues rows through the key/value cache."""
        length, capacity = dimensions(tokens)[1], dimensions(state[0][0])[0]
        mask = cache_mask(index, length, capacity, pad)
        positions = index + tf.range(length)[None, :] - pad[:, None]
        rotation = self._rotation(tf.maximum(positions, 0))
        stream: Stream = (self._embed(tokens), None)
        caches: list[Cache] = []
        for block, cache in zip(self.layers, state, strict=True):

            def attend(
                x: tf.Tensor, block: Block = block, cache: Cache = cache
            ) -> tf.Tensor:
                mixed, new = block.attention.decode(x, rotation, mask, cache, index)
                caches.append(new)
                return mixed

            stream = block(*stream, None, dtype=self.compute_dtype, attend=attend)
        return self._finish(stream, tokens), tuple(caches)

    def logits(self, hidden: tf.Tensor) -> tf.Tensor:
        """Turns hidden states into float32 logits."""
        return self.vocabulary.logits(hidden)

    def output_weights(self) -> tf.Variable:
        """Returns the output matrix `[vocab_size, d_model]`."""
        return self.vocabulary.output_weights()

    def flops_per_token(self, sequence_length: int) -> float:
        """Returns 6 N + 12 L H Q T (PaLM, Chowdhery et al. 2022, appendix B).

        N: parameters that enter a matrix product (all but an untied embedding table),
        L layers, H heads, Q head width, T sequence length. Two operations a
        multiply-add, three products a weight (one forward, two backward); causal
        attention is counted in full, as PaLM and nanoGPT do.
        """
        config = self.config
        looked_up = 0 if config.tie_embeddings else self.vocab_size * config.d_model
        matrices = self.num_parameters - looked_up
        attention = 12 * config.num_layers * config.d_model * sequence_length
        return float(6 * matrices + attention)

    @property
    def num_parameters(self) -> int:
        """Number of trainable scalars."""
        return sum(v.shape.num_elements() for v in self.trainable_variables)

    def _embed(self, tokens: tf.Tensor) -> tf.Tensor:
        return self.vocabulary.embed(tf.reshape(tokens, [-1]))

    def _sight(
        self, segment_ids: tf.Tensor, prefix: tf.Tensor | None
    ) -> tf.Tensor | Segments:
        """Returns who sees whom: a mask for short rows, segments for long ones."""
        if self.config.chunks(segment_ids.shape[1]):
            return Segments(segment_ids, prefix, self.config.attention_chunk)
        return segment_mask(segment_ids, prefix)

    def _rotation(self, positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return rotation_table(positions, self.config.head_dim, self.config.rope_theta)

    def _finish(self, stream: Stream, tokens: tf.Tensor) -> tf.Tensor:
        """Applies the last norm and gives the rows their axes back."""
        _, hidden = _normed(self.norm, stream, self.compute_dtype)
        return tf.reshape(hidden, [*dimensions(tokens), self.config.d_model])


def _normed(
    norm: RMSNorm, stream: Stream, dtype: tf.DType
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the stream's sum, and its normalised form in `dtype`."""
    x_ND, more_ND = stream
    if more_ND is None:
        return x_ND, norm(x_ND, dtype)
    return norm.of_sum(x_ND, more_ND)


def _whole(
    layer: Callable[..., Stream], x_ND: tf.Tensor, seed: tf.Tensor | None
) -> tf.Tensor:
    """Returns the sum of what `layer` makes of x."""
    x_ND, more_ND = layer(x_ND, None, seed)
    return x_ND + tf.cast(more_ND, tf.float32)


def _site(seed: tf.Tensor | None, number: int) -> tf.Tensor | None:
    """Returns the seed of the dropout site `number`, None without dropout."""
    if seed is None:
        return None
    return tf.random.experimental.stateless_fold_in(seed, number, alg="philox")
