# SPDX-License-Identifier: Apache-2.0
"""Gemma 3, the text models (arXiv 2503.19786).

Norms stand around both halves and keep their scales around 0, embeddings are scaled,
and of six layers five see a window, with rotary frequencies of their own.
"""

from typing import Any

from trainer.models.decoder_shape import FULL, WINDOW
from trainer.published.families.family import Family, FieldKey
from trainer.published.families.fields import Fields
from trainer.published.families.llama_names import (
    activation,
    biases,
    keys,
    layer_kinds,
    no_dropout,
    pattern,
    tensors,
)
from trainer.published.families.rope_fields import stretching

_THETA, _WINDOW_THETA = 1_000_000.0, 10_000.0
_CONFIG = keys(
    vocab_size=262208,
    d_model=2304,
    ffn_dim=9216,
    layers=26,
    heads=8,
    kv_heads=4,
    head_dim=256,
    positions=131072,
    epsilon=1e-6,
    tied=True,
)


def _rope(fields: Fields) -> dict[str, Any]:
    """Reads the frequencies of either kind of layer; only full ones are stretched."""
    both = fields.table("rope_parameters")
    full, window = both.table("full_attention"), both.table("sliding_attention")
    both.finish()
    outer = fields.take("rope_theta", float, _THETA)
    theta = full.take("rope_theta", float, outer)
    local = fields.take("rope_local_base_freq", float, _WINDOW_THETA)
    local = window.take("rope_theta", float, local)
    for name in ("rope_type", "type"):
        window.allow(name, ("default",))
    window.finish()
    stretched = full
    if fields.has("rope_scaling"):
        stretched = fields.table("rope_scaling")
        full.take("rope_type", str, None)
    keys = stretching(stretched, fields)
    stretched.finish()
    full.finish()
    return {"rope_theta": theta, "window_rope_theta": local, **keys}


def _windows(fields: Fields) -> dict[str, Any]:
    count = fields.take("num_hidden_layers", int, 26)
    names = ("sliding_window_pattern", "_sliding_window_pattern")
    every = fields.first(names, int, 6)
    kinds = layer_kinds(fields) or "".join(
        WINDOW if number % every else FULL for number in range(1, count + 1)
    )
    window = fields.take("sliding_window", int, 4096, null=True)
    return pattern(fields, kinds, window)


def _scales(fields: Fields) -> dict[str, Any]:
    return {
        "embedding_scale": fields.take("hidden_size", int, 2304) ** 0.5,
        "attention_scale": fields.take("query_pre_attn_scalar", float, 256) ** -0.5,
    }


def _cap(fields: Fields) -> dict[str, Any]:
    """Takes the cap of scores, which transformers 5.23 keeps and does not apply."""
    cap = fields.take("attn_logit_softcapping", float, None)
    if cap is not None:
        fields.notes.append(
            f"attn_logit_softcapping {cap:g} of {fields.path} is not applied, as "
            "transformers does not"
        )
    return {}


GEMMA3 = Family(
    model_type="gemma3_text",
    architecture="Gemma3ForCausalLM",
    keys={
        **_CONFIG,
        "final_logit_softcapping": FieldKey("logit_cap", None, float),
    },
    readers=(
        _rope,
        _windows,
        _scales,
        _cap,
        activation("hidden_activation", "gelu_pytorch_tanh"),
        biases(),
        no_dropout("attention_dropout"),
    ),
    table=tensors(),
    fixed={"qk_norm": "head", "norm_placement": "around", "norm_offset": 1.0},
    allowed={"use_bidirectional_attention": (False,)},
    # Read by no version, beside `hidden_activation`, which says the same.
    ignored=("hidden_act",),
)
