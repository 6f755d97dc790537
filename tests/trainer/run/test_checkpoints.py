# SPDX-License-Identifier: Apache-2.0
"""Checkpoints are restored strictly; damaged ones are named, and passed over."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preprocessing.foundation.commands import UsageError
from trainer.models.decoder import DecoderConfig
from trainer.models.functional import weight_places
from trainer.models.model import build_model
from trainer.optimizers.optimizer import Optimizer, OptimizerConfig
from trainer.run import checkpoints
from trainer.run.checkpoint_files import remove_incomplete, set_aside
from trainer.run.checkpoint_writer import CheckpointWriter
from trainer.run.checkpoints import DamagedCheckpoint, State
from trainer.run.config import RunConfig
from trainer.run.position import Fault, Position
from trainer.run.run_directory import write_run
from trainer.run.variable_names import named_variables


class Pair(tf.Module):
    """Two weights, one of them in a list."""

    def __init__(self, value, width=3):
        super().__init__()
        self.table = tf.Variable(np.full((2, width), value, np.float32))
        self.layers = [tf.Variable(np.full(4, value, np.float32))]

    def values(self):
        return [self.table.numpy().tolist(), self.layers[0].numpy().tolist()]


def state(step):
    position = Position(
        step, step * 8, loss_sum=0.1, weight_sum=3.0, faults=(Fault(step, 8, 16),)
    )
    return State(position, "hash", seed=4, elapsed_seconds=0.7)


def save(run, step, module):
    writer = CheckpointWriter(str(run), {"model": module}, lambda steps: steps)
    writer.save(state(step))
    writer.close()


def directory(run, step):
    return run / "checkpoints" / f"step-{step:08d}"


def flip(path, place, bit=1):
    data = bytearray(path.read_bytes())
    data[place] ^= bit
    path.write_bytes(bytes(data))


def change(path, old, new):
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))


def flip_a_value(run, step):
    path = directory(run, step) / "weights.data-00000-of-00001"
    flip(path, path.read_bytes().find(np.float32(step).tobytes()))


def test_what_was_saved_is_restored_with_its_position(tmp_path):
    save(tmp_path, 7, Pair(1.5))
    module = Pair(0.0)
    assert checkpoints.read_state(str(tmp_path), 7) == state(7)
    checkpoints.restore(str(tmp_path), 7, {"model": module})
    assert module.values() == Pair(1.5).values()


@pytest.mark.parametrize("name", ["run [1]", "run*?", "a\\b{c}[!d]"])
def test_a_checkpoint_is_found_whatever_characters_its_path_has(name, tmp_path):
    """TensorFlow takes the path it restores from for a glob."""
    (tmp_path / name).mkdir()
    save(tmp_path / name, 7, Pair(1.5))
    module = Pair(0.0)
    checkpoints.restore(str(tmp_path / name), 7, {"model": module})
    assert module.values() == Pair(1.5).values()


def test_a_state_is_written_and_read_by_the_names_it_has_always_had(tmp_path):
    save(tmp_path, 7, Pair(1.5))
    position = json.loads((directory(tmp_path, 7) / "state.json").read_text())[
        "position"
    ]
    assert list(position) == ["step", "rows_consumed", "nats", "weight", "faults"]
    assert (position["nats"], position["weight"]) == (0.1, 3.0)


def test_a_state_written_before_a_field_was_added_has_its_default(tmp_path):
    save(tmp_path, 7, Pair(1.5))
    path = directory(tmp_path, 7) / "state.json"
    fields = json.loads(path.read_text())
    for name in ("elapsed_seconds", "sha256"):
        del fields[name]
    del fields["position"]["faults"]
    path.write_text(json.dumps(fields))
    position = dataclasses.replace(state(7).position, faults=())
    assert checkpoints.read_state(str(tmp_path), 7) == State(position, "hash", seed=4)


def test_checkpoints_that_tensorflow_wrote_and_those_it_reads_are_the_same(tmp_path):
    save(tmp_path, 7, Pair(1.5))
    prefix = str(directory(tmp_path, 7) / "weights")
    module = Pair(0.0)
    tf.train.Checkpoint(model=module).read(prefix).assert_consumed()
    assert module.values() == Pair(1.5).values()
    stored = tf.train.list_variables(prefix)
    tf.train.Checkpoint(model=Pair(2.5)).write(prefix)
    assert tf.train.list_variables(prefix) == stored
    checkpoints.restore(str(tmp_path), 7, {"model": module})
    assert module.values() == Pair(2.5).values()


def test_variables_are_named_by_their_attributes():
    names = named_variables({"model": Pair(0.0), "other": tf.Module()})
    assert set(names) == {"model/table", "model/layers/0"}


def test_a_half_removed_checkpoint_is_invisible_and_in_nobodys_way(tmp_path):
    save(tmp_path, 5, Pair(5.0))
    save(tmp_path, 10, Pair(10.0))
    os.unlink(directory(tmp_path, 10) / "state.json")
    assert checkpoints.steps(str(tmp_path)) == [5]
    assert checkpoints.choose_step(str(tmp_path), None) == 5
    remove_incomplete(str(tmp_path))
    assert os.listdir(tmp_path / "checkpoints") == ["step-00000005"]


DAMAGES = [
    ("weights.index", os.unlink, "weights.index is missing"),
    ("weights.index", lambda path: os.truncate(path, 9), "has 9 of"),
    ("weights.data-00000-of-00001", os.unlink, "weights.data.* is missing"),
    ("state.json", lambda path: os.truncate(path, 9), "cannot be read"),
    ("state.json", lambda path: change(path, b"80", b"81"), "cannot be read"),
]


@pytest.mark.parametrize(("name", "damage", "complaint"), DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_found(
    tmp_path, name, damage, complaint
):
    run = str(tmp_path)
    save(tmp_path, 5, Pair(5.0))
    save(tmp_path, 10, Pair(10.0))
    damage(directory(tmp_path, 10) / name)
    with pytest.raises(UsageError, match=rf"step-00000010, .*{complaint}.*Remove"):
        checkpoints.read_state(run, 10)
    newest = checkpoints.find_newest(run)
    assert (newest.step, newest.state) == (5, state(5))
    assert [each.step for each in newest.damaged] == [10]
    assert checkpoints.steps(run) == [5, 10], "finding changes nothing"


def test_changed_values_are_found_by_their_checksum_before_a_model_is_built(tmp_path):
    run = str(tmp_path)
    for step in (5, 10, 15):
        save(tmp_path, step, Pair(step))
    flip_a_value(tmp_path, 15)
    flip_a_value(tmp_path, 10)
    newest = checkpoints.find_newest(run)
    assert (newest.step, [each.step for each in newest.damaged]) == (5, [15, 10])
    assert "step 15 is damaged" in newest.notes[0]
    assert newest.notes[1].endswith("goes on from step 5")
    with pytest.raises(DamagedCheckpoint, match="step-00000015"):
        checkpoints.restore(run, 15, {"model": Pair(0.0)})


def test_a_checkpoint_set_aside_is_kept_beside_the_others_and_does_not_count(tmp_path):
    save(tmp_path, 5, Pair(5.0))
    for _ in range(2):  # The second time that step is damaged, only the new one stays.
        save(tmp_path, 10, Pair(10.0))
        set_aside(str(tmp_path), 10)
    assert checkpoints.find_newest(str(tmp_path)) == checkpoints.Newest(5, state(5))
    names = sorted(os.listdir(tmp_path / "checkpoints"))
    assert names == ["damaged-step-00000010", "step-00000005"]


def test_where_all_are_damaged_nothing_is_begun_again(tmp_path):
    assert checkpoints.find_newest(str(tmp_path)) == checkpoints.Newest()
    for step in (5, 10):
        save(tmp_path, step, Pair(step))
        flip_a_value(tmp_path, step)
    with pytest.raises(UsageError, match=r"all 2 damaged; of the newest, .*00000010"):
        checkpoints.find_newest(str(tmp_path))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with one checkpoint, to be copied."""
    run = tmp_path_factory.mktemp("whole")
    save(run, 5, Pair(5.0))
    return run


