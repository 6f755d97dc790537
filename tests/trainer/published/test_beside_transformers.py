# SPDX-License-Identifier: Apache-2.0
"""Models that transformers makes with many settings, read, answered and given back.

A drill, run where `QUERN_PEER_PYTHON` names a Python that has the packages of
tests/benchmarks/requirements.txt.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from trainer.models.language_model import PrecisionConfig
from trainer.published.origin import origin_of
from trainer.published.published_model import build_published, open_published
from trainer.published.saving import publication_of_origin, write_publication

PYTHON = os.environ.get("QUERN_PEER_PYTHON")
SCRIPT = Path(__file__).with_name("models_torch.py")
pytestmark = [
    pytest.mark.drill,
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is None, reason="QUERN_PEER_PYTHON is not set"),
]

SMALL = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
TWO = {**SMALL, "num_key_value_heads": 2}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
}
GPT2 = {"vocab_size": 320, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}
SETTINGS = {
    "gpt2": ("gpt2", GPT2),
    "gpt2_inner": ("gpt2", {**GPT2, "n_inner": 100, "scale_attn_weights": False}),
    "gpt2_untied": ("gpt2", {**GPT2, "tie_word_embeddings": False}),
    "gpt2_relu": ("gpt2", {**GPT2, "activation_function": "relu", "n_head": 2}),
    "neox": ("gpt_neox", SMALL),
    "neox_serial": ("gpt_neox", {**SMALL, "use_parallel_residual": False}),
    "neox_half": (
        "gpt_neox",
        {
            **SMALL,
            "rope_parameters": {"rope_theta": 5e3, "partial_rotary_factor": 0.5},
            "hidden_act": "gelu_fast",
        },
    ),
    "neox_tied": (
        "gpt_neox",
        {**SMALL, "tie_word_embeddings": True, "attention_bias": False},
    ),
    "llama_tied": ("llama", {**TWO, "tie_word_embeddings": True}),
    "llama_biases": ("llama", {**TWO, "attention_bias": True, "mlp_bias": True}),
    "llama_wide_heads": ("llama", {**TWO, "head_dim": 24, "hidden_act": "gelu"}),
    "llama3": ("llama", {**TWO, "rope_parameters": LLAMA3}),
    "llama_linear": (
        "llama",
        {
            **TWO,
            "rope_parameters": {
                "rope_type": "linear",
                "factor": 4.0,
                "rope_theta": 1e4,
            },
        },
    ),
    "llama_yarn": ("llama", {**TWO, "rope_parameters": YARN}),
    "llama_yarn_factor": (
        "llama",
        {**TWO, "rope_parameters": {**YARN, "attention_factor": 1.3, "beta_fast": 16}},
    ),
    "llama_yarn_scales": (
        "llama",
        {**TWO, "rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 0.5}},
    ),
    "mistral": ("mistral", {**TWO, "sliding_window": 5}),
    "mistral_full": ("mistral", {**TWO, "sliding_window": None, "head_dim": 8}),
    "qwen2": ("qwen2", TWO),
    "qwen2_windows": (
        "qwen2",
        {
            **TWO,
            "use_sliding_window": True,
            "sliding_window": 6,
            "max_window_layers": 1,
        },
    ),
    "qwen2_yarn": ("qwen2", {**TWO, "rope_parameters": YARN}),
    "qwen3": ("qwen3", {**TWO, "head_dim": 32}),
    "qwen3_biases": ("qwen3", {**TWO, "head_dim": 16, "attention_bias": True}),
    "olmo2": ("olmo2", {**TWO, "tie_word_embeddings": True}),
    "olmo2_biases": ("olmo2", {**SMALL, "attention_bias": True}),
    "gemma3": (
        "gemma3_text",
        {**TWO, "num_hidden_layers": 7, "head_dim": 24, "sliding_window": 5},
    ),
    "gemma3_caps": (
        "gemma3_text",
        {
            **TWO,
            "head_dim": 16,
            "final_logit_softcapping": 3.0,
            "attn_logit_softcapping": 5.0,
            "query_pre_attn_scalar": 20,
            "layer_types": [
                "full_attention",
                "sliding_attention",
                "full_attention",
            ],
            "sliding_window": 4,
            "rope_parameters": {
                "full_attention": {
                    "rope_type": "linear",
                    "factor": 8.0,
                    "rope_theta": 1e6,
                },
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e3},
            },
        },
    ),
    "mixtral": ("mixtral", {**TWO, "num_local_experts": 4}),
    "mixtral_three": (
        "mixtral",
        {
            **TWO,
            "num_local_experts": 6,
            "num_experts_per_tok": 3,
            "sliding_window": 6,
            "head_dim": 24,
        },
    ),
    "qwen3_moe": (
        "qwen3_moe",
        {
            **TWO,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 40,
            "norm_topk_prob": False,
        },
    ),
    "qwen3_moe_some": (
        "qwen3_moe",
        {
            **TWO,
            "num_hidden_layers": 4,
            "num_experts": 4,
            "num_experts_per_tok": 1,
            "moe_intermediate_size": 40,
            "norm_topk_prob": True,
            "decoder_sparse_step": 2,
            "mlp_only_layers": [3],
            "head_dim": 32,
            "tie_word_embeddings": True,
        },
    ),
    "granite": (
        "granite",
        {
            **TWO,
            "embedding_multiplier": 6.0,
            "attention_multiplier": 0.1,
            "residual_multiplier": 0.3,
            "logits_scaling": 4.0,
            "tie_word_embeddings": True,
        },
    ),
    "granite_biases": (
        "granite",
        {**SMALL, "attention_bias": True, "mlp_bias": True},
    ),
}


def ask(*arguments):
    made = subprocess.run(
        [PYTHON, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr[-3000:]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Returns a directory with a model of each setting, and the ids they were asked."""
    root = tmp_path_factory.mktemp("made")
    ids = np.random.default_rng(0).integers(0, 320, [2, 40])
    np.save(root / "ids.npy", ids)
    fields = {
        name: {
            "model_type": kind,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
            **values,
        }
        for name, (kind, values) in SETTINGS.items()
    }
    (root / "settings.json").write_text(json.dumps(fields))
    ask("make", root / "settings.json", root / "ids.npy", root)
    return root, ids


@pytest.mark.parametrize("name", SETTINGS)
def test_logits_are_those_of_transformers_and_it_loads_what_is_given_back(
    made, tmp_path, name
):
    root, numbers = made
    published = open_published(str(root / name))
    decoder = published.config.decoder
    model = build_published(published, PrecisionConfig(), decoder)
    ids = tf.constant(numbers, tf.int32)
    positions = tf.zeros_like(ids) + tf.range(ids.shape[1])
    logits = model.logits(model(ids, tf.ones_like(ids), positions)).numpy()
    wanted = np.load(root / name / "logits.npy")
    assert np.abs(logits - wanted).max() < 1e-4 * max(1.0, np.abs(wanted).max())
    write_publication(
        publication_of_origin(origin_of(published), "x"), model, str(tmp_path)
    )
    ask("answer", root / "ids.npy", tmp_path)
    assert np.array_equal(np.load(tmp_path / "logits.npy"), wanted)
