# SPDX-License-Identifier: Apache-2.0
"""Configurations as they are published, old and new, and what they mean."""

import dataclasses
import json

import pytest

from tests.trainer.published.parity import DECODERS
from trainer.published.known_families import FAMILIES, described

# transformers 5.23: `AutoConfig.for_model(model_type).to_json_string(use_diff=False)`.
DEFAULTS = json.loads((DECODERS / "class_defaults.json").read_text())


def decoder(**fields):
    """Returns the decoder of a `config.json`, what it leaves out filled in."""
    config, _ = described(fields, "config.json")
    heads = config.heads
    return dataclasses.replace(
        config, num_kv_heads=heads.kv_heads, head_dim=heads.head_dim
    )


@pytest.mark.parametrize("model_type", FAMILIES)
def test_what_a_file_leaves_out_is_the_default_of_its_class(model_type):
    assert decoder(model_type=model_type) == decoder(**DEFAULTS[model_type])


@pytest.mark.parametrize("model_type", FAMILIES)
def test_no_field_of_a_class_is_unknown_and_each_key_follows_one(model_type):
    fields = DEFAULTS[model_type]
    kind = FAMILIES[model_type]
    for name in kind.keys:
        if fields.get(name) is None or isinstance(fields[name], bool):
            continue
        fewer = name == "num_key_value_heads"  # which divide the others
        changed = {**fields, name: fields[name] // 2 if fewer else fields[name] * 2}
        if name in ("num_hidden_layers", "n_layer"):
            changed.pop("layer_types", None)
        assert described(changed, "x")[0] != described(fields, "x")[0], name


def test_rotary_frequencies_are_read_from_old_and_new_forms():
    scaling = {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    old = decoder(
        model_type="llama",
        rope_theta=500000.0,
        rope_scaling={"rope_type": "llama3", **scaling},
    )
    new = decoder(
        model_type="llama",
        rope_parameters={"rope_theta": 500000.0, "rope_type": "llama3", **scaling},
    )
    assert old == new and old.rope_scaling == "llama3" and old.rope_theta == 500000
    older = decoder(model_type="llama", rope_scaling={"type": "linear", "factor": 2})
    assert (older.rope_scaling, older.rope_factor) == ("linear", 2.0)
    yarn = decoder(
        model_type="qwen2",
        max_position_embeddings=32768,
        rope_scaling={"type": "yarn", "factor": 4.0},
    )
    assert (yarn.rope_scaling, yarn.rope_original_positions) == ("yarn", 32768)


def test_a_neox_turns_the_share_of_a_head_that_either_form_names():
    old = decoder(model_type="gpt_neox", rotary_pct=0.5, rotary_emb_base=20000)
    new = decoder(
        model_type="gpt_neox",
        rope_parameters={"partial_rotary_factor": 0.5, "rope_theta": 20000.0},
    )
    assert old == new and (old.rope_fraction, old.rope_theta) == (0.5, 20000)


def test_windows_are_read_from_lists_from_patterns_and_from_counts():
    gemma = {"model_type": "gemma3_text", "num_hidden_layers": 7}
    pattern = decoder(**gemma, sliding_window_pattern=3, sliding_window=512)
    assert (pattern.layer_pattern, pattern.window) == ("wwfwwfw", 512)
    kinds = ["sliding_attention"] * 6 + ["full_attention"]
    assert decoder(**gemma, layer_types=kinds).layer_pattern == "wwwwwwf"
    old = decoder(**gemma, rope_theta=5e5, rope_local_base_freq=1e3)
    assert (old.rope_theta, old.window_rope_theta) == (5e5, 1e3)
    qwen = {"model_type": "qwen2", "num_hidden_layers": 4, "max_window_layers": 3}
    assert decoder(**qwen).window is None
    late = decoder(**qwen, use_sliding_window=True, sliding_window=64)
    assert (late.layer_pattern, late.window) == ("fffw", 64)
    assert decoder(model_type="mistral").window == 4096
    assert decoder(model_type="mistral", sliding_window=None).window is None


def test_experts_are_in_the_layers_that_the_fields_name():
    moe = {"model_type": "qwen3_moe", "num_hidden_layers": 6}
    assert decoder(**moe).expert_pattern == "e"
    some = decoder(**moe, decoder_sparse_step=2, mlp_only_layers=[3])
    assert some.expert_layers == [False, True, False, False, False, True]


def test_dropout_that_there_is_none_of_here_is_told():
    for fields, rate, told in (
        ({"model_type": "gpt2"}, 0.0, "attn_pdrop 0.1"),
        ({"model_type": "gpt2", "attn_pdrop": 0.0}, 0.1, None),
        ({"model_type": "llama", "attention_dropout": 0.2}, 0.0, "attention_dropout"),
    ):
        config, notes = described(fields, "config.json")
        assert config.dropout == rate
        assert (told is None) == (not notes) and (not notes or told in notes[0])


@pytest.mark.parametrize(
    ("model_type", "fields"),
    [
        ("gpt2", {"n_ctx": 1024, "output_past": True, "task_specific_params": {}}),
        ("gpt_neox", {"hidden_dropout_prob": 0, "torch_dtype": "float16"}),
        ("llama", {"is_llama_config": True, "rope_interleaved": False}),
        ("qwen2", {"use_mrope": False, "max_window_layers": 21}),
        ("gemma3_text", {"cache_implementation": "hybrid"}),
        ("mistral", {"attention_bias": False, "new_field": None}),
    ],
)
def test_what_published_files_hold_beside_their_class_changes_nothing(
    model_type, fields
):
    assert decoder(model_type=model_type, **fields) == decoder(model_type=model_type)


def test_buffers_of_old_files_are_told_from_biases():
    for model_type, buffers, weights in (
        (
            "gpt2",
            ["h.0.attn.bias", "transformer.h.11.attn.masked_bias"],
            ["h.0.attn.c_attn.bias", "transformer.h.0.ln_1.bias"],
        ),
        (
            "gpt_neox",
            [
                "gpt_neox.layers.0.attention.bias",
                "gpt_neox.layers.0.attention.rotary_emb.inv_freq",
            ],
            ["gpt_neox.layers.0.attention.dense.bias"],
        ),
        (
            "llama",
            ["model.layers.0.self_attn.rotary_emb.inv_freq"],
            ["model.layers.0.self_attn.q_proj.bias"],
        ),
    ):
        skips = FAMILIES[model_type].skips
        assert all(map(skips, buffers)) and not any(map(skips, weights))
