# SPDX-License-Identifier: Apache-2.0
"""What is refused of published directories, in one line, and what old ones hold."""

import json

import numpy as np
import pytest

from preprocessing.foundation.commands import UsageError
from tests.trainer.published.directories import arrays, copied, write_arrays
from tests.trainer.published.parity import DECODERS
from trainer.models.functional import weight_places
from trainer.models.language_model import PrecisionConfig
from trainer.published.origin import origin_of, read_origin, write_origin
from trainer.published.published_model import (
    build_published,
    load_published,
    open_published,
)
from trainer.published.safetensors_writing import TensorToWrite, write_weights
from trainer.published.saving import publication_of_origin, write_publication

LAYER = "model.layers.0."


@pytest.fixture
def llama(tmp_path):
    return copied("llama", tmp_path / "llama"), arrays(DECODERS / "llama")


def refusal(directory):
    with pytest.raises(UsageError) as error:
        load_published(str(directory))
    assert "\n" not in str(error.value)
    return str(error.value)


def weights_of(directory):
    _, model = load_published(str(directory))
    return {p.path: p.variable.numpy() for p in weight_places(model)}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model_type": "mamba"}, 'model_type gpt2|model_type .*llama.*found "mamba"'),
        ({"architectures": ["LlamaForTokenClassification"]}, "architectures Llama"),
        ({"new_scale": 2.0}, "found new_scale"),
        ({"hidden_act": "tanh"}, 'for hidden_act.* found "tanh"'),
        ({"rope_parameters": {"rope_type": "longrope"}}, "rope_parameters.rope_type"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling.type"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0, "x": 1}}, "rope_scaling.x"),
        ({"quantization_config": {"bits": 4}}, "null for quantization_config"),
        ({"num_hidden_layers": "3"}, "whole number for num_hidden_layers"),
        ({"num_hidden_layers": 4}, "they lack model.layers.3"),
        ({"num_hidden_layers": 2}, "there is no place for model.layers.2"),
        ({"intermediate_size": 96}, r"gate_proj.weight \(found \[176, 64\], wanted"),
        ({"tie_word_embeddings": True}, "wanted lm_head.weight to be model.embed"),
    ],
)
def test_a_configuration_that_is_not_supported_is_named(tmp_path, fields, said):
    directory = copied("llama", tmp_path / "llama", **fields)
    write_arrays(directory, arrays(DECODERS / "llama"))
    with pytest.raises(UsageError, match=said):
        load_published(str(directory))


def test_tensors_missing_and_left_over_are_both_named(llama):
    directory, values = llama
    values["model.extra"] = values.pop("lm_head.weight")
    write_arrays(directory, values)
    said = refusal(directory)
    assert "they lack lm_head.weight; there is no place for model.extra" in said


def test_a_tensor_of_another_type_is_named(llama):
    directory, values = llama
    write_arrays(directory, values)
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"dtype":"F32"', b'"dtype":"I32"', 1))
    assert "types other than F32, BF16, F16 are lm_head.weight (I32)" in refusal(
        directory
    )


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_named(llama, odd):
    directory, values = llama
    values[f"{LAYER}mlp.down_proj.weight"][3, 5] = odd
    with pytest.raises(UsageError, match="found NaN or infinity in"):
        write_arrays(directory, values)
    good = {k: np.nan_to_num(v, posinf=1, neginf=1, nan=1) for k, v in values.items()}
    write_arrays(directory, good)
    path = directory / "model.safetensors"
    name = f"{LAYER}mlp.down_proj.weight"
    data = path.read_bytes()
    at = data.index(good[name].tobytes())
    path.write_bytes(data[:at] + np.float32(odd).tobytes() + data[at + 4 :])
    assert f"found NaN or infinity in {name}" in refusal(directory)


def test_shards_are_read_and_a_missing_one_is_named(llama):
    directory, values = llama
    write_arrays(directory, values, shard_bytes=200_000)
    shards = sorted(directory.glob("model-0*"))
    assert len(shards) > 2
    both = weights_of(directory), weights_of(DECODERS / "llama")
    assert all(np.array_equal(both[0][path], both[1][path]) for path in both[1])
    shards[1].unlink()
    assert f"wanted {shards[1].name}, which model.safetensors.index.json" in refusal(
        directory
    )


