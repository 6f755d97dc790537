# SPDX-License-Identifier: Apache-2.0
"""What a run will be is settled from preset, file, pairs and the run itself."""

import shutil

import pytest

from preprocessing.foundation.commands import UsageError
from trainer.data.input_pipeline import DataConfig
from trainer.distribution.device_options import DeviceOptions
from trainer.loop.batch_layout import lanes_of, spread, spread_evaluation
from trainer.loop.dry_run import check_fits, needed, show, sketch_run
from trainer.loop.plan import ConfigSource, configure, read_data
from trainer.run.config import RunConfig
from trainer.run.presets import PRESETS, preset


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("seed = 3\n[loop]\nlog_every = 7\n")
    return str(path)


def test_pairs_win_over_the_file_and_the_file_over_the_preset(file):
    config = configure(ConfigSource("tiny", file, ("seed=4",)), None)
    assert (config.seed, config.loop.log_every) == (4, 7)
    assert config.model == preset("tiny").model


def test_a_file_alone_stands_on_the_defaults(file):
    config = configure(ConfigSource(None, file, ()), None)
    assert config.model == RunConfig().model
    assert config.loop.log_every == 7


def test_an_existing_run_is_its_own_configuration(tmp_path, dataset):
    stored = configure(ConfigSource("tiny", None, ("seed=8",)), None)
    (tmp_path / "config.json").write_text(stored.to_json())
    shutil.copy(dataset / "manifest.json", tmp_path)
    source = ConfigSource(None, None, ("loop.log_every=2",))
    config = configure(source, str(tmp_path))
    assert (config.seed, config.loop.log_every) == (8, 2)
    assert config.model == stored.model


def sketched(dataset, name, *pairs, replicas=1):
    """Returns what a dry run prints of a preset, and the memory it needs."""
    source = ConfigSource(name, None, pairs)
    data, config = read_data([str(dataset)], None, source)
    layout, drawn = spread(config.data, replicas), sketch_run(data, config)
    memory = needed(drawn, config, layout)
    return show(data, config, layout, drawn, memory), memory


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_planned_and_shown(dataset, name):
    lines, _ = sketched(dataset, name)
    assert [line.split("  ")[0] for line in lines] == [
        "parameters",
        "FLOPs per token",
        "tokens to train",
        "FLOPs to train",
        "replicas",
        "memory a device",
    ]


def test_the_benchmarks_model_has_the_size_it_is_named_after(dataset):
    lines, _ = sketched(dataset, "14m")
    parameters = int(lines[0].split()[-1].replace(",", ""))
    # 13.8 million with a vocabulary of 8,192; this dataset has one of 300.
    assert parameters + (8192 - 300) * 384 == pytest.approx(13.8e6, rel=0.01)


def test_of_experts_those_that_a_token_is_sent_to_are_told_apart(dataset):
    pairs = ("model.num_experts=4", "model.expert_dim=8")
    lines, _ = sketched(dataset, "tiny", *pairs)
    config = configure(ConfigSource("tiny", None, pairs), None).model
    parameters, active, _ = lines[0].split(maxsplit=1)[1].split(maxsplit=2)
    inactive = 2 * 3 * config.d_model * 8 * config.num_layers
    size = int(parameters.strip(",").replace(",", ""))
    assert size - int(active.replace(",", "")) == inactive


def test_a_run_that_does_not_fit_is_refused_with_the_reason(dataset):
    _, memory = sketched(dataset, "14m")
    check_fits(memory, memory.total, 1)
    check_fits(memory, None, 1)
    with pytest.raises(UsageError, match="replicated on every device"):
        check_fits(memory, memory.total - 1, 1)
    with pytest.raises(UsageError, match="replicated on every device"):
        check_fits(memory, memory.total, 2)


def lanes(dataset, *pairs, strategy="one_device", logical_cpus=1):
    data, config = read_data([str(dataset)], None, ConfigSource("14m", None, pairs))
    size = data.manifest.vocab_size
    return lanes_of(config, size, strategy, DeviceOptions(logical_cpus), cores=4)


def test_lanes_are_chosen_by_cores_rows_and_size_unless_they_are_given(dataset):
    rows = "data.micro_batch_size=8"
    assert lanes(dataset, rows) == 4
    two = (rows, "data.global_batch_size=16")
    assert lanes(dataset, *two, strategy="mirrored", logical_cpus=2) == 2
    assert lanes(dataset, "data.micro_batch_size=1") == 1
    assert lanes(dataset, rows, "compute.lanes=8") == 8
    assert lanes(dataset, rows, "model.d_model=12", "model.num_layers=1") == 1


@pytest.mark.parametrize(
    ("pairs", "found"),
    [
        (("data.global_batch_size=9", "data.micro_batch_size=2"), "found 9 and 2 x 1"),
        (
            (
                "data.global_batch_size=8",
                "data.initial_batch_size=2",
                "data.ramp_steps=4",
                "data.micro_batch_size=4",
            ),
            "found 2 and 4 x 1",
        ),
    ],
)
def test_a_batch_that_does_not_split_is_refused(dataset, pairs, found):
    with pytest.raises(UsageError, match=found):
        sketched(dataset, "tiny", *pairs)


def test_an_evaluation_has_the_micro_batches_of_training_on_any_number_of_replicas():
    ramp = DataConfig(global_batch_size=12, initial_batch_size=6, ramp_steps=4)
    for replicas, lanes in ((1, 6), (2, 3), (3, 2), (6, 1)):
        trained = spread(ramp, replicas, lanes)
        evaluated = spread_evaluation(ramp, replicas, lanes)
        assert evaluated.micro_batch_size == trained.micro_batch_size == 6 // replicas
        assert (evaluated.accumulation, evaluated.lanes) == (1, lanes)
    assert spread_evaluation(ramp, 4, 6).micro_batch_size == 1
    assert spread_evaluation(DataConfig(micro_batch_size=4), 3, 6).lanes == 2
