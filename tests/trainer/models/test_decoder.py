# SPDX-License-Identifier: Apache-2.0
"""The decoder equals Llama: logits and greedy choices of a reference run."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from trainer.models.decoder import Decoder, DecoderConfig
from trainer.models.model import PrecisionConfig, build_model
from trainer.models.parameters import num_parameters

LLAMA = Path(__file__).parents[2] / "testdata" / "llama"


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Reads float32 tensors: a JSON header after its 8-byte length, then bytes."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        flat = np.frombuffer(body[start:end], "<f4")
        tensors[name] = flat.reshape(entry["shape"])
    return tensors


@pytest.fixture(scope="module")
def llama() -> Decoder:
    """The decoder with the weights of a small LlamaForCausalLM."""
    shape = json.loads((LLAMA / "config.json").read_text())
    config = DecoderConfig(
        num_layers=shape["num_hidden_layers"],
        d_model=shape["hidden_size"],
        num_heads=shape["num_attention_heads"],
        num_kv_heads=shape["num_key_value_heads"],
        ffn_dim=shape["intermediate_size"],
        tie_embeddings=shape["tie_word_embeddings"],
        norm_epsilon=shape["rms_norm_eps"],
    )
    model = build_model(config, shape["vocab_size"], PrecisionConfig(), seed=0)
    weights = read_safetensors(LLAMA / "model.safetensors")
    model.vocabulary.embedding.assign(weights["model.embed_tokens.weight"])
    model.vocabulary.output.assign(weights["lm_head.weight"])
    model.norm.scale.assign(weights["model.norm.weight"])
    for index, block in enumerate(model.layers):
        prefix = f"model.layers.{index}."
        part = {
            name.removeprefix(prefix).removesuffix(".weight"): tensor
            for name, tensor in weights.items()
            if name.startswith(prefix)
        }
        qkv = [part[f"self_attn.{letter}_proj"] for letter in "qkv"]
        block.attention.qkv.assign(np.concatenate(qkv).T)
        block.attention.out.assign(part["self_attn.o_proj"].T)
        both = [part["mlp.gate_proj"], part["mlp.up_proj"]]
        block.mlp.gate_up.assign(np.concatenate(both).T)
        block.mlp.down.assign(part["mlp.down_proj"].T)
        block.attention_norm.scale.assign(part["input_layernorm"])
        block.mlp_norm.scale.assign(part["post_attention_layernorm"])
    return model


@pytest.mark.smoke
def test_logits_equal_llamas(llama: Decoder) -> None:
    golden = np.load(LLAMA / "golden.npz")
    ids = tf.constant(golden["input_ids"], tf.int32)
    positions = tf.zeros_like(ids) + tf.range(ids.shape[1])
    logits = llama.logits(llama(ids, tf.ones_like(ids), positions))
    np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=1e-4)


def test_greedy_decoding_through_the_cache_equals_llamas(llama: Decoder) -> None:
    golden = np.load(LLAMA / "golden.npz")["input_ids"][0]
    expected = np.load(LLAMA / "greedy.npz")["tokens"][0]
    prompt = int(np.argmin(np.append(golden, -1)[: len(expected)] == expected))
    assert 0 < prompt < len(expected)
    step = tf.function(llama.decode)
    state = llama.initial_state(tf.constant(1), tf.constant(len(expected)))
    ids = tf.constant(expected[None, :prompt], tf.int32)
    found, index = list(expected[:prompt]), 0
    while len(found) < len(expected):
        length = ids.shape[1]
        hidden, state = step(ids, state, tf.constant([index]), tf.constant([length]))
        index += length
        best = tf.argmax(llama.logits(hidden[:, -1]), axis=-1, output_type=tf.int32)
        ids = best[:, None]
        found.append(int(best[0]))
    assert found == list(expected)


def test_the_benchmark_model_has_its_13_8_million_parameters() -> None:
    config = DecoderConfig(num_layers=6, d_model=384, num_heads=6, ffn_dim=1024)
    model = build_model(config, 8192, PrecisionConfig(), seed=0)
    attention, swiglu, norms = 4 * 384 * 384, 3 * 384 * 1024, 2 * 384
    matrices = 6 * (attention + swiglu + norms) + 384 + 8192 * 384
    assert num_parameters(model) == matrices == 13_767_552
    assert model.flops_per_token(256) == 6 * matrices + 12 * 6 * 6 * 64 * 256


def test_untied_flops_leave_the_embedding_table_out() -> None:
    config = DecoderConfig(num_layers=1, d_model=16, num_heads=2, tie_embeddings=False)
    model = build_model(config, 100, PrecisionConfig(), seed=0)
    attention = 12 * 1 * 16 * 8
    matrices = num_parameters(model) - 100 * 16
    assert model.flops_per_token(8) == 6 * matrices + attention
