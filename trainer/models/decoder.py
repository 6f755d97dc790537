# SPDX-License-Identifier: Apache-2.0
"""A Llama-style decoder (Touvron et al. 2023, arXiv 2302.13971).

    x = embed(tokens)
    for each block:  x += attention(norm(x));  x += swiglu(norm(x))
    hidden = norm(x)

Equal, weight for weight, to Hugging Face's LlamaForCausalLM. The residual stream is
float32 whatever the compute type.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import tensorflow as tf

from preprocessing.foundation.commands import UsageError
from trainer.compute.float32 import check_range
from trainer.models.block import (
    Block,
    BlockSizes,
    Stream,
    normalised_stream,
    site_seed,
    summed,
)
from trainer.models.language_model import ModelConfig, PrecisionConfig, RowShape
from trainer.models.parameters import product_flops
from trainer.models.parts.attention import (
    HeadSizes,
    cache_mask,
    cache_places,
    segment_mask,
)
from trainer.models.parts.chunked_attention import Segments
from trainer.models.parts.fused_attention import PackedSegments, fits, pack_segments
from trainer.models.parts.layers import Initializer, Vocabulary, dimensions, dropout
from trainer.models.parts.normalisation import RMSNorm
from trainer.models.parts.rotary import rotation_table
from trainer.models.parts.weights import Role
from trainer.models.rematerialisation import rematerialised

Cache = tuple[tf.Tensor, tf.Tensor]


ATTENTIONS = ("auto", "full", "chunked")
REMATERIALISATIONS = ("none", "full")
_FLOAT32 = 4
_LARGEST_THETA = 1e12
# Below BERT's 1e-12 the gradient of a position of zeros overflows in a few layers.
_LEAST_EPSILON = 1e-12

# From here on "auto" goes in chunks. On 2 cores (float32, batch 1, 6 heads of 64)
# attention and its gradient take as long at a length of 1,024, 40 ms of processor
# time, in full as in chunks of 256 (512: 43), and half of that where the row holds
# eight documents (512: 32); at 2,048, 154 ms against 132, and 37 with eight documents.
# Six such layers keep 151 MB of scores in full at 1,024, four times that at 2,048.
CHUNKED_FROM = 1024


@dataclass(frozen=True)
class DecoderConfig(ModelConfig):
    """The shape of a decoder.

    Attributes:
        family: how configurations name it.
        dropout: rate on the embedding and on each layer's output; 0 turns it off.
        num_layers: blocks.
        d_model: width of the residual stream.
        num_heads: query heads.
        num_kv_heads: key and value heads; None means num_heads.
        head_dim: width of a head; None means d_model / num_heads.
        ffn_dim: inner width of SwiGLU; None means 8/3 of d_model, rounded up to a
            multiple of 64 (the parameter count of a 4 x d_model ReLU layer, Shazeer
            2020, arXiv 2002.05202).
        tie_embeddings: whether the output weights are the embedding table.
        rope_theta: base of the rotary frequencies (Su et al. 2021, arXiv 2104.09864).
        norm_epsilon: added to the mean square in RMSNorm.
        attention: how it attends: "full" keeps every score of a row, "chunked" a chunk
            of them (`chunked_attention.py`), "auto" none on a GPU with a kernel for it
            (`fused_attention.py`), else it is chunked for rows of 1,024 or more. A
            graph for rows of any length attends in full.
        attention_chunk: longest chunk of queries and of keys.
        remat: "full" computes each block again in the backward pass, a third more
            work, and keeps only its input; "none" keeps everything.
    """

    family: str = "decoder"
    num_layers: int = 4
    d_model: int = 256
    num_heads: int = 4
    num_kv_heads: int | None = None
    head_dim: int | None = None
    ffn_dim: int | None = None
    tie_embeddings: bool = True
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-5
    attention: str = "auto"
    attention_chunk: int = 256
    remat: str = "none"
    reads: ClassVar[frozenset[str]] = frozenset({"prefix_lengths"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_one_of("attention", ATTENTIONS)
        self.check_one_of("remat", REMATERIALISATIONS)
        self.check_positive("num_layers", "d_model", "num_heads", "attention_chunk")
        if self.head_dim is None and self.d_model % self.num_heads:
            raise UsageError(
                "wanted model.d_model to be a multiple of model.num_heads, found "
                f"{self.d_model} and {self.num_heads}. Change one of them, or set "
                "model.head_dim"
            )
        sizes = self.heads
        if sizes.head_dim < 2 or sizes.head_dim % 2:
            raise UsageError(
                "wanted heads of an even width (rotary embedding turns pairs), found "
                f"{sizes.head_dim}. Change model.head_dim, or model.d_model or "
                "model.num_heads"
            )
        if sizes.kv_heads < 1 or sizes.heads % sizes.kv_heads:
            raise UsageError(
                "wanted model.num_heads to be a multiple of model.num_kv_heads, found "
                f"{sizes.heads} and {sizes.kv_heads}. Change one of them"
            )
        if self.ffn_dim is not None:
            self.check_positive("ffn_dim")
        check_range("model.rope_theta", self.rope_theta, 1.0, _LARGEST_THETA)
        check_range("model.norm_epsilon", self.norm_epsilon, _LEAST_EPSILON, 1.0)

    def build(
        self, vocab_size: int, precision: PrecisionConfig, initializer: Initializer
    ) -> "Decoder":
        """Builds the model; see `ModelConfig.build`."""
        return Decoder(self, vocab_size, precision, initializer)

    @property
    def heads(self) -> HeadSizes:
        """The heads, where the configuration leaves them out too."""
        heads, kv_heads = self.num_heads, self.num_kv_heads
        return HeadSizes(
            heads,
            heads if kv_heads is None else kv_heads,
            self.d_model // heads if self.head_dim is None else self.head_dim,
        )

    @property
    def hidden_dim(self) -> int:
        """Inner width of the SwiGLU layer."""
        if self.ffn_dim is not None:
            return self.ffn_dim
        return -(-8 * self.d_model // (3 * 64)) * 64

    def chunks(self, length: int | None) -> bool:
        """Tells whether rows of `length`, None if unknown, are attended in chunks.

        That is where no kernel attends (`attends`).
        """
        if length is None or self.attention == "full":
            return False
        return self.attention == "chunked" or length >= CHUNKED_FROM

    def attends(self, compute: tf.DType, rows: RowShape) -> str:
        """Returns how rows are attended where this is traced: fused, chunked or full.

        Fused is one kernel of cuDNN (`fused_attention.py`).
        """
        may_fuse = self.attention == "auto" and not rows.prefixes
        width = self.heads.head_dim
        if may_fuse and fits(compute, width, rows.length, rows.max_segments):
            return "fused"
        return "chunked" if self.chunks(rows.length) else "full"

    def remark(self, compute: tf.DType, rows: RowShape) -> str:
        """Says how rows are attended; see `ModelConfig.remark`."""
        said = {
            "fused": "one kernel of cuDNN, memory linear in the length",
            "chunked": f"chunks of {self.attention_chunk}, memory linear in the length",
            "full": "all scores of a row at once",
        }
        return f"attention: {said[self.attends(compute, rows)]}"


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
        sizes = BlockSizes(
            config.d_model,
            config.heads,
            config.hidden_dim,
            config.num_layers,
            config.norm_epsilon,
            config.dropout,
        )
        self.layers = [
            Block(sizes, initializer.under(f"layers/{index}"))
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
        max_segments: int | None = None,
        dropout_seed: tf.Tensor | None = None,
        rows: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Computes hidden states of packed rows: `[batch, length, d_model]`."""
        mask = self._attention_mask(segment_ids, prefix, max_segments)
        rotation = self._rotation(positions)
        x_ND = self._embed(tokens)
        x_ND = dropout(x_ND, self.config.dropout, site_seed(dropout_seed, 0), rows)
        stream: Stream = (x_ND, None)
        for number, block in enumerate(self.layers, 1):
            layer = partial(
                block,
                dtype=self.compute_dtype,
                attend=partial(block.attention, rotation=rotation, mask=mask),
                rows=rows,
                site=2 * number,
            )
            if self.config.remat == "full":
                x_ND = rematerialised(block, partial(summed, layer), x_ND, dropout_seed)
                stream = (x_ND, None)
            else:
                stream = layer(*stream, dropout_seed)
        return self._finish(stream, tokens)

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

    def decode(
        self,
        tokens: tf.Tensor,
        state: tuple[Cache, ...],
        positions: tf.Tensor,
        lengths: tf.Tensor,
    ) -> tuple[tf.Tensor, tuple[Cache, ...]]:
        """Continues rows through the key/value cache."""
        spare = dimensions(state[0][0])[2] - 1
        step = tf.range(dimensions(tokens)[1])
        positions_BT = positions[:, None] + step
        columns_BT = tf.where(step < lengths[:, None], positions_BT, spare)
        places = cache_places(columns_BT, self.config.heads.kv_heads)
        mask = cache_mask(positions_BT, spare + 1)
        rotation = self._rotation(positions_BT)
        stream: Stream = (self._embed(tokens), None)
        caches: list[Cache] = []
        for block, cache in zip(self.layers, state, strict=True):

            def attend(
                x: tf.Tensor, block: Block = block, cache: Cache = cache
            ) -> tf.Tensor:
                mixed, new = block.attention.decode(x, rotation, mask, cache, places)
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

    def context(self, sequence_length: int) -> int | None:
        """Returns the trained length: farther positions were never turned to."""
        return sequence_length

    def flops_per_token(self, sequence_length: int) -> float:
        """Returns 6 N + 12 L H Q T (PaLM, Chowdhery et al. 2022, appendix B).

        N: parameters that enter a matrix product (all but an untied embedding table),
        L layers, H heads, Q head width, T sequence length. Two operations a
        multiply-add, three products a weight (one forward, two backward); causal
        attention is counted in full, as PaLM and nanoGPT do.
        """
        config = self.config
        left_out = set() if config.tie_embeddings else {Role.EMBEDDING}
        width = config.heads.query_width
        attention = 12 * config.num_layers * width * sequence_length
        return product_flops(self, set(Role) - left_out) + attention

    def activation_bytes(self, rows: int, sequence_length: int) -> int:
        """Returns the bytes that a forward pass keeps for the backward pass."""
        config, positions = self.config, rows * sequence_length
        block = self._block_bytes(sequence_length)
        # Scores of one layer, their softmax and both gradients.
        chunk = sequence_length
        if config.chunks(sequence_length):
            chunk = min(sequence_length, config.attention_chunk)
        passing = 4 * _FLOAT32 * rows * chunk * config.num_heads * chunk
        if config.remat == "full":
            # Every block's input, then one block's activations and their gradients.
            inputs = _FLOAT32 * config.d_model * config.num_layers
            return positions * (inputs + 2 * block) + passing
        return positions * config.num_layers * block + passing

    def _block_bytes(self, length: int) -> int:
        """Returns what the backward pass of a block reads, in bytes a position.

        In float32: the input of each half and its normalised form. In the compute
        type: the scaled norms, queries, keys, values and what they mixed; gate, up,
        silu(gate) and its product with up. In full, a row of softmax for each head; in
        chunks, a second copy of queries, keys and values, and a logarithm for each
        head.
        """
        config, compute = self.config, self.compute_dtype.size
        width, heads = config.d_model, config.heads
        attended = heads.query_width + 2 * heads.kv_width
        mixed = heads.query_width
        kept = 4 * width * _FLOAT32
        kept += (2 * width + attended + mixed + 4 * config.hidden_dim) * compute
        if config.dropout:
            kept += 2 * width * compute
        if config.chunks(length):
            return kept + attended * compute + heads.heads * _FLOAT32
        cast = compute if compute != _FLOAT32 else 0
        return kept + heads.heads * length * (_FLOAT32 + cast)

    def _embed(self, tokens: tf.Tensor) -> tf.Tensor:
        return self.vocabulary.embed(tf.reshape(tokens, [-1]))

    def _attention_mask(
        self,
        segment_ids: tf.Tensor,
        prefix: tf.Tensor | None,
        max_segments: int | None,
    ) -> tf.Tensor | Segments | PackedSegments:
        """Returns the attention mask: a tensor for short rows, else the segments.

        Where there is a kernel for the whole of attention, segments packed for it.
        """
        rows = RowShape(segment_ids.shape[1], max_segments, prefix is not None)
        kind = self.config.attends(self.compute_dtype, rows)
        if kind == "fused" and max_segments is not None:
            return pack_segments(segment_ids, max_segments)
        if kind == "chunked":
            return Segments(segment_ids, prefix, self.config.attention_chunk)
        return segment_mask(segment_ids, prefix)

    def _rotation(self, positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return rotation_table(
            positions, self.config.heads.head_dim, self.config.rope_theta
        )

    def _finish(self, stream: Stream, tokens: tf.Tensor) -> tf.Tensor:
        """Applies the last norm and gives the rows their axes back."""
        _, hidden = normalised_stream(self.norm, stream, self.compute_dtype)
        return tf.reshape(hidden, [*dimensions(tokens), self.config.d_model])
