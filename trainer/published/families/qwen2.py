# SPDX-License-Identifier: Apache-2.0
"""Qwen 2 and 2.5 (arXiv 2407.10671): Llama, with biases of queries, keys and values."""

from trainer.published.families.family import Family
from trainer.published.families.llama_names import (
    activation,
    keys,
    late_windows,
    no_dropout,
    tensors,
)
from trainer.published.families.rope_fields import rope

QWEN2 = Family(
    model_type="qwen2",
    architecture="Qwen2ForCausalLM",
    keys=keys(
        vocab_size=151936,
        d_model=4096,
        ffn_dim=22016,
        layers=32,
        heads=32,
        kv_heads=32,
        positions=32768,
        epsilon=1e-6,
    ),
    readers=(
        rope(),
        activation("hidden_act", "silu"),
        late_windows,
        no_dropout("attention_dropout"),
    ),
    table=tensors(),
    fixed={"attention_bias": "qkv"},
)
