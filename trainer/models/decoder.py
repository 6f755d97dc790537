# SPDX-License-Identifier: Apache-2.0
"""A decoder, assembled from parts as its configuration says (`decoder_shape.py`).

    x = embed(tokens)
    for each block:  x += attention(norm(x));  x += feed_forward(norm(x))
    hidden = norm(x)

By default equal, weight for weight, to Hugging Face's LlamaForCausalLM. The residual
stream is float32 whatever the compute type.
"""

from dataclasses import dataclass
from functools import partial

import tensorflow as tf

from trainer.compute.fusion import compiled_whole
from trainer.models.block import (
    Block,
    Stream,
    normalised_stream,
    site_seed,
    summed,
)
from trainer.models.decoder_checks import check_parts
from trainer.models.decoder_parts import activation_bytes, block_sizes
from trainer.models.decoder_shape import UNTURNED, WINDOW, DecoderShape
from trainer.models.language_model import PrecisionConfig, RowShape
from trainer.models.parameters import product_flops
from trainer.models.parts.attention import AttentionView, segment_mask
from trainer.models.parts.cache import Places, cache_mask
from trainer.models.parts.chunked_attention import Segments
from trainer.models.parts.fused_attention import PackedSegments, pack_segments
from trainer.models.parts.layers import (
    Initializer,
    Vocabulary,
    add_positions,
    dimensions,
    dropout,
)
from trainer.models.parts.rotary import rotation_table, step_table
from trainer.models.parts.weights import Role, Weight
from trainer.models.rematerialisation import rematerialised

Cache = tuple[tf.Tensor, tf.Tensor]


