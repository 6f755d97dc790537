# SPDX-License-Identifier: Apache-2.0
"""Granite 3 of IBM: Llama, with four scales."""

from typing import Any

from trainer.published.families.family import Family, FieldKey
from trainer.published.families.fields import Fields
from trainer.published.families.llama import mlp_biases
from trainer.published.families.llama_names import (
    activation,
    biases,
    keys,
    no_dropout,
    tensors,
)
from trainer.published.families.rope_fields import rope


def _logits(fields: Fields) -> dict[str, Any]:
    """Logits are divided by what the file has."""
    return {"logit_scale": 1.0 / fields.take("logits_scaling", float, 1.0)}


GRANITE = Family(
    model_type="granite",
    architecture="GraniteForCausalLM",
    keys={
        **keys(
            vocab_size=32000,
            d_model=4096,
            ffn_dim=11008,
            layers=32,
            heads=32,
            positions=2048,
            epsilon=1e-6,
        ),
        "embedding_multiplier": FieldKey("embedding_scale", 1.0, float),
        "attention_multiplier": FieldKey("attention_scale", 1.0, float),
        "residual_multiplier": FieldKey("residual_scale", 1.0, float),
    },
    readers=(
        rope(),
        activation("hidden_act", "silu"),
        biases(),
        mlp_biases,
        _logits,
        no_dropout("attention_dropout"),
    ),
    table=tensors(),
)
