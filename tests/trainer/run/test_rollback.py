# SPDX-License-Identifier: Apache-2.0
"""To which checkpoint a rollback goes, and what a run remembers of it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocessing.foundation.commands import WorkError
from trainer.run.position import Fault
from trainer.run.rollback import (
    Rollback,
    omitted_ranges,
    plan_rollback,
    read_rollbacks,
    record,
)
from trainer.step.guard import GuardConfig

FAULTS = (Fault(step=41, first_row=320, end_row=328), Fault(45, 352, 360))


@pytest.mark.parametrize(
    ("checkpoints", "target"),
    [
        ([10, 20, 40, 44], 40),  # the last one before the first fault
        ([41, 44], 41),  # none is: the earliest
        ([], 0),
    ],
)
def test_a_rollback_goes_to_the_last_checkpoint_before_the_faults(checkpoints, target):
    assert plan_rollback(FAULTS, checkpoints, [], GuardConfig()) == target


def test_too_many_rollbacks_end_the_run():
    before = [Rollback(0, ())] * 2
    config = GuardConfig(max_rollbacks=2)
    with pytest.raises(WorkError, match=r"2 skipped from step 41 to 45 after 2 rollb"):
        plan_rollback(FAULTS, [40], before, config)


def test_what_was_recorded_is_read_back_in_order(tmp_path):
    rollbacks = [Rollback(40, ((320, 328), (352, 360))), Rollback(50, ((400, 408),))]
    for each in rollbacks:
        record(str(tmp_path), each, [{"row": first} for first, _ in each.omitted])
    assert read_rollbacks(str(tmp_path)) == rollbacks
    rows = (tmp_path / "omitted.jsonl").read_text().splitlines()
    assert rows == ['{"row": 320}', '{"row": 352}', '{"row": 400}']
    assert read_rollbacks(str(tmp_path / "elsewhere")) == []


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=4),
        max_size=3,
    )
)
def test_omitted_ranges_are_sorted_apart_and_hold_the_same_positions(drawn):
    rollbacks = [Rollback(0, tuple((a, a + n) for a, n in each)) for each in drawn]
    joined = omitted_ranges(rollbacks)
    wanted = {p for each in rollbacks for a, b in each.omitted for p in range(a, b)}
    assert [p for a, b in joined for p in range(a, b)] == sorted(wanted)
    assert all(one[1] < two[0] for one, two in pairwise(joined))
