# SPDX-License-Identifier: Apache-2.0
"""GPT-2 (Radford et al. 2019): learned positions, layer norms, biases everywhere.

Its matrices are `[in, out]`, as here.
"""

from typing import Any

from trainer.models.decoder import DecoderConfig
from trainer.published.families.family import Family, FieldKey
from trainer.published.families.fields import Fields
from trainer.published.families.layouts import Table, same
from trainer.published.families.llama_names import activation

_LAYER = {
    "attention_norm/scale": "ln_1.weight",
    "attention_norm/bias": "ln_1.bias",
    "attention/qkv": "attn.c_attn.weight",
    "attention/qkv_bias": "attn.c_attn.bias",
    "attention/out": "attn.c_proj.weight",
    "attention/out_bias": "attn.c_proj.bias",
    "mlp_norm/scale": "ln_2.weight",
    "mlp_norm/bias": "ln_2.bias",
    "mlp/up": "mlp.c_fc.weight",
    "mlp/up_bias": "mlp.c_fc.bias",
    "mlp/down": "mlp.c_proj.weight",
    "mlp/down_bias": "mlp.c_proj.bias",
}


def _widths(fields: Fields) -> dict[str, Any]:
    width, inner = fields.take("n_embd", int, 768), fields.take("n_inner", int, None)
    return {"d_model": width, "ffn_dim": 4 * width if inner is None else inner}


def _scale(fields: Fields) -> dict[str, Any]:
    scaled = fields.take("scale_attn_weights", bool, True)
    return {} if scaled else {"attention_scale": 1.0}


def _dropout(fields: Fields) -> dict[str, Any]:
    """The embedding's and the layers' rate is one key here; scores have none."""
    names = ("embd_pdrop", "resid_pdrop", "attn_pdrop")
    embedding, layers, scores = (fields.take(x, float, 0.1) for x in names)
    if embedding == layers and not scores:
        return {"dropout": embedding}
    if embedding or layers or scores:
        fields.notes.append(
            f"dropout of {fields.path} (embd_pdrop {embedding:g}, resid_pdrop "
            f"{layers:g}, attn_pdrop {scores:g}) is left out: there is none of "
            "attention scores here. Set model.dropout for the other two"
        )
    return {}


def _tensors(config: DecoderConfig) -> Table:
    found = {
        "vocabulary/embedding": same("transformer.wte.weight"),
        "positions": same("transformer.wpe.weight"),
        "norm/scale": same("transformer.ln_f.weight"),
        "norm/bias": same("transformer.ln_f.bias"),
    }
    if not config.tie_embeddings:
        found["vocabulary/output"] = same("lm_head.weight")
    for index in range(config.num_layers):
        for ours, theirs in _LAYER.items():
            name = f"transformer.h.{index}.{theirs}"
            found[f"layers/{index}/{ours}"] = same(name)
    return found


GPT2 = Family(
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    keys={
        "vocab_size": FieldKey("vocab_size", 50257),
        "n_positions": FieldKey("max_positions", 1024),
        "n_layer": FieldKey("num_layers", 12),
        "n_head": FieldKey("num_heads", 12),
        "layer_norm_epsilon": FieldKey("norm_epsilon", 1e-5, float),
        "tie_word_embeddings": FieldKey("tie_embeddings", True, bool),
    },
    readers=(_widths, _scale, _dropout, activation("activation_function", "gelu_new")),
    table=_tensors,
    fixed={
        "position": "learned",
        "norm": "layer",
        "norm_bias": True,
        "attention_bias": "all",
        "ffn": "plain",
        "ffn_bias": True,
    },
    allowed={"scale_attn_by_inverse_layer_idx": (False,)},
    # The second to last is a type of sums, not a number of the model.
    ignored=(
        "n_ctx",
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
        "reorder_and_upcast_attn",
    ),
    prefix="transformer.",
    skipped=(r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias",),
)
