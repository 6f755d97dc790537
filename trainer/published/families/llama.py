# SPDX-License-Identifier: Apache-2.0
"""Llama 2 and 3 (Touvron et al. 2023, arXiv 2302.13971; Grattafiori et al. 2024)."""

from collections.abc import Mapping
from typing import Any

from trainer.models.decoder import DecoderConfig
from trainer.published.families.family import Family
from trainer.published.families.fields import Fields
from trainer.published.families.llama_names import (
    activation,
    biases,
    keys,
    no_dropout,
    tensors,
)
from trainer.published.families.rope_fields import rope


def mlp_biases(fields: Fields) -> dict[str, Any]:
    """Reads whether the products of the feed-forward layer have biases."""
    return {"ffn_bias": fields.take("mlp_bias", bool, False)}


LLAMA = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    keys=keys(
        vocab_size=32000,
        d_model=4096,
        ffn_dim=11008,
        layers=32,
        heads=32,
        positions=2048,
        epsilon=1e-6,
    ),
    readers=(
        rope(),
        activation("hidden_act", "silu"),
        biases(),
        mlp_biases,
        no_dropout("attention_dropout"),
    ),
    table=tensors(),
)


def llama_fields(
    config: DecoderConfig, vocab_size: int, length: int
) -> Mapping[str, Any]:
    """Returns the `config.json` of a decoder that was made here and is a Llama.

    Whether it is one, only reading it again tells.

    Args:
        config: its shape.
        vocab_size: its ids.
        length: positions of the rows it was trained on.
    """
    heads, rope = (
        config.heads,
        {"rope_type": "default", "rope_theta": config.rope_theta},
    )
    if config.rope_scaling != "none":
        rope |= {"rope_type": config.rope_scaling, "factor": config.rope_factor}
    if config.rope_scaling in ("llama3", "yarn"):
        rope["original_max_position_embeddings"] = config.rope_original_positions
    if config.rope_scaling == "llama3":
        rope["low_freq_factor"] = config.rope_low_frequency
        rope["high_freq_factor"] = config.rope_high_frequency
    if config.rope_scaling == "yarn":
        rope["beta_slow"], rope["beta_fast"] = (
            config.rope_beta_slow,
            config.rope_beta_fast,
        )
        if config.rope_attention_factor is not None:
            rope["attention_factor"] = config.rope_attention_factor
    activations = {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}
    return {
        "architectures": [LLAMA.architecture],
        "attention_bias": config.attention_bias == "all",
        "dtype": "float32",
        "head_dim": heads.head_dim,
        "hidden_act": activations.get(config.activation, config.activation),
        "hidden_size": config.d_model,
        "intermediate_size": config.hidden_dim,
        "max_position_embeddings": config.max_positions or length,
        "mlp_bias": config.ffn_bias,
        "model_type": LLAMA.model_type,
        "num_attention_heads": heads.heads,
        "num_hidden_layers": config.num_layers,
        "num_key_value_heads": heads.kv_heads,
        "rms_norm_eps": config.norm_epsilon,
        "rope_parameters": rope,
        "tie_word_embeddings": config.tie_embeddings,
        "vocab_size": vocab_size,
    }
