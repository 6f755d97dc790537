# SPDX-License-Identifier: Apache-2.0
"""Configurations from presets, files and pairs; what is unknown is refused."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation.commands import UsageError
from trainer.run.config import (
    RunConfig,
    differences,
    from_json,
    resolved,
    with_file,
    with_pairs,
)
from trainer.run.presets import PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_a_stored_configuration_reads_back_as_itself(name):
    config = preset(name)
    assert from_json(config.to_json(), "config.json") == config


def test_pairs_are_read_by_their_fields_type_and_the_last_wins():
    config = with_pairs(
        RunConfig(),
        [
            "loop.total_steps=1e3",
            "model.num_layers=7",
            "optimizer.peak_learning_rate=1",
            "model.tie_embeddings=false",
            "data.micro_batch_size=4",
            "data.micro_batch_size=none",
            "optimizer.name=sgd",
            "seed=9",
            "seed=11",
        ],
    )
    assert config.loop.total_steps == 1000
    assert config.model.num_layers == 7
    assert config.optimizer.peak_learning_rate == 1.0
    assert config.model.tie_embeddings is False
    assert config.data.micro_batch_size is None
    assert config.optimizer.name == "sgd"
    assert config.seed == 11


WRITTEN = st.one_of(
    st.from_regex(r"[1-9][0-9]{0,2}(\.[0-9]{1,2})?[eE][+-]?[0-9]{1,2}", fullmatch=True),
    st.from_regex(r"[1-9][0-9]{0,3}(\.[0-9]{1,2})?", fullmatch=True),
)


def outcome(read, *arguments):
    """Returns the configuration, or None where it is refused."""
    try:
        return read(RunConfig(), *arguments)
    except UsageError:
        return None


@given(WRITTEN)
@settings(max_examples=60, deadline=None)
def test_a_number_means_the_same_in_flags_toml_and_json(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("written")
    for table, key in (("loop", "log_every"), ("optimizer", "peak_learning_rate")):
        path = folder / "run.toml"
        path.write_text(f"[{table}]\n{key} = {text}\n")
        read = outcome(with_file, str(path))
        assert outcome(with_pairs, [f"{table}.{key}={text}"]) == read
        path = folder / "run.json"
        path.write_text(f'{{"{table}": {{"{key}": {text}}}}}')
        assert outcome(with_file, str(path)) == read


def test_a_thousand_may_be_written_with_an_exponent(tmp_path):
    path = tmp_path / "run.json"
    path.write_text('{"loop": {"total_steps": 1e3}}')
    assert with_file(RunConfig(), str(path)).loop.total_steps == 1000


@pytest.mark.parametrize(
    ("pair", "complaint"),
    [
        ("optimizer.peak_learningrate=1", "Did you mean optimizer.peak_learning_rate?"),
        ("optimiser.name=sgd", "unknown optimiser. Did you mean optimizer?"),
        ("sed=1", "Did you mean seed?"),
        ("model.num_layers=two", "wanted an integer for model.num_layers, found 'two'"),
        ("model.num_layers=2.5", "wanted an integer for model.num_layers"),
        ("model.tie_embeddings=1", "wanted true or false for model.tie_embeddings"),
        ("optimizer.epsilon=nan", "wanted a number for optimizer.epsilon"),
        ("model=3", "model is a table"),
        ("seed.value=3", "seed is a single value"),
        ("seed", "wanted --set key.path=value, found seed"),
        ("loop.total_steps=0", "loop.total_steps above 0"),
    ],
)
def test_a_wrong_pair_is_refused_with_what_to_do(pair, complaint):
    with pytest.raises(UsageError, match=complaint):
        with_pairs(RunConfig(), [pair])


def test_a_change_of_several_keys_is_validated_once_all_are_in():
    # 6 heads do not fit the default width: neither order of the two pairs matters.
    for pairs in (["model.num_heads=6", "model.d_model=384"],):
        for ordered in (pairs, pairs[::-1]):
            assert with_pairs(RunConfig(), ordered).model.d_model == 384
    with pytest.raises(UsageError, match=r"model\.num_heads"):
        with_pairs(RunConfig(), ["model.num_heads=6"])


def test_json_and_toml_files_change_what_they_name(tmp_path):
    base = preset("tiny")
    toml = tmp_path / "run.toml"
    toml.write_text('seed = 3\n[optimizer]\nname = "sgd"\npeak_learning_rate = 1\n')
    as_json = tmp_path / "run.json"
    optimizer = {"name": "sgd", "peak_learning_rate": 1}
    as_json.write_text(json.dumps({"seed": 3, "optimizer": optimizer}))
    config = with_file(base, str(toml))
    assert config == with_file(base, str(as_json))
    assert (config.seed, config.optimizer.peak_learning_rate) == (3, 1.0)
    assert config.model == base.model
    as_json.write_text(as_json.read_text(), encoding="utf-8-sig")  # as some editors do
    toml.write_text(toml.read_text(), encoding="utf-8-sig")
    assert with_file(base, str(as_json)) == with_file(base, str(toml)) == config


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.json", "{", "wanted JSON in"),
        ("a.json", "[]", "wanted a table of keys in"),
        ("a.toml", "seed = ", "wanted TOML in"),
        ("a.json", '{"model": {"d_modle": 3}}', r"Did you mean model\.d_model\?"),
        ("a.json", '{"model": 3}', "wanted a table of keys for model"),
        ("a.json", '{"seed": true}', "wanted an integer for seed, found True"),
        ("a.json", '{"seed": "1"}', "wanted an integer for seed"),
        ("a.json", '{"optimizer": {"epsilon": NaN}}', "NaN, which is no number"),
        ("absent.json", None, "found none"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_or_key(tmp_path, name, text, complaint):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=complaint):
        with_file(RunConfig(), str(path))


def test_the_dataset_fills_in_its_own_length_and_refuses_others(manifest):
    with pytest.raises(ValueError, match="found no dataset named"):
        _ = RunConfig().sequence_length
    assert resolved(RunConfig(), [manifest]).sequence_length == 64
    halved = with_pairs(RunConfig(), ["data.sequence_length=32"])
    assert resolved(halved, [manifest]) == halved
    with pytest.raises(UsageError, match="divides the dataset's 64, found 63"):
        resolved(with_pairs(RunConfig(), ["data.sequence_length=63"]), [manifest])


MOVED = {
    "loop.xla": "compute.xla",
    "loop.lanes": "compute.lanes",
    "loop.peak_flops": "compute.peak_flops",
    "loop.num_samples": "samples.count",
    "loop.sample_tokens": "samples.tokens",
}


@pytest.mark.parametrize("old", MOVED)
def test_a_pair_with_a_keys_name_of_before_is_refused_with_todays(old):
    with pytest.raises(UsageError, match=f"in --set, found {old}. Use {MOVED[old]}$"):
        with_pairs(RunConfig(), ["seed=1", f"{old}=1"])


def test_a_files_names_of_before_are_refused_at_once_in_one_line(tmp_path):
    stored = json.loads(RunConfig().to_json())
    stored["loop"].update({name.partition(".")[2]: 1 for name in MOVED})
    with pytest.raises(UsageError) as refused:
        from_json(json.dumps(stored), "config.json")
    old, new = ", ".join(MOVED), ", ".join(MOVED.values())
    assert str(refused.value).endswith(f"in config.json, found {old}. Use {new}")
    assert "\n" not in str(refused.value)
    toml = tmp_path / "run.toml"
    toml.write_text("[loop]\nlanes = 2\n")
    with pytest.raises(UsageError, match=r"found loop\.lanes\. Use compute\.lanes$"):
        with_file(RunConfig(), str(toml))


def test_differences_leave_out_what_decides_no_number_of_a_step():
    free = ["loop.log_every=3", "compute.xla=none", "samples.count=0"]
    changed = with_pairs(RunConfig(), [*free, "seed=5", "model.dropout=0.5"])
    assert differences(RunConfig(), changed) == [
        "model.dropout: 0.0 -> 0.5",
        "seed: 0 -> 5",
    ]


def test_an_unknown_preset_is_refused_with_a_suggestion():
    with pytest.raises(UsageError, match="Did you mean laptop"):
        preset("latpop")


def test_every_key_of_a_configuration_has_a_type_the_flags_can_read():
    for table in (RunConfig(), *vars(RunConfig()).values()):
        if dataclasses.is_dataclass(table):
            for field in dataclasses.fields(table):
                value = getattr(table, field.name)
                if isinstance(value, int | float | str | bool):
                    prefix = "" if isinstance(table, RunConfig) else _name(table)
                    pair = f"{prefix}{field.name}={value}"
                    assert with_pairs(RunConfig(), [pair]) == RunConfig()


def _name(table):
    return next(key for key, value in vars(RunConfig()).items() if value == table) + "."
