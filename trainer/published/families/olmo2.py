# SPDX-License-Identifier: Apache-2.0
"""OLMo 2 (arXiv 2501.00656): norms after both halves, queries and keys normalised."""

from trainer.published.families.family import Family
from trainer.published.families.llama_names import (
    activation,
    biases,
    keys,
    no_dropout,
    tensors,
)
from trainer.published.families.rope_fields import rope

OLMO2 = Family(
    model_type="olmo2",
    architecture="Olmo2ForCausalLM",
    keys=keys(
        vocab_size=50304,
        d_model=4096,
        ffn_dim=11008,
        layers=32,
        heads=32,
        positions=2048,
        epsilon=1e-5,
    ),
    readers=(
        rope(),
        activation("hidden_act", "silu"),
        biases(),
        no_dropout("attention_dropout"),
    ),
    table=tensors(),
    fixed={"qk_norm": "layer", "norm_placement": "after"},
)
