# SPDX-License-Identifier: Apache-2.0
"""Presets with the shapes of published decoders, as their `config.json` says them.

    quern-train --data DATASET --preset qwen3-0.6b --dry_run

Each is what `--init_from` would read of that model, without its weights: rows of the
dataset's length, AdamW at 3e-4, 0.5 million tokens a step at 2,048 a row. Meant to be
sized by `--dry_run` and changed by `--set`; none was trained here. `tiny-` ones have a
family's parts and some 0.1 million parameters, for tests.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from trainer.data.input_pipeline import DataConfig
from trainer.models.language_model import PrecisionConfig
from trainer.optimizers.optimizer import OptimizerConfig
from trainer.published.known_families import described
from trainer.run.config import RunConfig
from trainer.run.loop_config import LoopConfig
from trainer.step.losses import LossConfig

Fields = Mapping[str, Any]


def _gpt2(layers: int, width: int, heads: int) -> Fields:
    return {"model_type": "gpt2", "n_layer": layers, "n_embd": width, "n_head": heads}


def _of(
    base: Fields,
    layers: int,
    width: int,
    heads: int,
    inner: int,
    kv_heads: int | None = None,
) -> dict[str, Any]:
    """Returns a family's fields with the sizes that all but GPT-2 have."""
    sizes = {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "num_key_value_heads": kv_heads,
    }
    known = {name: size for name, size in sizes.items() if size is not None}
    return {**base, **known}


def _llama31(factor: float) -> Fields:
    """Returns the fields of a Llama 3.1 or 3.2, whose context was stretched."""
    return {
        "max_position_embeddings": 131_072,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    }


_NEOX: Fields = {"model_type": "gpt_neox", "vocab_size": 50_304}
_LLAMA3: Fields = {
    "model_type": "llama",
    "vocab_size": 128_256,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500_000.0,
}
_QWEN2: Fields = {
    "model_type": "qwen2",
    "vocab_size": 151_936,
    "max_position_embeddings": 32_768,
    "rope_theta": 1_000_000.0,
    "tie_word_embeddings": True,
}
_QWEN3: Fields = {
    "model_type": "qwen3",
    "head_dim": 128,
    "vocab_size": 151_936,
    "max_position_embeddings": 40_960,
    "rope_theta": 1_000_000.0,
}
_OLMO2: Fields = {
    "model_type": "olmo2",
    "vocab_size": 100_352,
    "max_position_embeddings": 4096,
    "rope_theta": 500_000.0,
    "rms_norm_eps": 1e-06,
}
_GEMMA3: Fields = {
    "model_type": "gemma3_text",
    "head_dim": 256,
    "vocab_size": 262_144,
    "sliding_window": 512,
    "max_position_embeddings": 32_768,
    "query_pre_attn_scalar": 256,
}
_GRANITE: Fields = {
    "model_type": "granite",
    "vocab_size": 49_155,
    "max_position_embeddings": 131_072,
    "rope_theta": 5_000_000.0,
    "rms_norm_eps": 1e-05,
    "embedding_multiplier": 12.0,
    "residual_multiplier": 0.22,
    "tie_word_embeddings": True,
}
_TINY: Fields = {"vocab_size": 485, "max_position_embeddings": 128}

