# SPDX-License-Identifier: Apache-2.0
"""GPT-NeoX (Black et al. 2022, arXiv 2204.06745), of which Pythia is.

Both halves of a layer read the same input, a part of each head is turned, and queries,
keys and values are one matrix with the three of each head together.
"""

from typing import Any

from trainer.models.decoder import DecoderConfig
from trainer.published.families.family import Family, FieldKey
from trainer.published.families.fields import Fields
from trainer.published.families.layouts import Table, interleaved, same, transposed
from trainer.published.families.llama_names import activation, biases
from trainer.published.families.rope_fields import rope


def _dropout(fields: Fields) -> dict[str, Any]:
    """Of the embedding and the layers, as here, but for that of attention scores."""
    names = ("hidden_dropout", "attention_dropout")
    layers, scores = (fields.take(name, float, 0.0) for name in names)
    if not scores:
        return {"dropout": layers}
    fields.notes.append(
        f"dropout of {fields.path} (hidden_dropout {layers:g}, attention_dropout "
        f"{scores:g}) is left out: there is none of attention scores here. Set "
        "model.dropout for the other"
    )
    return {}


def _tensors(config: DecoderConfig) -> Table:
    found = {
        "vocabulary/embedding": same("gpt_neox.embed_in.weight"),
        "norm/scale": same("gpt_neox.final_layer_norm.weight"),
        "norm/bias": same("gpt_neox.final_layer_norm.bias"),
    }
    if not config.tie_embeddings:
        found["vocabulary/output"] = same("embed_out.weight")
    heads = config.heads.heads
    for index in range(config.num_layers):
        at = f"gpt_neox.layers.{index}."
        qkv, out = f"{at}attention.query_key_value", f"{at}attention.dense"
        first, second = f"{at}mlp.dense_h_to_4h", f"{at}mlp.dense_4h_to_h"
        layer = {
            "attention/qkv": interleaved(f"{qkv}.weight", 3, heads),
            "attention/out": transposed(f"{out}.weight"),
            "mlp/up": transposed(f"{first}.weight"),
            "mlp/up_bias": same(f"{first}.bias"),
            "mlp/down": transposed(f"{second}.weight"),
            "mlp/down_bias": same(f"{second}.bias"),
        }
        if config.attention_bias == "all":
            layer["attention/qkv_bias"] = interleaved(f"{qkv}.bias", 3, heads)
            layer["attention/out_bias"] = same(f"{out}.bias")
        for ours, theirs in (
            ("attention_norm", "input_layernorm"),
            ("mlp_norm", "post_attention_layernorm"),
        ):
            layer[f"{ours}/scale"] = same(f"{at}{theirs}.weight")
            layer[f"{ours}/bias"] = same(f"{at}{theirs}.bias")
        found |= {f"layers/{index}/{path}": pieces for path, pieces in layer.items()}
    return found


GPT_NEOX = Family(
    model_type="gpt_neox",
    architecture="GPTNeoXForCausalLM",
    keys={
        "vocab_size": FieldKey("vocab_size", 50432),
        "hidden_size": FieldKey("d_model", 6144),
        "intermediate_size": FieldKey("ffn_dim", 24576),
        "num_hidden_layers": FieldKey("num_layers", 44),
        "num_attention_heads": FieldKey("num_heads", 64),
        "max_position_embeddings": FieldKey("max_positions", 2048),
        "layer_norm_eps": FieldKey("norm_epsilon", 1e-5, float),
        "use_parallel_residual": FieldKey("parallel_residual", True, bool),
        "tie_word_embeddings": FieldKey("tie_embeddings", False, bool),
    },
    readers=(
        rope(theta_field="rotary_emb_base", share_field="rotary_pct", share=0.25),
        activation("hidden_act", "gelu"),
        biases(default=True),
        _dropout,
    ),
    table=_tensors,
    fixed={
        "norm": "layer",
        "norm_bias": True,
        "ffn": "plain",
        "ffn_bias": True,
    },
    # Of GPT-NeoX-20B, and read by nothing.
    ignored=("attention_probs_dropout_prob", "hidden_dropout_prob"),
    prefix="gpt_neox.",
    output="embed_out.weight",
    skipped=(
        r"(gpt_neox\.)?layers\.\d+\.attention\.(masked_)?bias",
        r".*\.rotary_emb\.inv_freq",
    ),
)
