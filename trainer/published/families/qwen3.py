# SPDX-License-Identifier: Apache-2.0
"""Qwen 3 (arXiv 2505.09388): Llama, with queries and keys normalised by head."""

from trainer.published.families.family import Family
from trainer.published.families.llama_names import (
    activation,
    biases,
    keys,
    late_windows,
    no_dropout,
    tensors,
)
from trainer.published.families.rope_fields import rope

QWEN3 = Family(
    model_type="qwen3",
    architecture="Qwen3ForCausalLM",
    keys=keys(
        vocab_size=151936,
        d_model=4096,
        ffn_dim=22016,
        layers=32,
        heads=32,
        kv_heads=32,
        head_dim=128,
        positions=32768,
        epsilon=1e-6,
    ),
    readers=(
        rope(),
        activation("hidden_act", "silu"),
        biases(),
        late_windows,
        no_dropout("attention_dropout"),
    ),
    table=tensors(),
    fixed={"qk_norm": "head"},
)
