# SPDX-License-Identifier: Apache-2.0
"""The stream of training rows: mixed, growing, with gaps, shared, entered anywhere."""

import shutil
import threading

import numpy as np
import pytest

from preprocessing.contracts.manifest import read_manifest
from preprocessing.foundation.commands import WorkError
from tests.datasets import write_dataset
from trainer.data.batch_schedule import BatchSchedule
from trainer.data.input_pipeline import SubRows
from trainer.data.mixed_order import MixedOrder
from trainer.data.training_rows import TrainingRows

OMITTED = [(13, 21), (40, 41), (90, 300)]


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    """A second dataset, of rows twice as long and other documents."""
    path = tmp_path_factory.mktemp("longer") / "dataset"
    return write_dataset(path, sequence_length=1024, documents=900, seed=7)


def parts_of(*paths, length=32):
    manifests = [read_manifest(str(path)) for path in paths]
    return [
        SubRows(str(path), manifest, "train", length)
        for path, manifest in zip(paths, manifests, strict=True)
    ]


def stream(parts, schedule=None, worker=0, workers=1, omitted=()):
    schedule = schedule or BatchSchedule(8)
    weights = [0.7, 0.3][: len(parts)]
    order = MixedOrder([part.num_rows for part in parts], weights, 3)
    return TrainingRows(parts, order, schedule, worker, workers, omitted)


def rows_of(blocks):
    """Returns the ids of all rows of some blocks, one after another."""
    tokens = [block.features["tokens"] for block in blocks]
    return np.concatenate([x.reshape(-1, x.shape[-1]) for x in tokens])


@pytest.mark.parametrize("omitted", [(), OMITTED])
def test_the_stream_goes_on_the_same_from_any_step(dataset, longer, omitted):
    rows = stream(parts_of(dataset, longer), omitted=omitted)
    whole = next(rows.blocks(0, 0, [60]))
    assert len(np.unique(rows_of([whole]), axis=0)) > 100
    for step in (1, 7, 30, 59):
        consumed = int(whole.step_ends[step - 1])
        blocks = list(rows.blocks(step, consumed, [1] * (60 - step)))
        assert np.array_equal(rows_of(blocks), rows_of([whole])[step * 8 :])
        assert blocks[0].first_row == consumed
        assert [block.end_row for block in blocks] == whole.step_ends[step:].tolist()


def test_one_dataset_is_read_in_file_order_at_first(dataset):
    (part,) = parts_of(dataset)
    tokens = rows_of(stream([part]).blocks(0, 0, [4, 5]))
    assert np.array_equal(tokens, part.read(np.arange(72))["tokens"])


def test_omitted_rows_are_gone_and_all_others_as_they_were(dataset, longer):
    parts = parts_of(dataset, longer)
    whole = rows_of(stream(parts).blocks(0, 0, [50]))
    left = np.delete(whole, np.r_[13:21, 40, 90:300], axis=0)
    blocks = list(stream(parts, omitted=OMITTED).blocks(0, 0, [3, 4, 10]))
    assert np.array_equal(rows_of(blocks), left[: 17 * 8])
    assert [block.num_rows for block in blocks] == [24, 32, 80]
    assert blocks[0].step_ends.tolist() == [8, 24, 32]
    assert blocks[-1].end_row == 17 * 8 + 8 + 1 + 210


def test_batches_grow_without_changing_the_rows(dataset, longer):
    parts, ramp = parts_of(dataset, longer), BatchSchedule(8, 2, 6)
    blocks = list(stream(parts, ramp).blocks(0, 0, [2, 1, 1, 2, 4]))
    shapes = [block.features["tokens"].shape[:2] for block in blocks]
    assert shapes == [(2, 2), (1, 4), (1, 4), (2, 6), (4, 8)]
    assert [block.end_row for block in blocks] == [4, 8, 12, 24, 56]
    assert np.array_equal(rows_of(blocks), rows_of(stream(parts).blocks(0, 0, [7])))
    resumed = list(stream(parts, ramp).blocks(3, ramp.rows_before(3), [1, 2]))
    assert np.array_equal(rows_of(resumed), rows_of(blocks[2:4]))


def test_a_block_of_two_sizes_is_a_mistake_of_the_caller(dataset):
    rows = stream(parts_of(dataset), BatchSchedule(8, 2, 6))
    with pytest.raises(ValueError, match="3 steps from 0 on differ in size"):
        list(rows.blocks(0, 0, [3]))


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_together_read_what_one_reads(dataset, longer, workers):
    parts, ramp = parts_of(dataset, longer), BatchSchedule(16, 4, 8)
    one = list(stream(parts, ramp, omitted=OMITTED).blocks(5, 16, [1, 2, 6]))
    shares = [
        list(stream(parts, ramp, w, workers, OMITTED).blocks(5, 16, [1, 2, 6]))
        for w in range(workers)
    ]
    for block, *split in zip(one, *shares, strict=True):
        for name, values in block.features.items():
            together = np.concatenate([part.features[name] for part in split], axis=1)
            assert np.array_equal(together, values)
        for part in split:
            assert part.first_row == block.first_row
            assert part.num_rows == block.num_rows
            assert np.array_equal(part.step_ends, block.step_ends)


def test_blocks_come_in_the_sizes_asked_for_and_time_the_wait(dataset):
    blocks = list(stream(parts_of(dataset)).blocks(0, 0, [3, 1, 5]))
    assert [block.num_steps for block in blocks] == [3, 1, 5]
    assert [block.first_row for block in blocks] == [0, 24, 32]
    assert all(block.wait_seconds >= 0 for block in blocks)
    assert blocks[0].wait_seconds > 0


def test_a_corrupted_row_is_an_error_in_the_thread_that_asked(dataset, tmp_path):
    copy = tmp_path / "dataset"
    shutil.copytree(dataset, copy)
    shard = copy / read_manifest(str(copy)).splits["train"].shards[1].name
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 0x10
    shard.write_bytes(bytes(data))
    with pytest.raises(WorkError, match=shard.name):
        list(stream(parts_of(copy)).blocks(0, 0, [20, 20, 20]))


def test_closing_does_not_wait_for_the_block_that_is_being_read(dataset):
    reads, in_vain, gate = [], [], threading.Event()
    (part,) = parts_of(dataset)
    read = part.read

    def second_read_waits(rows):
        reads.append(1)
        if len(reads) == 2 and not gate.wait(5):
            in_vain.append(1)
        return read(rows)

    part.read = second_read_waits
    blocks = stream([part]).blocks(0, 0, [1, 1, 1])
    next(blocks)
    blocks.close()
    assert not in_vain
    gate.set()