@given(st.data())
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_flipped_bit_anywhere_changes_what_is_restored(whole, tmp_path, data):
    run = tmp_path / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(whole, run)
    path = data.draw(st.sampled_from(sorted(directory(run, 5).iterdir())))
    place = data.draw(st.integers(0, path.stat().st_size - 1))
    flip(path, place, 1 << data.draw(st.integers(0, 7)))
    check_whole_or_refused(run)


def test_no_flipped_bit_in_the_sizes_an_index_ends_with_is_more_than_damage(tmp_path):
    """The last 48 bytes have no checksum; a wrong size raises an error of its own."""
    save(tmp_path, 5, Pair(5.0))
    path = directory(tmp_path, 5) / "weights.index"
    whole = path.read_bytes()
    for place in range(len(whole) - 48, len(whole) - 40):
        for bit in range(8):
            flip(path, place, 1 << bit)
            check_whole_or_refused(tmp_path)
            path.write_bytes(whole)


def check_whole_or_refused(run):
    """Checks that step 5 is either called damaged or restored as it was saved."""
    try:
        newest = checkpoints.find_newest(str(run))
    except UsageError:
        return
    module = Pair(0.0)
    checkpoints.restore(str(run), 5, {"model": module})
    assert newest.state == state(5)
    assert module.values() == Pair(5.0).values()