def test_an_index_that_says_otherwise_than_the_files_is_refused(llama):
    directory, values = llama
    write_arrays(directory, values, shard_bytes=200_000)
    index = directory / "model.safetensors.index.json"
    table = json.loads(index.read_text())
    names = table["weight_map"]
    first, other = names["lm_head.weight"], names["model.norm.weight"]
    for changed, said in (
        ({"lm_head.weight": other}, "lm_head.weight"),
        ({"lm_head.weight": "../x.safetensors"}, "files elsewhere"),
        ({"lm_head.weight": "model.bin"}, "wanted model.bin, which"),
        ({"model.new": first}, "it lacks model.new"),
    ):
        index.write_text(json.dumps({**table, "weight_map": {**names, **changed}}))
        assert said in refusal(directory)


@pytest.mark.parametrize("size", [0, 7, 8, 3000, 100_000])
def test_a_file_cut_short_is_no_safetensors_file(llama, size):
    directory, values = llama
    write_arrays(directory, values)
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    assert f"wanted a whole safetensors file at {path}" in refusal(directory)


def test_a_directory_without_its_files_is_refused(tmp_path):
    assert "found no config.json" in refusal(tmp_path)
    directory = copied("llama", tmp_path / "llama")
    (directory / "pytorch_model.bin").write_bytes(b"")
    assert "found pytorch_model.bin" in refusal(directory)


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_narrow_types_are_read_as_the_numbers_they_hold(tmp_path, dtype):
    directory = copied("qwen3", tmp_path / "qwen3")
    write_arrays(directory, arrays(DECODERS / "qwen3"), dtype)
    narrow, whole = weights_of(directory), weights_of(DECODERS / "qwen3")
    step = 2.0**-8 if dtype == "BF16" else 2.0**-11
    for path, values in whole.items():
        assert np.allclose(narrow[path], values, rtol=step, atol=1e-7)


def test_old_files_without_a_prefix_and_with_buffers_are_read(tmp_path):
    directory = copied("gpt2", tmp_path / "gpt2")
    values = arrays(DECODERS / "gpt2")
    old = {name.removeprefix("transformer."): x for name, x in values.items()}
    old["h.0.attn.bias"] = np.tril(np.ones([1, 1, 8, 8], np.float32))
    old["h.0.attn.masked_bias"] = np.array([-1e4], np.float32)
    old["lm_head.weight"] = old["wte.weight"]
    write_arrays(directory, old)
    read, wanted = weights_of(directory), weights_of(DECODERS / "gpt2")
    assert all(np.array_equal(read[path], wanted[path]) for path in wanted)
    old["lm_head.weight"] = old["wte.weight"] + 1
    write_arrays(directory, old)
    assert "as tie_word_embeddings" in refusal(directory)


def given_back(directory, out):
    """Reads a directory and writes it again, by way of what a run keeps of it."""
    published = open_published(str(directory))
    decoder = published.config.decoder
    model = build_published(published, PrecisionConfig(), decoder)
    write_origin(str(out), origin_of(published))
    kept = read_origin(str(out))
    assert kept is not None
    write_publication(publication_of_origin(kept, str(out)), model, str(out))
    return (out / "model.safetensors").read_bytes()


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_narrow_types_are_given_back_bit_for_bit(tmp_path, dtype):
    directory = copied("mixtral", tmp_path / "mixtral")
    write_arrays(directory, arrays(DECODERS / "mixtral"), dtype)
    same = (directory / "model.safetensors").read_bytes()
    assert given_back(directory, tmp_path) == same


def test_types_of_both_widths_in_one_file_and_old_names_are_given_back(tmp_path):
    directory = copied("gpt2", tmp_path / "gpt2")
    values = arrays(DECODERS / "gpt2")
    old = {name.removeprefix("transformer."): x for name, x in values.items()}
    old["lm_head.weight"] = old["wte.weight"]
    narrow = [name for name in old if "attn" in name]
    write_weights(
        str(directory),
        [
            TensorToWrite(name, "BF16" if name in narrow else "F32", x.shape, x.copy)
            for name, x in old.items()
        ],
    )
    same = (directory / "model.safetensors").read_bytes()
    assert given_back(directory, tmp_path) == same


def test_what_tells_weights_from_others_is_their_numbers(llama):
    directory, values = llama
    write_arrays(directory, values)
    before = open_published(str(directory)).digest
    values["model.norm.weight"] = values["model.norm.weight"] + 1
    write_arrays(directory, values)
    assert open_published(str(directory)).digest != before
