# SPDX-License-Identifier: Apache-2.0
"""Qwen 3 with experts (arXiv 2505.09388): many small ones, in all layers or some."""

from typing import Any

from trainer.models.decoder_shape import DENSE, EXPERTS
from trainer.published.families.family import Family, FieldKey
from trainer.published.families.fields import Fields
from trainer.published.families.llama_names import (
    activation,
    biases,
    keys,
    no_dropout,
    one_window,
    tensors,
)
from trainer.published.families.rope_fields import rope


def _experts(fields: Fields) -> dict[str, Any]:
    """Reads which layers have experts: every n-th, but for those that are listed."""
    count = fields.take("num_hidden_layers", int, 24)
    every = fields.take("decoder_sparse_step", int, 1)
    dense = fields.take("mlp_only_layers", list, None) or []
    letters = "".join(
        EXPERTS if number % every == 0 and number - 1 not in dense else DENSE
        for number in range(1, count + 1)
    )
    number = fields.first(("num_experts", "num_local_experts"), int, 128)
    if EXPERTS not in letters:
        return {"num_experts": 0}
    short = EXPERTS if DENSE not in letters else letters
    return {"num_experts": number, "expert_pattern": short}


QWEN3_MOE = Family(
    model_type="qwen3_moe",
    architecture="Qwen3MoeForCausalLM",
    keys={
        **keys(
            vocab_size=151936,
            d_model=2048,
            ffn_dim=6144,
            layers=24,
            heads=32,
            kv_heads=4,
            positions=32768,
            epsilon=1e-6,
        ),
        "num_experts_per_tok": FieldKey("experts_per_token", 8),
        "moe_intermediate_size": FieldKey("expert_dim", 768),
        "norm_topk_prob": FieldKey("normalise_experts", False, bool),
    },
    readers=(
        rope(),
        activation("hidden_act", "silu"),
        biases(),
        one_window(4096, "use_sliding_window"),
        _experts,
        no_dropout("attention_dropout"),
    ),
    table=tensors(),
    fixed={"qk_norm": "head"},
    # Which layers have windows where there are any; transformers gives them to all.
    ignored=("max_window_layers",),
)
