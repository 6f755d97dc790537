# SPDX-License-Identifier: Apache-2.0
"""Fields and names of tensors that Llama began with and most families keep."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainer.models.decoder import DecoderConfig
from trainer.models.decoder_shape import FULL, WINDOW
from trainer.published.families.family import FieldKey
from trainer.published.families.fields import Fields, Reader
from trainer.published.families.layouts import (
    Table,
    TensorPart,
    columns,
    same,
    stacked,
    transposed,
)

ACTIVATIONS: Mapping[str, str] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
# Norms of a layer by `model.norm_placement`: ours, and theirs.
NORMS: Mapping[str, Mapping[str, str]] = {
    "before": {
        "attention_norm": "input_layernorm",
        "mlp_norm": "post_attention_layernorm",
    },
    "after": {
        "attention_post_norm": "post_attention_layernorm",
        "mlp_post_norm": "post_feedforward_layernorm",
    },
    "around": {
        "attention_norm": "input_layernorm",
        "attention_post_norm": "post_attention_layernorm",
        "mlp_norm": "pre_feedforward_layernorm",
        "mlp_post_norm": "post_feedforward_layernorm",
    },
}
# Of expert `{e}` of a layer: gate, up and down.
QWEN_EXPERTS = ("mlp", "gate_proj", "up_proj", "down_proj")


def keys(
    *,
    vocab_size: int,
    d_model: int,
    ffn_dim: int,
    layers: int,
    heads: int,
    positions: int,
    epsilon: float,
    kv_heads: int | None = None,
    head_dim: int | None = None,
    tied: bool = False,
) -> dict[str, FieldKey]:
    """Returns what Llama's fields give, with a family's own defaults."""
    return {
        "vocab_size": FieldKey("vocab_size", vocab_size),
        "hidden_size": FieldKey("d_model", d_model),
        "intermediate_size": FieldKey("ffn_dim", ffn_dim),
        "num_hidden_layers": FieldKey("num_layers", layers),
        "num_attention_heads": FieldKey("num_heads", heads),
        "num_key_value_heads": FieldKey("num_kv_heads", kv_heads, null=True),
        "head_dim": FieldKey("head_dim", head_dim),
        "max_position_embeddings": FieldKey("max_positions", positions),
        "rms_norm_eps": FieldKey("norm_epsilon", epsilon, float),
        "tie_word_embeddings": FieldKey("tie_embeddings", tied, bool),
    }


def activation(name: str, default: str) -> Reader:
    """Returns what reads the activation from the field `name`."""

    def read(fields: Fields) -> dict[str, Any]:
        found = fields.take(name, str, default)
        if found not in ACTIVATIONS:
            raise fields.refused(name, " or ".join(ACTIVATIONS))
        return {"activation": ACTIVATIONS[found]}

    return read


def biases(name: str = "attention_bias", default: bool = False) -> Reader:
    """Returns what reads whether all four products of attention have biases."""

    def read(fields: Fields) -> dict[str, Any]:
        return {"attention_bias": "all" if fields.take(name, bool, default) else "none"}

    return read


def no_dropout(*names: str) -> Reader:
    """Returns what reads rates of dropout that there is none of here, and says so."""

    def read(fields: Fields) -> dict[str, Any]:
        rates = {name: fields.take(name, float, 0.0, null=True) for name in names}
        asked = [f"{name} {rate:g}" for name, rate in rates.items() if rate]
        if asked:
            fields.notes.append(
                f"{' and '.join(asked)} of {fields.path} is left out of training"
            )
        return {}

    return read


def one_window(default: int | None, switch: str | None = None) -> Reader:
    """Returns what reads a window that all layers have, or none.

    Args:
        default: of `sliding_window`.
        switch: the field that says whether there is one.
    """

    def read(fields: Fields) -> dict[str, Any]:
        window = fields.take("sliding_window", int, default, null=True)
        if switch is not None and not fields.take(switch, bool, False):
            window = None
        return {} if window is None else {"layer_pattern": WINDOW, "window": window}

    return read


def late_windows(fields: Fields) -> dict[str, Any]:
    """Reads windows as Qwen 2 and 3 have them: from `max_window_layers` on."""
    window = fields.take("sliding_window", int, 4096, null=True)
    if not fields.take("use_sliding_window", bool, False):
        window = None
    before = fields.take("max_window_layers", int, 28)
    count = fields.take("num_hidden_layers", int, 32)
    full = count if window is None else min(before, count)
    kinds = layer_kinds(fields) or FULL * full + WINDOW * (count - full)
    return pattern(fields, kinds, window)


def layer_kinds(fields: Fields) -> str | None:
    """Returns a letter for each layer of `layer_types`; None where there is none."""
    kinds = fields.take("layer_types", list, None)
    if kinds is None:
        return None
    letters = {"full_attention": FULL, "sliding_attention": WINDOW}
    count = fields.take("num_hidden_layers", int, len(kinds))
    if len(kinds) != count or any(kind not in letters for kind in kinds):
        raise fields.refused("layer_types", f"{count} of {' or '.join(letters)}")
    return "".join(letters[kind] for kind in kinds)


def pattern(fields: Fields, kinds: str, window: int | None) -> dict[str, Any]:
    """Returns the keys of layers that see what their letters say."""
    if WINDOW not in kinds:
        return {}
    if window is None:
        raise fields.refused("sliding_window", "a whole number with sliding_attention")
    # As few letters as say it.
    short = WINDOW if kinds == WINDOW * len(kinds) else kinds
    return {"layer_pattern": short, "window": window}


def tensors(
    experts: Sequence[str] = QWEN_EXPERTS,
) -> Callable[[DecoderConfig], Table]:
    """Returns what gives the tensors of a model's weights, by path.

    Args:
        experts: where a layer keeps its router and experts, and what an expert calls
            its gate, up and down.
    """

    def table(config: DecoderConfig) -> Table:
        found = {
            "vocabulary/embedding": same("model.embed_tokens.weight"),
            "norm/scale": same("model.norm.weight"),
        }
        if not config.tie_embeddings:
            found["vocabulary/output"] = same("lm_head.weight")
        for index, has_experts in enumerate(config.expert_layers):
            at = f"model.layers.{index}."
            layer = _attention(config, at)
            for ours, theirs in NORMS[config.norm_placement].items():
                layer[f"{ours}/scale"] = same(f"{at}{theirs}.weight")
            if has_experts:
                layer |= _experts(config, at, *experts)
            else:
                layer |= _feed_forward(config, f"{at}mlp.")
            found |= {f"layers/{index}/{path}": x for path, x in layer.items()}
        return found

    return table


def _attention(config: DecoderConfig, at: str) -> dict[str, list[TensorPart]]:
    heads, at = config.heads, f"{at}self_attn."
    widths = (heads.query_width, heads.kv_width, heads.kv_width)

    def joined(kind: str) -> list[TensorPart]:
        return columns([f"{at}{part}_proj.{kind}" for part in "qkv"], widths)

    found = {
        "attention/qkv": joined("weight"),
        "attention/out": transposed(f"{at}o_proj.weight"),
    }
    if config.attention_bias != "none":
        found["attention/qkv_bias"] = joined("bias")
    if config.attention_bias == "all":
        found["attention/out_bias"] = same(f"{at}o_proj.bias")
    if config.qk_norm != "none":
        for part in "qk":
            name = f"{at}{part}_norm.weight"
            found[f"attention/{part}_norm/scale"] = same(name)
    return found


def _feed_forward(config: DecoderConfig, at: str) -> dict[str, list[TensorPart]]:
    widths = (config.hidden_dim, config.hidden_dim)

    def joined(kind: str) -> list[TensorPart]:
        return columns([f"{at}{part}_proj.{kind}" for part in ("gate", "up")], widths)

    found = {
        "mlp/gate_up": joined("weight"),
        "mlp/down": transposed(f"{at}down_proj.weight"),
    }
    if config.ffn_bias:
        found["mlp/up_bias"] = joined("bias")
        found["mlp/down_bias"] = same(f"{at}down_proj.bias")
    return found


def _experts(
    config: DecoderConfig, at: str, place: str, gate: str, up: str, down: str
) -> dict[str, list[TensorPart]]:
    width = config.hidden_dim if config.expert_dim is None else config.expert_dim
    places = [f"{at}{place}.experts.{e}." for e in range(config.num_experts)]
    firsts = [
        columns([f"{expert}{gate}.weight", f"{expert}{up}.weight"], (width, width))
        for expert in places
    ]
    return {
        "mlp/router": transposed(f"{at}{place}.gate.weight"),
        "mlp/gate_up": stacked(firsts),
        "mlp/down": stacked([transposed(f"{e}{down}.weight") for e in places]),
    }
