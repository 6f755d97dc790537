# SPDX-License-Identifier: Apache-2.0
"""Which parts of a decoder go together, and in what ranges its numbers lie."""

from preprocessing.foundation.commands import UsageError
from trainer.compute.float32 import check_range, check_zero_or_range
from trainer.models.decoder_shape import (
    ATTENTIONS,
    DENSE,
    EXPERTS,
    FULL,
    REMATERIALISATIONS,
    UNTURNED,
    WINDOW,
    DecoderShape,
)

_LARGEST_THETA = 1e12
_LARGEST_SCALE = 1e6
# Below BERT's 1e-12 the gradient of a position of zeros overflows in a few layers.
_LEAST_EPSILON = 1e-12
_LARGEST_LOSS = 1e3


def check_parts(shape: DecoderShape) -> None:
    """Checks a shape.

    Raises:
        UsageError: parts of it do not go together, or a number is out of range.
    """
    shape.check_one_of("attention", ATTENTIONS)
    shape.check_one_of("remat", REMATERIALISATIONS)
    shape.check_positive("num_layers", "d_model", "num_heads", "attention_chunk")
    for name in ("ffn_dim", "max_positions", "window", "rope_original_positions"):
        if getattr(shape, name) is not None:
            shape.check_positive(name)
    _check_heads(shape)
    _check_norms(shape)
    _check_rotation(shape)
    if shape.rope_scaling != "none":
        _check_scaling(shape)
    _check_patterns(shape)
    _check_scales(shape)
    _check_experts(shape)


def _check_heads(shape: DecoderShape) -> None:
    if shape.head_dim is None and shape.d_model % shape.num_heads:
        raise UsageError(
            "wanted model.d_model to be a multiple of model.num_heads, found "
            f"{shape.d_model} and {shape.num_heads}. Change one of them, or set "
            "model.head_dim"
        )
    sizes = shape.heads
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


def _check_norms(shape: DecoderShape) -> None:
    check_range("model.norm_epsilon", shape.norm_epsilon, _LEAST_EPSILON, 1.0)
    check_zero_or_range("model.norm_offset", shape.norm_offset, most=_LARGEST_SCALE)
    if shape.norm_bias and shape.norm != "layer":
        raise UsageError(
            "wanted model.norm layer with model.norm_bias, found "
            f"{shape.norm}, which has none. Change one of them"
        )
    if shape.parallel_residual and shape.norm_placement != "before":
        raise UsageError(
            "wanted model.norm_placement before with model.parallel_residual, "
            f"found {shape.norm_placement}. Change one of them"
        )


def _check_rotation(shape: DecoderShape) -> None:
    check_range("model.rope_theta", shape.rope_theta, 1.0, _LARGEST_THETA)
    if shape.window_rope_theta is not None:
        theta = shape.window_rope_theta
        check_range("model.window_rope_theta", theta, 1.0, _LARGEST_THETA)
    check_range("model.rope_fraction", shape.rope_fraction, 1e-3, 1.0)
    if shape.position == "learned":
        if shape.max_positions is None:
            raise UsageError(
                "wanted model.max_positions with model.position learned, found "
                "null. Say how many positions there are"
            )
    elif shape.turned < 2 or shape.turned % 2:
        raise UsageError(
            "wanted model.rope_fraction to turn an even number of a head's "
            f"{shape.heads.head_dim} columns, found {shape.turned}. Change it"
        )


def _check_scaling(shape: DecoderShape) -> None:
    check_range("model.rope_factor", shape.rope_factor, 1.0, _LARGEST_SCALE)
    if shape.rope_scaling != "linear" and shape.rope_original_positions is None:
        raise UsageError(
            "wanted model.rope_original_positions with model.rope_scaling "
            f"{shape.rope_scaling}, found null. Say the length of the first training"
        )
    for low, high in (
        ("rope_low_frequency", "rope_high_frequency"),
        ("rope_beta_slow", "rope_beta_fast"),
    ):
        if not 0 < getattr(shape, low) < getattr(shape, high) <= _LARGEST_SCALE:
            raise UsageError(
                f"wanted model.{low} above 0 and below model.{high}, found "
                f"{getattr(shape, low):g} and {getattr(shape, high):g}. Change them"
            )
    if shape.rope_attention_factor is not None:
        factor = shape.rope_attention_factor
        check_range("model.rope_attention_factor", factor, most=_LARGEST_SCALE)


def _check_patterns(shape: DecoderShape) -> None:
    for name, letters in (
        ("layer_pattern", FULL + WINDOW + UNTURNED),
        ("expert_pattern", EXPERTS + DENSE),
    ):
        pattern = getattr(shape, name)
        if not pattern or set(pattern) - set(letters):
            raise UsageError(
                f"wanted model.{name} of the letters {', '.join(letters)}, found "
                f"{pattern!r}. Write one letter for each layer, or fewer to repeat"
            )
    if WINDOW in shape.layer_pattern and shape.window is None:
        raise UsageError(
            f"wanted model.window with {WINDOW} in model.layer_pattern, found null."
            " Say how many positions such a layer sees"
        )


def _check_scales(shape: DecoderShape) -> None:
    for name in ("embedding_scale", "residual_scale", "logit_scale"):
        check_range(f"model.{name}", getattr(shape, name), 1e-6, _LARGEST_SCALE)
    for name in ("attention_scale", "attention_cap", "logit_cap"):
        if getattr(shape, name) is not None:
            check_range(f"model.{name}", getattr(shape, name), 1e-6, _LARGEST_SCALE)


def _check_experts(shape: DecoderShape) -> None:
    if shape.num_experts < 0:
        raise UsageError(
            f"wanted model.num_experts of 0 or more, found {shape.num_experts}. "
            "Raise it"
        )
    for name in ("balance_loss", "router_z_loss"):
        check_zero_or_range(f"model.{name}", getattr(shape, name), most=_LARGEST_LOSS)
    if not shape.num_experts:
        return
    if not 1 <= shape.experts_per_token <= shape.num_experts:
        raise UsageError(
            f"wanted model.experts_per_token from 1 to {shape.num_experts} (of "
            f"model.num_experts), found {shape.experts_per_token}. Change it"
        )
    if shape.expert_dim is not None:
        shape.check_positive("expert_dim")
    if shape.ffn != "gated" or shape.ffn_bias:
        raise UsageError(
            "wanted model.ffn gated without model.ffn_bias where there are experts, "
            f"found {shape.ffn}{' with biases' * shape.ffn_bias}. Change one of them"
        )
