# SPDX-License-Identifier: Apache-2.0
"""Mistral (Jiang et al. 2023, arXiv 2310.06825): Llama, with a window in all layers."""

from trainer.published.families.family import Family
from trainer.published.families.llama_names import (
    activation,
    keys,
    no_dropout,
    one_window,
    tensors,
)
from trainer.published.families.rope_fields import rope

MISTRAL = Family(
    model_type="mistral",
    architecture="MistralForCausalLM",
    keys=keys(
        vocab_size=32000,
        d_model=4096,
        ffn_dim=14336,
        layers=32,
        heads=32,
        kv_heads=8,
        positions=131072,
        epsilon=1e-6,
    ),
    readers=(
        rope(),
        activation("hidden_act", "silu"),
        one_window(4096),
        no_dropout("attention_dropout"),
    ),
    table=tensors(),
)