# Name -> fields of its config.json.
SIZES: Mapping[str, Fields] = {
    "gpt2": _gpt2(12, 768, 12),
    "gpt2-medium": _gpt2(24, 1024, 16),
    "gpt2-large": _gpt2(36, 1280, 20),
    "gpt2-xl": _gpt2(48, 1600, 25),
    "pythia-70m": _of(_NEOX, 6, 512, 8, 2048),
    "pythia-160m": _of(_NEOX, 12, 768, 12, 3072),
    "pythia-410m": _of(_NEOX, 24, 1024, 16, 4096),
    "pythia-1b": _of(_NEOX, 16, 2048, 8, 8192),
    "pythia-1.4b": _of(_NEOX, 24, 2048, 16, 8192),
    "pythia-2.8b": _of(_NEOX, 32, 2560, 32, 10_240),
    "pythia-6.9b": {**_of(_NEOX, 32, 4096, 32, 16_384), "vocab_size": 50_432},
    "llama-2-7b": {
        **_of({"model_type": "llama"}, 32, 4096, 32, 11_008, 32),
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-05,
        "vocab_size": 32_000,
    },
    "llama-3-8b": {
        **_of(_LLAMA3, 32, 4096, 32, 14_336, 8),
        "max_position_embeddings": 8192,
    },
    "llama-3.1-8b": {**_of(_LLAMA3, 32, 4096, 32, 14_336, 8), **_llama31(8.0)},
    "llama-3.2-1b": {
        **_of(_LLAMA3, 16, 2048, 32, 8192, 8),
        **_llama31(32.0),
        "head_dim": 64,
        "tie_word_embeddings": True,
    },
    "llama-3.2-3b": {
        **_of(_LLAMA3, 28, 3072, 24, 8192, 8),
        **_llama31(32.0),
        "head_dim": 128,
        "tie_word_embeddings": True,
    },
    "mistral-7b": {
        **_of({"model_type": "mistral"}, 32, 4096, 32, 14_336, 8),
        "vocab_size": 32_000,
        "sliding_window": 4096,
        "rms_norm_eps": 1e-05,
        "max_position_embeddings": 32_768,
        "rope_theta": 10_000.0,
    },
    "qwen2.5-0.5b": _of(_QWEN2, 24, 896, 14, 4864, 2),
    "qwen2.5-1.5b": _of(_QWEN2, 28, 1536, 12, 8960, 2),
    "qwen2.5-3b": _of(_QWEN2, 36, 2048, 16, 11_008, 2),
    "qwen2.5-7b": {
        **_of(_QWEN2, 28, 3584, 28, 18_944, 4),
        "vocab_size": 152_064,
        "tie_word_embeddings": False,
    },
    "qwen3-0.6b": {**_of(_QWEN3, 28, 1024, 16, 3072, 8), "tie_word_embeddings": True},
    "qwen3-1.7b": {**_of(_QWEN3, 28, 2048, 16, 6144, 8), "tie_word_embeddings": True},
    "qwen3-4b": {**_of(_QWEN3, 36, 2560, 32, 9728, 8), "tie_word_embeddings": True},
    "qwen3-8b": _of(_QWEN3, 36, 4096, 32, 12_288, 8),
    "olmo2-1b": _of(_OLMO2, 16, 2048, 16, 8192),
    "olmo2-7b": _of(_OLMO2, 32, 4096, 32, 11_008),
    "gemma3-270m": _of(_GEMMA3, 18, 640, 4, 2048, 1),
    "gemma3-1b": _of(_GEMMA3, 26, 1152, 4, 6912, 1),
    "granite-3.1-2b": {
        **_of(_GRANITE, 40, 2048, 32, 8192, 8),
        "attention_multiplier": 1 / 64,
        "logits_scaling": 8.0,
    },
    "granite-3.1-8b": {
        **_of(_GRANITE, 40, 4096, 32, 12_800, 8),
        "attention_multiplier": 1 / 128,
        "logits_scaling": 16.0,
    },
    "mixtral-8x7b": {
        **_of({"model_type": "mixtral"}, 32, 4096, 32, 14_336, 8),
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "vocab_size": 32_000,
        "max_position_embeddings": 32_768,
        "rope_theta": 1_000_000.0,
    },
    "qwen3-30b-a3b": {
        **_of({"model_type": "qwen3_moe"}, 48, 2048, 32, 6144, 4),
        "head_dim": 128,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "norm_topk_prob": True,
        "vocab_size": 151_936,
        "rope_theta": 1_000_000.0,
        "max_position_embeddings": 40_960,
    },
    "tiny-gpt2": {**_gpt2(2, 64, 4), "vocab_size": 485, "n_positions": 128},
    "tiny-pythia": {
        **_of({"model_type": "gpt_neox", **_TINY}, 2, 64, 4, 96),
    },
    "tiny-llama": {
        **_of({"model_type": "llama", **_TINY}, 2, 64, 4, 96, 2),
    },
    "tiny-mistral": {
        **_of({"model_type": "mistral", **_TINY}, 2, 64, 4, 96, 2),
        "sliding_window": 8,
    },
    "tiny-qwen2": {
        **_of({"model_type": "qwen2", **_TINY}, 2, 64, 4, 96, 2),
    },
    "tiny-qwen3": {
        **_of({"model_type": "qwen3", **_TINY}, 2, 64, 4, 96, 2),
        "head_dim": 16,
    },
    "tiny-olmo2": {
        **_of({"model_type": "olmo2", **_TINY}, 2, 64, 4, 96, 2),
    },
    "tiny-gemma3": {
        **_of({"model_type": "gemma3_text", **_TINY}, 2, 64, 4, 96, 1),
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 8,
        "sliding_window_pattern": 2,
    },
    "tiny-granite": {
        **_of({"model_type": "granite", **_TINY}, 2, 64, 4, 96, 2),
        "embedding_multiplier": 12.0,
    },
    "tiny-mixtral": {
        **_of({"model_type": "mixtral", **_TINY}, 2, 64, 4, 96, 2),
        "num_local_experts": 4,
    },
    "tiny-qwen3-moe": {
        **_of({"model_type": "qwen3_moe", **_TINY}, 2, 64, 4, 96, 2),
        "head_dim": 16,
        "moe_intermediate_size": 32,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "norm_topk_prob": True,
    },
}


def published(name: str) -> RunConfig:
    """Returns the configuration of a published size, or of a tiny one.

    Args:
        name: one of `SIZES`.
    """
    model, _ = described(SIZES[name], f"the preset {name}")
    if name.startswith("tiny-"):
        return RunConfig(
            # The dataset's own ids, so that any may be tried.
            model=dataclasses.replace(model, vocab_size=None),
            optimizer=OptimizerConfig(peak_learning_rate=1e-2, warmup_steps=5),
            data=DataConfig(global_batch_size=8),
            loop=LoopConfig(
                total_steps=40, log_every=10, evaluate_every=20, save_every=20
            ),
        )
    return RunConfig(
        model=model,
        optimizer=OptimizerConfig(peak_learning_rate=3e-4, warmup_steps=700),
        data=DataConfig(global_batch_size=256, micro_batch_size=1),
        precision=PrecisionConfig(compute="bfloat16"),
        loss=LossConfig(chunk=4096),
        loop=LoopConfig(total_steps=10_000, evaluate_every=1000, save_every=1000),
    )
