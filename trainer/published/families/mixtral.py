# SPDX-License-Identifier: Apache-2.0
"""Mixtral (Jiang et al. 2024, arXiv 2401.04088): Mistral, each layer with experts."""

from typing import Any

from trainer.published.families.family import Family, FieldKey
from trainer.published.families.fields import Fields
from trainer.published.families.llama_names import (
    activation,
    keys,
    no_dropout,
    one_window,
    tensors,
)
from trainer.published.families.rope_fields import rope


def _experts(fields: Fields) -> dict[str, Any]:
    return {"num_experts": fields.first(("num_local_experts", "num_experts"), int, 8)}


MIXTRAL = Family(
    model_type="mixtral",
    architecture="MixtralForCausalLM",
    keys={
        **keys(
            vocab_size=32000,
            d_model=4096,
            ffn_dim=14336,
            layers=32,
            heads=32,
            kv_heads=8,
            positions=131072,
            epsilon=1e-5,
        ),
        "num_experts_per_tok": FieldKey("experts_per_token", 2),
    },
    readers=(
        rope(1_000_000.0),
        activation("hidden_act", "silu"),
        one_window(None),
        _experts,
        no_dropout("attention_dropout", "router_jitter_noise"),
    ),
    table=tensors(("block_sparse_moe", "w1", "w3", "w2")),
    fixed={"normalise_experts": True},
)
