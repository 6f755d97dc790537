# SPDX-License-Identifier: Apache-2.0
"""The outer loop, driven with callbacks that only take notes."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.foundation.commands import Interrupted, UsageError
from trainer.data.training_rows import RowBlock
from trainer.loop.outer_loop import LoopCallbacks, inner_loops, run
from trainer.run.loop_config import LoopConfig
from trainer.run.position import Fault, Position, RollBack
from trainer.step.guard import NO_TARGETS, NOT_FINITE, OVERFLOW, SPIKE, GuardConfig
from trainer.step.step_metrics import StepMetrics

BATCH = 4


def step_loss(step):
    """A loss that float32 cannot hold exactly, different for each step."""
    return np.float32(1.1 + 1.0 / (step + 3))


class Notes:
    """Callbacks that write down what the loop asks of them."""

    def __init__(self, evaluated=(), stop_after_loops=None, codes=None):
        self.codes = codes or {}
        self.events, self.lines, self.saved = [], {}, []
        self.evaluated, self.loops, self.stop_after = evaluated, 0, stop_after_loops

    def callbacks(self):
        return LoopCallbacks(
            train=self.train,
            write_line=self.write_line,
            save=self.save,
            evaluate=self.evaluate,
            stop_requested=self.stop_requested,
        )

    def train(self, block):
        self.loops += 1
        steps = np.arange(block.first_row, block.end_row, BATCH) // BATCH
        return StepMetrics(
            loss_sum=np.array([step_loss(step) for step in steps]),
            weight_sum=np.full(len(steps), 2.0, np.float32),
            gradient_norm=steps.astype(np.float32),
            learning_rate=steps.astype(np.float32),
            skipped=np.array([self.codes.get(int(s) + 1, 0) for s in steps]),
            loss_scale=np.ones(len(steps), np.float32),
        )

    def write_line(self, interval):
        self.events.append(("line", interval.step))
        self.lines[interval.step] = (interval.loss_sum, interval.weight_sum)

    def save(self, position):
        self.events.append(("save", position.step))
        self.saved.append(position)

    def evaluate(self, step):
        if step not in self.evaluated:
            self.events.append(("evaluate", step))

    def stop_requested(self):
        return "SIGTERM" if self.loops == self.stop_after else None


def blocks(config, position):
    row = position.rows_consumed
    for steps in inner_loops(config, position.step, forever):
        rows = np.zeros((steps, BATCH, 1), np.int32)
        ends = row + BATCH * np.arange(1, steps + 1)
        yield RowBlock({"tokens": rows}, row, ends, steps * BATCH, 0.0)
        row += steps * BATCH


def forever(step):
    """Batches never change their size."""


def go(config, position, notes, guard=GuardConfig()):  # noqa: B008
    return run(config, guard, position, blocks(config, position), notes.callbacks())


def test_lines_checkpoints_and_evaluations_come_when_due_and_in_that_order():
    config = LoopConfig(
        total_steps=10, log_every=4, save_every=6, evaluate_every=8, steps_per_loop=3
    )
    notes = Notes()
    end = go(config, Position(), notes)
    assert end == Position(step=10, rows_consumed=40)
    assert notes.events == [
        ("line", 4),
        ("save", 6),
        ("line", 8),
        ("save", 8),
        ("evaluate", 8),
        ("line", 10),
        ("save", 10),
        ("evaluate", 10),
    ]


@given(
    total=st.integers(1, 40),
    log=st.integers(1, 9),
    save=st.integers(1, 9),
    evaluate=st.integers(0, 9),
    per_loop=st.integers(1, 7),
)
@settings(max_examples=100, deadline=None)
def test_inner_loops_cover_every_step_and_end_wherever_something_is_due(
    total, log, save, evaluate, per_loop
):
    config = LoopConfig(
        total_steps=total,
        log_every=log,
        save_every=save,
        evaluate_every=evaluate,
        steps_per_loop=per_loop,
    )
    sizes = list(inner_loops(config, 0, forever))
    ends = set(np.cumsum(sizes).tolist())
    assert sum(sizes) == total and max(sizes) <= per_loop
    for step in range(1, total + 1):
        due = config.line_due(step) or config.save_due(step)
        assert step in ends or not due


@given(
    stops=st.lists(st.integers(1, 29), max_size=4, unique=True),
    per_loop=st.integers(1, 8),
    log=st.integers(1, 12),
)
@settings(max_examples=60, deadline=None)
def test_a_run_in_parts_writes_the_lines_of_a_run_in_one_bit_for_bit(
    stops, per_loop, log
):
    config = LoopConfig(total_steps=30, log_every=log, save_every=7, steps_per_loop=5)
    whole = Notes()
    go(config, Position(), whole)
    lines, position = {}, Position()
    for stop in [*sorted(stops), None]:
        part = dataclasses.replace(
            config, stop_after_step=stop, steps_per_loop=per_loop
        )
        notes = Notes()
        go(part, position, notes)
        position = notes.saved[-1]
        lines.update(notes.lines)
    assert lines == whole.lines


def test_a_stop_is_saved_where_it_is_noticed():
    config = LoopConfig(total_steps=100, log_every=50, save_every=50, steps_per_loop=7)
    notes = Notes(stop_after_loops=3)
    with pytest.raises(Interrupted, match="saved at step 21 and stopped on SIGTERM"):
        go(config, Position(), notes)
    assert notes.events == [("save", 21)]
    assert notes.saved[0].rows_consumed == 84


def test_a_run_that_ended_before_its_evaluation_evaluates_first():
    config = LoopConfig(total_steps=6, evaluate_every=3, save_every=3, log_every=6)
    notes = Notes()
    go(config, Position(step=3, rows_consumed=12), notes)
    assert notes.events[0] == ("evaluate", 3)
    done = Notes(evaluated={3})
    go(config, Position(step=3, rows_consumed=12), done)
    assert done.events == [("line", 6), ("save", 6), ("evaluate", 6)]


def test_a_finished_run_has_nothing_to_do():
    config = LoopConfig(total_steps=6)
    notes = Notes(evaluated={6})
    assert go(config, Position(step=6), notes) == Position(step=6)
    assert notes.events == []


def test_a_skipped_step_is_no_part_of_the_loss_but_moves_the_run_on():
    config = LoopConfig(total_steps=4, log_every=4, steps_per_loop=4)
    notes = Notes(codes={2: NOT_FINITE})
    end = go(config, Position(), notes)
    assert end.rows_consumed == 16
    assert end.faults == (Fault(2, 4, 8),)
    wanted = sum(float(step_loss(step)) for step in (0, 2, 3))
    assert notes.lines[4] == (pytest.approx(wanted), 6.0)


def test_one_skip_beyond_the_budget_rolls_back_and_saves_nothing_more():
    config = LoopConfig(total_steps=40, save_every=5, steps_per_loop=5)
    notes = Notes(codes={3: SPIKE, 11: NOT_FINITE, 12: SPIKE, 14: NOT_FINITE})
    with pytest.raises(RollBack) as trouble:
        go(config, Position(), notes, GuardConfig(skip_budget=2))
    assert [fault.step for fault in trouble.value.faults] == [3, 11, 12]
    assert [position.step for position in notes.saved] == [5, 10]


def test_overflows_and_empty_batches_are_in_nobodys_budget():
    codes = dict.fromkeys(range(1, 9), OVERFLOW) | dict.fromkeys((10, 11), NO_TARGETS)
    notes = Notes(codes=codes)
    config = LoopConfig(total_steps=12, log_every=12)
    assert go(config, Position(), notes, GuardConfig(skip_budget=0)).step == 12


def test_a_skip_leaves_the_budget_with_the_window():
    codes = {1: SPIKE, 8: SPIKE, 16: SPIKE}
    config = LoopConfig(total_steps=20)
    guard = GuardConfig(window=8, skip_budget=1)
    with pytest.raises(RollBack):
        go(config, Position(), Notes(codes=codes), guard)
    codes = {1: SPIKE, 9: SPIKE, 17: SPIKE}
    assert go(config, Position(), Notes(codes=codes), guard).step == 20


@given(
    codes=st.dictionaries(st.integers(1, 30), st.sampled_from([NOT_FINITE, SPIKE])),
    stops=st.lists(st.integers(1, 29), max_size=3, unique=True),
    per_loop=st.integers(1, 8),
)
@settings(max_examples=60, deadline=None)
def test_a_resumed_run_rolls_back_where_an_undisturbed_one_does(codes, stops, per_loop):
    config = LoopConfig(total_steps=30, save_every=7)
    guard = GuardConfig(window=9, skip_budget=2)

    def outcome(parts):
        position = Position()
        for part in parts:
            notes = Notes(codes=codes)
            try:
                go(part, position, notes, guard)
            except RollBack as trouble:
                return trouble.faults
            position = notes.saved[-1]
        return position.faults

    cut = [
        dataclasses.replace(config, stop_after_step=stop, steps_per_loop=per_loop)
        for stop in [*sorted(stops), None]
    ]
    assert outcome(cut) == outcome([config])


def test_inner_loops_end_where_batches_grow_and_at_further_borders():
    config = LoopConfig(total_steps=20, log_every=20, steps_per_loop=20)

    def until(step):
        return 6 if step < 6 else None

    assert list(inner_loops(config, 0, until, [3, 9])) == [3, 3, 3, 11]


@pytest.mark.parametrize("name", ["total_steps", "log_every", "steps_per_loop"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(UsageError, match=rf"loop\.{name} above 0, found 0"):
        LoopConfig(**{name: 0})
