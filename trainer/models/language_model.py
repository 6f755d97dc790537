# SPDX-License-Identifier: Apache-2.0
"""What every model family promises, and the two configurations that describe one."""

from dataclasses import dataclass
from typing import Any, Protocol

import tensorflow as tf

from preprocessing.commands import UsageError, suggest

FAMILIES = ("decoder", "recurrent")
COMPUTE_DTYPES = ("float32", "bfloat16", "float16")
ATTENTIONS = ("auto", "full", "chunked")
REMATERIALISATIONS = ("none", "full")

# From here on "auto" goes in chunks. On 2 cores (float32, batch 1, 6 heads of 64)
# attention and its gradient take as long at a length of 1,024, 40 ms of processor
# time, in full as in chunks of 256 (512: 43), and half of that where the row holds
# eight documents (512: 32); at 2,048, 154 ms against 132, and 37 with eight documents.
# Six such layers keep 151 MB of scores in full at 1,024, four times that at 2,048.
CHUNKED_FROM = 1024


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a language model.

    Attributes:
        family: "decoder" (Llama style) or "recurrent" (embedding, GRU, dense).
        num_layers: blocks of the decoder, or GRU layers.
        d_model: width of the residual stream, or units of each GRU.
        num_heads: query heads of the decoder; d_model must be a multiple.
        num_kv_heads: key and value heads; None means num_heads.
        ffn_dim: inner width of SwiGLU; None means 8/3 of d_model, rounded up to a
            multiple of 64 (the parameter count of a 4 x d_model ReLU layer, Shazeer
            2020, arXiv 2002.05202).
        tie_embeddings: whether the output weights are the embedding table.
        rope_theta: base of the rotary frequencies (Su et al. 2021, arXiv 2104.09864).
        norm_epsilon: added to the mean square in RMSNorm.
        dropout: rate on the embedding and on each layer's output; 0 turns it off.
        attention: how the decoder attends: "full" keeps every score of a row, "chunked"
            a chunk of them (`chunked_attention.py`), "auto" is chunked for rows of
            1,024 or more. A graph for rows of any length attends in full.
        attention_chunk: longest chunk of queries and of keys.
        remat: "full" computes each block of the decoder again in the backward pass,
            a third more work, and keeps only its input; "none" keeps everything.
    """

    family: str = "decoder"
    num_layers: int = 4
    d_model: int = 256
    num_heads: int = 4
    num_kv_heads: int | None = None
    ffn_dim: int | None = None
    tie_embeddings: bool = True
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-5
    dropout: float = 0.0
    attention: str = "auto"
    attention_chunk: int = 256
    remat: str = "none"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("family", FAMILIES),
            ("attention", ATTENTIONS),
            ("remat", REMATERIALISATIONS),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise UsageError(
                    f"wanted model.{name} to be one of {', '.join(allowed)}, found "
                    f"{value!r}.{suggest(str(value), allowed)} Choose one"
                )
        for name in (
            "num_layers",
            "d_model",
            "num_heads",
            "kv_heads",
            "hidden_dim",
            "attention_chunk",
        ):
            if getattr(self, name) < 1:
                raise UsageError(
                    f"wanted model.{name} of 1 or more, found {getattr(self, name)}. "
                    "Raise it"
                )
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(
                f"wanted model.dropout in [0, 1), found {self.dropout}. Lower it"
            )
        if self.family == "decoder":
            self._check_heads()
        elif self.remat != "none":
            raise UsageError(
                f"wanted model.remat none for the {self.family} family, found "
                f"{self.remat!r}: only the decoder's blocks are computed again. Leave "
                "it out"
            )

    def _check_heads(self) -> None:
        if self.d_model % self.num_heads or self.head_dim % 2:
            raise UsageError(
                "wanted model.d_model to be an even multiple of model.num_heads "
                "(rotary embedding turns pairs), found "
                f"{self.d_model} and {self.num_heads}. Change one of them"
            )
        if self.num_heads % self.kv_heads:
            raise UsageError(
                "wanted model.num_heads to be a multiple of model.num_kv_heads, found "
                f"{self.num_heads} and {self.kv_heads}. Change one of them"
            )

    @property
    def kv_heads(self) -> int:
        """Number of key and value heads."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.num_heads

    def chunks(self, length: int | None) -> bool:
        """Tells whether rows of `length`, None if unknown, are attended in chunks."""
        if length is None or self.attention == "full":
            return False
        return self.attention == "chunked" or length >= CHUNKED_FROM

    @property
    def hidden_dim(self) -> int:
        """Inner width of the SwiGLU layer."""
        if self.ffn_dim is not None:
            return self.ffn_dim
        return -(-8 * self.d_model // (3 * 64)) * 64


@dataclass(frozen=True)
class PrecisionConfig:
    """The types a model computes in and keeps its parameters in.

    Attributes:
        compute: "float32", "bfloat16" or "float16", the type of matrix products.
            Norms, softmax and loss are float32 in all. float16 holds nothing above
            65,504 and loses gradients below 6e-8, so its loss has to be scaled.
        params: "float32": updates smaller than 1/256 of a weight vanish in bfloat16.
    """

    compute: str = "float32"
    params: str = "float32"

    def __post_init__(self) -> None:
        if self.compute not in COMPUTE_DTYPES:
            raise UsageError(
                f"wanted precision.compute to be one of {', '.join(COMPUTE_DTYPES)}, "
                f"found {self.compute!r}. Choose one"
            )
        if self.params != "float32":
            raise UsageError(
                f"wanted precision.params float32, found {self.params!r}. Keep float32 "
                "and set precision.compute to bfloat16"
            )


class LanguageModel(Protocol):
    """A language model: a `tf.Module` with these methods and properties.

    Segment ids count from 1 within a row; 0 is padding. Attention and recurrent state
    never cross from one segment into another. The matrices below `layers` are read in
    `compute_dtype` alone, so that tensors of that type may stand in their place.
    """

    config: ModelConfig
    vocab_size: int
    compute_dtype: tf.DType
    trainable_variables: Any

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
        """Computes the last hidden states of packed rows.

        Args:
            tokens: ids, int32 `[batch, length]`.
            segment_ids: int32 `[batch, length]`, 0 for padding.
            positions: int32 `[batch, length]`, from 0 in each segment.
            prefix: bool `[batch, length]`, tokens that their whole segment may see;
                None without any. The decoder's alone.
            dropout_seed: int32 `[2]` naming (seed, step); None turns dropout off.
            rows: int32 `[batch]`, the row's number in the global batch, so that a
                row's dropout does not depend on the replica it falls to. Required
                with dropout_seed.

        Returns:
            Hidden states `[batch, length, d_model]` in the compute type.
        """

    def logits(self, hidden: tf.Tensor) -> tf.Tensor:
        """Turns hidden `[..., d_model]` into float32 logits `[..., vocab_size]`."""

    def output_weights(self) -> tf.Variable:
        """Returns the output matrix `[vocab_size, d_model]`."""

    def initial_state(self, batch: tf.Tensor, capacity: int | tf.Tensor) -> Any:
        """Returns an empty decoding state for `capacity` positions, a nest of tensors.

        Treat the nest as opaque: its layout is the family's own.
        """

    def decode(
        self, tokens: tf.Tensor, state: Any, index: tf.Tensor, pad: tf.Tensor
    ) -> tuple[tf.Tensor, Any]:
        """Continues each row by `tokens`, reading and extending `state`.

        Called with a left-padded prompt at index 0 (prefill), then with one token a
        row at a time. A row's position is `index + t - pad`; what stands left of
        position 0 is padding and never seen.

        Args:
            tokens: ids, int32 `[batch, length]`; any size may be dynamic.
            state: what `initial_state` or the last call returned.
            index: scalar int32, the column of the first of these tokens.
            pad: int32 `[batch]`, number of padding columns left of each row.

        Returns:
            Hidden states `[batch, length, d_model]` (meaningless at padding), and the
            next state.
        """

    def flops_per_token(self, sequence_length: int) -> float:
        """Floating-point operations to train on one token, forward and backward."""

    @property
    def num_parameters(self) -> int:
        """Number of trainable scalars."""
