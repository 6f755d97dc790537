# SPDX-License-Identifier: Apache-2.0
"""What the layers of a decoder are made of, by its shape, and what they keep."""

import tensorflow as tf

from trainer.models.block import BlockSizes, NormSizes
from trainer.models.decoder_shape import DecoderShape
from trainer.models.parts.attention import AttentionSizes
from trainer.models.parts.experts import ExpertsSizes
from trainer.models.parts.feed_forward import FeedForwardSizes
from trainer.models.parts.grouped_products import block_rows, count_blocks

_FLOAT32 = 4


def _ffn_sizes(shape: DecoderShape, experts: bool) -> FeedForwardSizes | ExpertsSizes:
    """Returns what the feed-forward layers with or without experts are made of."""
    if experts:
        return ExpertsSizes(
            shape.d_model,
            shape.expert_width,
            shape.num_layers,
            shape.num_experts,
            shape.experts_per_token,
            shape.activation,
            shape.normalise_experts,
            shape.balance_loss,
            shape.router_z_loss,
        )
    return FeedForwardSizes(
        shape.d_model,
        shape.hidden_dim,
        shape.num_layers,
        shape.ffn == "gated",
        shape.activation,
        shape.ffn_bias,
    )


def block_sizes(shape: DecoderShape, experts: bool) -> BlockSizes:
    """Returns what the layers with or without experts are made of."""
    return BlockSizes(
        norms=NormSizes(
            shape.d_model,
            shape.norm_epsilon,
            shape.norm == "layer",
            shape.norm_bias,
            shape.norm_offset,
        ),
        placement=shape.norm_placement,
        parallel=shape.parallel_residual,
        attention=AttentionSizes(
            shape.d_model,
            shape.heads,
            shape.num_layers,
            shape.attention_bias,
            shape.qk_norm,
            shape.norm_epsilon,
            shape.norm_offset,
            shape.attention_scale,
            shape.attention_cap,
        ),
        ffn=_ffn_sizes(shape, experts),
        dropout=shape.dropout,
        scale=shape.residual_scale,
    )


def activation_bytes(shape: DecoderShape, rows: int, length: int, compute: int) -> int:
    """Returns the bytes that a forward pass keeps for the backward pass.

    Args:
        shape: of the decoder.
        rows: of a micro-batch.
        length: of the rows.
        compute: bytes of a number in the compute type.
    """
    positions = rows * length
    blocks = [
        _block_bytes(shape, length, compute, experts) for experts in shape.expert_layers
    ]
    # Scores of one layer, their softmax and both gradients.
    chunk = min(length, shape.attention_chunk) if shape.chunks(length) else length
    passing = 4 * _FLOAT32 * rows * chunk * shape.num_heads * chunk
    if any(shape.expert_layers):
        # Rows in the order of their experts and the gradients of what experts made.
        columns = 2 * shape.d_model + 5 * shape.expert_width
        choices = positions * shape.experts_per_token
        copied = _copied_bytes(shape, choices, compute)
        passing = max(passing, choices * columns * compute + copied)
    if shape.remat == "full":
        # Every block's input, then one block's activations and their gradients.
        inputs = _FLOAT32 * shape.d_model * shape.num_layers
        return positions * (inputs + 2 * max(blocks)) + passing
    return positions * sum(blocks) + passing


def _copied_bytes(shape: DecoderShape, choices: int, compute: int) -> int:
    """Returns what blocks copy of experts' first matrices, and their gradients.

    Only XLA needs blocks, which is chosen on GPUs.
    """
    if not tf.config.list_physical_devices("GPU"):
        return 0
    size = block_rows(choices, shape.num_experts)
    blocks = count_blocks(choices, size, shape.num_experts)
    return 2 * blocks * 2 * shape.d_model * shape.expert_width * compute


def _block_bytes(shape: DecoderShape, length: int, compute: int, experts: bool) -> int:
    """Returns what the backward pass of a block reads, in bytes a position.

    In float32: the input of each half and its normalised form. In the compute type: the
    scaled norms, queries, keys, values and what they mixed; gate, up, silu(gate) and
    its product with up. Experts keep gate and up of those that were chosen, and the
    router's logits, shares and their gradient. In full, a row of softmax for each head;
    in chunks, a second copy of queries, keys and values, and a logarithm for each head.
    """
    width, heads = shape.d_model, shape.heads
    attended = heads.query_width + 2 * heads.kv_width
    mixed, inner = heads.query_width, 4 * shape.hidden_dim
    kept = 4 * width * _FLOAT32
    if experts:
        inner = 2 * shape.experts_per_token * shape.expert_width
        kept += 3 * shape.num_experts * _FLOAT32
    kept += (2 * width + attended + mixed + inner) * compute
    if shape.dropout:
        kept += 2 * width * compute
    if shape.chunks(length):
        return kept + attended * compute + heads.heads * _FLOAT32
    cast = compute if compute != _FLOAT32 else 0
    return kept + heads.heads * length * (_FLOAT32 + cast)