@dataclass(frozen=True)
class DecoderConfig(DecoderShape):
    """A shape whose parts go together, and the decoder it describes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parts(self)

    def build(
        self, vocab_size: int, precision: PrecisionConfig, initializer: Initializer
    ) -> "Decoder":
        """Builds the model; see `ModelConfig.build`."""
        return Decoder(self, vocab_size, precision, initializer)


class Decoder(tf.Module):
    """The decoder family; see `LanguageModel` for what each method promises."""

    def __init__(
        self,
        config: DecoderConfig,
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
        self.positions = None
        if config.position == "learned":
            self.positions = initializer.normal(
                "positions",
                [config.max_positions or 0, config.d_model],
                0.02,
                Weight(Role.POSITION),
            )
        self.layers = [
            Block(block_sizes(config, experts), initializer.under(f"layers/{index}"))
            for index, experts in enumerate(config.expert_layers)
        ]
        norms = block_sizes(config, experts=False).norms
        self.norm = norms.norm(initializer.under("norm"))

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
        seeds = (dropout_seed, rows)
        masks = (prefix, max_segments)
        return self._read(tokens, segment_ids, positions, masks, seeds, False)[0]

    def with_penalty(
        self,
        tokens: tf.Tensor,
        segment_ids: tf.Tensor,
        positions: tf.Tensor,
        *,
        prefix: tf.Tensor | None = None,
        max_segments: int | None = None,
        dropout_seed: tf.Tensor | None = None,
        rows: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes hidden states, and the experts' penalties as a mean of layers."""
        masks, seeds = (prefix, max_segments), (dropout_seed, rows)
        hidden, penalties = self._read(
            tokens, segment_ids, positions, masks, seeds, True
        )
        mean_N = tf.add_n(penalties) / len(penalties)
        return hidden, tf.reshape(mean_N, dimensions(tokens))

    def _read(
        self,
        tokens: tf.Tensor,
        segment_ids: tf.Tensor,
        positions: tf.Tensor,
        masks: tuple[tf.Tensor | None, int | None],
        seeds: tuple[tf.Tensor | None, tf.Tensor | None],
        penalised: bool,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns hidden states, and the penalties `[N]` of layers with experts."""
        dropout_seed, rows = seeds
        views = self._views(positions)
        for kind, view in views.items():
            mask = self._attention_mask(kind, segment_ids, *masks)
            views[kind] = view._replace(mask=mask)
        x_ND = self._embed(tokens, positions)
        x_ND = dropout(x_ND, self.config.dropout, site_seed(dropout_seed, 0), rows)
        stream: Stream = (x_ND, None)
        counted = segment_ids > 0 if penalised else None
        penalties: list[tf.Tensor] = []
        kinds = self.config.layer_kinds
        for number, (block, kind) in enumerate(zip(self.layers, kinds, strict=True), 1):
            layer = partial(
                block,
                dtype=self.compute_dtype,
                attend=partial(block.attention, view=views[kind]),
                rows=rows,
                site=2 * number,
                counted=counted,
            )
            if self.config.remat == "full":
                x_ND, *penalty = rematerialised(
                    block, partial(summed, layer), stream[0], dropout_seed
                )
                stream = (x_ND, None)
                penalties += penalty
            else:
                x_ND, more_ND, penalty_N = layer(*stream, dropout_seed)
                stream = (x_ND, more_ND)
                penalties += [] if penalty_N is None else [penalty_N]
        return self._finish(stream, tokens), penalties

    def initial_state(
        self, batch: tf.Tensor, capacity: int | tf.Tensor
    ) -> tuple[Cache, ...]:
        """Returns empty keys and values per layer, `[batch, kv_heads, columns, H]`.

        There is a column for each position, and a last one, which no query sees, for
        what padding writes.
        """
        heads = self.config.heads
        shape = [batch, heads.kv_heads, capacity + 1, heads.head_dim]
        empty = tf.zeros(shape, self.compute_dtype)
        return tuple((empty, empty) for _ in self.layers)

    def with_capacity(
        self, state: tuple[Cache, ...], capacity: int | tf.Tensor
    ) -> tuple[Cache, ...]:
        """Returns the state with columns cut off or added; copies none that fits."""

        def resized(cache: tf.Tensor) -> tf.Tensor:
            kept = cache[:, :, : capacity + 1]
            missing = capacity + 1 - dimensions(kept)[2]
            return tf.pad(kept, [[0, 0], [0, 0], [0, missing], [0, 0]])

        return tuple((resized(keys), resized(values)) for keys, values in state)

    def decode(
        self,
        tokens: tf.Tensor,
        state: tuple[Cache, ...],
        positions: tf.Tensor,
        lengths: tf.Tensor,
        *,
        owned: bool = False,
    ) -> tuple[tf.Tensor, tuple[Cache, ...]]:
        """Continues rows through the key/value cache."""
        spare = dimensions(state[0][0])[2] - 1
        step = tf.range(dimensions(tokens)[1])
        positions_BT = positions[:, None] + step
        columns_BT = tf.where(step < lengths[:, None], positions_BT, spare)
        # XLA has no operation that writes in place, and needs none.
        places = Places(columns_BT, owned and not compiled_whole())
        views = self._views(positions_BT)
        for kind, view in views.items():
            mask = cache_mask(positions_BT, spare + 1, self.config.sees(kind, None))
            turned = step_table(view.rotation) if view.one else view.rotation
            views[kind] = view._replace(mask=mask, rotation=turned)
        stream: Stream = (self._embed(tokens, positions_BT), None)
        caches: list[Cache] = []
        kinds = self.config.layer_kinds
        for block, kind, cache in zip(self.layers, kinds, state, strict=True):

            def attend(
                x: tf.Tensor,
                block: Block = block,
                view: AttentionView = views[kind],
                cache: Cache = cache,
            ) -> tf.Tensor:
                mixed, new = block.attention.decode(x, view, cache, places)
                caches.append(new)
                return mixed

            result = block(*stream, None, dtype=self.compute_dtype, attend=attend)
            stream = (result.first, result.more)
        return self._finish(stream, tokens), tuple(caches)

    def logits(self, hidden: tf.Tensor) -> tf.Tensor:
        """Turns hidden states into float32 logits."""
        logits, cap = self.vocabulary.logits(hidden), self.config.logit_cap
        return logits if cap is None else cap * tf.tanh(logits / cap)

    def output_weights(self) -> tf.Variable:
        """Returns the output matrix `[vocab_size, d_model]`."""
        return self.vocabulary.output_weights()

    def context(self, sequence_length: int) -> int | None:
        """Returns the positions it was made for, else the trained length.

        Farther ones were never turned to.
        """
        return self.config.max_positions or sequence_length

    def flops_per_token(self, sequence_length: int) -> float:
        """Returns 6 N + 12 L H Q T (PaLM, Chowdhery et al. 2022, appendix B).

        N: parameters that enter a matrix product (all but an untied embedding table),
        L layers, H heads, Q head width, T sequence length. Two operations a
        multiply-add, three products a weight (one forward, two backward); causal
        attention is counted in full, as PaLM and nanoGPT do.
        """
        config = self.config
        left_out = set() if config.tie_embeddings else {Role.EMBEDDING}
        seen = sum(
            min(config.sees(kind, sequence_length) or sequence_length, sequence_length)
            for kind in config.layer_kinds
        )
        attention = 12 * config.heads.query_width * seen
        return product_flops(self, set(Role) - left_out - {Role.POSITION}) + attention

    def activation_bytes(self, rows: int, sequence_length: int) -> int:
        """Returns the bytes that a forward pass keeps for the backward pass."""
        compute = self.compute_dtype.size
        return activation_bytes(self.config, rows, sequence_length, compute)

    def _embed(self, tokens: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        """Returns the first of the residual stream, `[N, D]`."""
        x_ND = self.vocabulary.embed(tf.reshape(tokens, [-1]))
        if self.config.embedding_scale != 1.0:
            x_ND *= self.config.embedding_scale
        if self.positions is None:
            return x_ND
        # What pads a row may lie farther; rows and prompts are held to the context.
        last = self.positions.shape[0] - 1
        return add_positions(
            x_ND, self.positions, tf.minimum(tf.reshape(positions, [-1]), last)
        )

    def _views(self, positions: tf.Tensor) -> dict[str, AttentionView]:
        """Returns what each kind of layer sees, but for the mask, by its letter."""
        config, length = self.config, dimensions(positions)[1]
        views = {}
        for kind in dict.fromkeys(config.layer_kinds):
            rotation = None
            if config.turned and kind != UNTURNED:
                theta, scaling = config.rope_theta, config.scaling()
                if kind == WINDOW and config.window_rope_theta is not None:
                    theta, scaling = config.window_rope_theta, None
                rotation = rotation_table(positions, config.turned, theta, scaling)
            views[kind] = AttentionView(length, rotation, None)
        return views

    def _attention_mask(
        self,
        kind: str,
        segment_ids: tf.Tensor,
        prefix: tf.Tensor | None,
        max_segments: int | None,
    ) -> tf.Tensor | Segments | PackedSegments:
        """Returns the attention mask: a tensor for short rows, else the segments.

        Where there is a kernel for the whole of attention, segments packed for it.
        """
        config, length = self.config, segment_ids.shape[1]
        rows = RowShape(length, max_segments, prefix is not None)
        how = config.attends(self.compute_dtype, rows, kind)
        if how == "fused" and max_segments is not None:
            return pack_segments(segment_ids, max_segments)
        window = config.sees(kind, length)
        if how == "chunked":
            chunk, cap = config.attention_chunk, config.attention_cap
            return Segments(segment_ids, prefix, chunk, window, cap)
        return segment_mask(segment_ids, prefix, window)

    def _finish(self, stream: Stream, tokens: tf.Tensor) -> tf.Tensor:
        """Applies the last norm and gives the rows their axes back."""
        _, hidden = normalised_stream(self.norm, stream, self.compute_dtype)
        if self.config.logit_scale != 1.0:
            hidden *= tf.cast(self.config.logit_scale, hidden.dtype)
        return tf.reshape(hidden, [*dimensions(tokens), self.config.d_model])
