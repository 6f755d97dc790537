# SPDX-License-Identifier: Apache-2.0
"""The shape of a decoder: what its parts are.

The defaults are a Llama's (Touvron et al. 2023, arXiv 2302.13971). What published
families change is a key; which keys each family sets stands in `trainer/published/`.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import tensorflow as tf

from preprocessing.foundation.commands import UsageError
from trainer.models.language_model import ModelConfig, RowShape
from trainer.models.parts.attention import HeadSizes
from trainer.models.parts.fused_attention import fits
from trainer.models.parts.rotary import RopeScaling

# Letters of `layer_pattern`.
FULL, WINDOW, UNTURNED = "f", "w", "n"
# Letters of `expert_pattern`.
DENSE, EXPERTS = "d", "e"
ATTENTIONS = ("auto", "full", "chunked")
REMATERIALISATIONS = ("none", "full")

# From here on "auto" goes in chunks. On 2 cores (float32, batch 1, 6 heads of 64)
# attention and its gradient take as long at a length of 1,024, 40 ms of processor
# time, in full as in chunks of 256 (512: 43), and half of that where the row holds
# eight documents (512: 32); at 2,048, 154 ms against 132, and 37 with eight documents.
# Six such layers keep 151 MB of scores in full at 1,024, four times that at 2,048.
CHUNKED_FROM = 1024


@dataclass(frozen=True)
class DecoderShape(ModelConfig):
    """The shape of a decoder.

    Attributes:
        family: how configurations name it.
        dropout: rate on the embedding and on each layer's output; 0 turns it off.
        num_layers: blocks.
        d_model: width of the residual stream.
        num_heads: query heads.
        num_kv_heads: key and value heads; None means num_heads.
        head_dim: width of a head; None means d_model / num_heads.
        ffn_dim: inner width of the feed-forward layer; None means 8/3 of d_model,
            rounded up to a multiple of 64 (the parameter count of a 4 x d_model ReLU
            layer, Shazeer 2020, arXiv 2002.05202).
        tie_embeddings: whether the output weights are the embedding table.
        max_positions: positions the model was made for, which decoding may use; None
            means those of the rows it is trained on. Learned positions need it.
        norm: "rms" (Zhang and Sennrich 2019, arXiv 1910.07467) or "layer" (Ba et al.
            2016, arXiv 1607.06450).
        norm_bias: whether "layer" adds a bias.
        norm_offset: added to the scales of norms: 1 where they are kept around 0.
        norm_epsilon: added to the mean square, or the variance.
        norm_placement: where a layer's norms stand: "before" attention and the
            feed-forward layer, "after" them, or "around", both.
        parallel_residual: whether the feed-forward layer reads what attention reads,
            and not its result (GPT-J; Wang and Komatsuzaki 2021).
        position: "rotary" (Su et al. 2021, arXiv 2104.09864) or "learned".
        rope_theta: base of the rotary frequencies.
        rope_fraction: share of a head's columns that is turned, its first ones.
        rope_scaling: how frequencies are stretched beyond the first trained length:
            "none", "linear", "llama3" or "yarn"; see `rotary.py`.
        rope_factor: by how much.
        rope_original_positions: positions of the first training; of "llama3", "yarn".
        rope_low_frequency: of "llama3": turns in that length below which a frequency
            is divided by the factor.
        rope_high_frequency: of "llama3": turns above which it stays.
        rope_beta_slow: of "yarn": turns below which it is divided.
        rope_beta_fast: of "yarn": turns above which it stays.
        rope_attention_factor: of "yarn": what cosines and sines are multiplied by;
            None means 0.1 ln(factor) + 1.
        layer_pattern: a letter for each layer, repeated: "f" sees all before it, "w"
            the last `window` positions, "n" all, without rotary positions.
        window: positions that a query of a "w" layer sees, its own counted.
        window_rope_theta: base of the frequencies in "w" layers, which are never
            stretched then; None means as in the others.
        attention_bias: biases of "none", of "qkv", or of "all" four products.
        attention_scale: of the scores; None means 1 / sqrt(head_dim).
        attention_cap: c of c tanh(score / c); None caps none.
        qk_norm: which norm queries and keys go through before they are turned: "none",
            of each "head" alone, or of the whole "layer".
        ffn: "gated", down(act(gate x) * up x), or "plain", down(act(up x)).
        ffn_bias: whether its products add biases.
        activation: "silu", "gelu" (exact), "gelu_tanh" or "relu".
        embedding_scale: what embeddings are multiplied by.
        residual_scale: what each half of a layer is multiplied by before it is added.
        logit_scale: what logits are multiplied by.
        logit_cap: c of c tanh(logit / c); None caps none.
        num_experts: feed-forward layers that a token chooses from; 0 means one for all.
        experts_per_token: how many it is sent to.
        expert_dim: inner width of an expert; None means ffn_dim.
        expert_pattern: a letter for each layer, repeated: "e" has experts, "d" none.
        normalise_experts: whether the chosen experts' probabilities are made to sum
            to 1.
        balance_loss: weight of the loss that spreads tokens over experts
            (`experts.balance`), as a mean of layers and of a row's positions.
        router_z_loss: weight of the squared log of the router's denominator (Zoph et
            al. 2022, arXiv 2202.08906).
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
    max_positions: int | None = None
    norm: Literal["rms", "layer"] = "rms"
    norm_bias: bool = False
    norm_offset: float = 0.0
    norm_epsilon: float = 1e-5
    norm_placement: Literal["before", "after", "around"] = "before"
    parallel_residual: bool = False
    position: Literal["rotary", "learned"] = "rotary"
    rope_theta: float = 10_000.0
    rope_fraction: float = 1.0
    rope_scaling: Literal["none", "linear", "llama3", "yarn"] = "none"
    rope_factor: float = 1.0
    rope_original_positions: int | None = None
    rope_low_frequency: float = 1.0
    rope_high_frequency: float = 4.0
    rope_beta_slow: float = 1.0
    rope_beta_fast: float = 32.0
    rope_attention_factor: float | None = None
    layer_pattern: str = FULL
    window: int | None = None
    window_rope_theta: float | None = None
    attention_bias: Literal["none", "qkv", "all"] = "none"
    attention_scale: float | None = None
    attention_cap: float | None = None
    qk_norm: Literal["none", "head", "layer"] = "none"
    ffn: Literal["gated", "plain"] = "gated"
    ffn_bias: bool = False
    activation: Literal["silu", "gelu", "gelu_tanh", "relu"] = "silu"
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    logit_cap: float | None = None
    num_experts: int = 0
    experts_per_token: int = 2
    expert_dim: int | None = None
    expert_pattern: str = EXPERTS
    normalise_experts: bool = True
    balance_loss: float = 0.0
    router_z_loss: float = 0.0
    attention: str = "auto"
    attention_chunk: int = 256
    remat: str = "none"
    reads: ClassVar[frozenset[str]] = frozenset({"prefix_lengths"})

    @property
    def bends_logits_at(self) -> float | None:
        """The cap of logits."""
        return self.logit_cap

    def check_length(self, sequence_length: int) -> None:
        """Checks that there are positions enough; see `ModelConfig.check_length`."""
        most = self.max_positions
        if self.position == "learned" and most is not None and sequence_length > most:
            raise UsageError(
                f"wanted rows of at most {most:,} inputs, as model.max_positions says, "
                f"found {sequence_length:,}. Lower data.sequence_length"
            )

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
        """Inner width of the feed-forward layer."""
        if self.ffn_dim is not None:
            return self.ffn_dim
        return -(-8 * self.d_model // (3 * 64)) * 64

    @property
    def turned(self) -> int:
        """Columns of a head that are turned by position: an even number, or 0."""
        if self.position != "rotary":
            return 0
        return int(self.heads.head_dim * self.rope_fraction)

    @property
    def layer_kinds(self) -> str:
        """The letter of each layer: `num_layers` of them."""
        return _repeated(self.layer_pattern, self.num_layers)

    @property
    def expert_width(self) -> int:
        """Inner width of an expert."""
        return self.hidden_dim if self.expert_dim is None else self.expert_dim

    @property
    def penalises(self) -> bool:
        """Whether the choice of experts is penalised."""
        weighed = self.balance_loss > 0.0 or self.router_z_loss > 0.0
        return weighed and any(self.expert_layers)

    @property
    def expert_layers(self) -> list[bool]:
        """Tells of each layer whether it has experts."""
        if not self.num_experts:
            return [False] * self.num_layers
        letters = _repeated(self.expert_pattern, self.num_layers)
        return [letter == EXPERTS for letter in letters]

    def scaling(self) -> RopeScaling | None:
        """Returns how rotary frequencies are stretched, None where they are not."""
        if self.rope_scaling == "none":
            return None
        return RopeScaling(
            kind=self.rope_scaling,
            factor=self.rope_factor,
            original_positions=self.rope_original_positions or 0,
            low=self.rope_low_frequency,
            high=self.rope_high_frequency,
            slow=self.rope_beta_slow,
            fast=self.rope_beta_fast,
            attention_factor=self.rope_attention_factor,
        )

    def sees(self, kind: str, length: int | None) -> int | None:
        """Returns the window of a layer of this kind; None where it hides nothing.

        Args:
            kind: the layer's letter.
            length: of the rows; None if unknown.
        """
        if kind != WINDOW or self.window is None:
            return None
        return None if length is not None and length <= self.window else self.window

    def chunks(self, length: int | None) -> bool:
        """Tells whether rows of `length`, None if unknown, are attended in chunks.

        That is where no kernel attends (`attends`).
        """
        if length is None or self.attention == "full":
            return False
        return self.attention == "chunked" or length >= CHUNKED_FROM

    def attends(self, compute: tf.DType, rows: RowShape, kind: str = FULL) -> str:
        """Returns how rows are attended where this is traced: fused, chunked or full.

        Fused is one kernel of cuDNN (`fused_attention.py`), which knows no windows and
        no caps.

        Args:
            compute: the type of matrix products.
            rows: what is known of the rows.
            kind: the layer's letter.
        """
        may_fuse = self.attention == "auto" and not rows.prefixes
        may_fuse &= self.attention_cap is None and not self.sees(kind, rows.length)
        width = self.heads.head_dim
        if may_fuse and fits(compute, width, rows.length, rows.max_segments):
            return "fused"
        return "chunked" if self.chunks(rows.length) else "full"

    def remark(self, compute: tf.DType, rows: RowShape) -> str | None:
        """Says how rows are attended; see `ModelConfig.remark`."""
        said = {
            "fused": "one kernel of cuDNN, memory linear in the length",
            "chunked": f"chunks of {self.attention_chunk}, memory linear in the length",
            "full": "all scores of a row at once",
        }
        kinds = dict.fromkeys(
            self.attends(compute, rows, kind) for kind in self.layer_kinds
        )
        return f"attention: {' and '.join(said[kind] for kind in kinds)}"


def _repeated(pattern: str, count: int) -> str:
    return (pattern * count)[:count]