def test_names_and_shapes_that_do_not_fit_are_listed_and_are_no_damage(tmp_path):
    save(tmp_path, 5, Pair(5.0))
    wider = Pair(0.0, width=5)
    wider.extra = tf.Variable(0.0)
    wider.layers = []
    with pytest.raises(UsageError) as error:
        checkpoints.restore(str(tmp_path), 5, {"model": wider})
    assert not isinstance(error.value, DamagedCheckpoint)
    text = str(error.value)
    assert "it lacks model/extra;" in text
    assert "the model has no place for model/layers/0;" in text
    assert "model/table (stored [2, 3], wanted [2, 5])" in text
    assert wider.table.numpy().tolist() == [[0.0] * 5] * 2, "nothing is half restored"


def test_a_step_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(UsageError, match="Train it first"):
        checkpoints.choose_step(str(tmp_path), None)
    save(tmp_path, 5, Pair(5.0))
    save(tmp_path, 9, Pair(5.0))
    with pytest.raises(UsageError, match="found steps 5, 9"):
        checkpoints.choose_step(str(tmp_path), 6)


def test_the_best_step_is_that_of_the_lowest_validation_loss_still_there(tmp_path):
    save(tmp_path, 5, Pair(5.0))
    save(tmp_path, 9, Pair(5.0))
    with pytest.raises(UsageError, match=r"no evaluation .* steps 5, 9"):
        checkpoints.choose_step(str(tmp_path), "best")
    lines = [{"step": s, "validation_loss": x} for s, x in [(3, 1), (5, 2), (9, 4)]]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text)
    assert checkpoints.choose_step(str(tmp_path), "best") == 5


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_run_that_averages_its_weights_is_opened_with_the_averages(
    tmp_path, manifest, ema_decay
):
    config = RunConfig(
        model=DecoderConfig(num_layers=2, d_model=8, num_heads=2, ffn_dim=8),
        optimizer=OptimizerConfig(ema_decay=ema_decay),
    )
    write_run(str(tmp_path), config, manifest, b"", manifest.dataset_hash)
    model = build_model(config.model, manifest.vocab_size, config.precision, seed=1)
    places = weight_places(model)
    weights, kinds = [p.variable for p in places], [p.weight for p in places]
    optimizer = Optimizer(weights, kinds, config.optimizer, total_steps=1000)
    for number, average in enumerate(optimizer.averages):
        average.assign_add(tf.ones_like(average) * (number + 1))
    parts = {"model": model, "optimizer": optimizer}
    writer = CheckpointWriter(str(tmp_path), parts, lambda steps: steps)
    writer.save(state(5))
    writer.close()
    opened = weight_places(checkpoints.open_run(str(tmp_path)).model)
    wanted = optimizer.averages if ema_decay else weights
    for place, value in zip(opened, wanted, strict=True):
        np.testing.assert_array_equal(place.variable, value)


def test_averages_that_were_not_saved_are_named(tmp_path, manifest):
    config = DecoderConfig(num_layers=1, d_model=8, num_heads=2, ffn_dim=8)
    model = build_model(config, manifest.vocab_size, RunConfig().precision, seed=1)
    save(tmp_path, 5, model)
    with pytest.raises(UsageError, match="it lacks optimizer/averages/0"):
        checkpoints.restore_averages(str(tmp_path), 5, model)
