# SPDX-License-Identifier: Apache-2.0
"""The last, every n-th and the best checkpoints are kept, and no others."""

import json

from hypothesis import given
from hypothesis import strategies as st

from trainer.run.loop_config import LoopConfig
from trainer.run.retention import best_steps, kept_steps, retained

STEPS = st.sets(st.integers(1, 200), min_size=1)
BEST = st.lists(st.integers(1, 200), max_size=5)


@given(STEPS, st.integers(1, 10), st.integers(0, 30), BEST)
def test_a_step_is_kept_for_being_late_a_multiple_or_best_and_only_then(
    steps, keep_last, keep_every, best
):
    kept = retained(steps, keep_last, keep_every, best)
    assert kept <= steps
    assert max(steps) in kept
    for step in steps:
        late = sum(other > step for other in steps) < keep_last
        multiple = keep_every > 0 and step % keep_every == 0
        assert (step in kept) == (late or multiple or step in best)


@given(STEPS, st.integers(1, 10), st.integers(0, 30), BEST)
def test_keeping_twice_removes_no_more_than_once(steps, keep_last, keep_every, best):
    kept = retained(steps, keep_last, keep_every, best)
    assert retained(kept, keep_last, keep_every, best) == kept


@given(st.lists(STEPS, max_size=8), st.integers(1, 10), st.integers(0, 30))
def test_what_is_removed_would_have_been_removed_later_too(batches, last, every):
    """Saving in any portions leaves what saving all at once would."""
    there, everything = set(), set()
    for batch in sorted(batches, key=max):
        new = {step for step in batch if step > max(everything, default=0)}
        there, everything = retained(there | new, last, every, []), everything | new
    assert there == retained(everything, last, every, [])


def write_losses(run, losses):
    lines = [{"step": 1, "loss": 0.5}]
    lines += [{"step": step, "validation_loss": loss} for step, loss in losses.items()]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run / "metrics.jsonl").write_text(text + '{"step": 60, "validation_lo')


def test_the_best_are_those_of_the_lowest_finite_validation_loss(tmp_path):
    assert best_steps(str(tmp_path)) == []
    odd = {30: float("nan"), 35: None, 36: float("-inf")}
    write_losses(tmp_path, {10: 3.0, 20: 1.0, **odd, 40: 2.0, 50: 1.0})
    assert best_steps(str(tmp_path)) == [50, 20, 40, 10]


def test_as_many_of_the_best_are_kept_as_are_asked_for_among_those_there(tmp_path):
    write_losses(tmp_path, {10: 3.0, 20: 1.0, 40: 2.0})
    there = [10, 40, 60, 70]
    config = LoopConfig(keep_last=1, keep_every=60, keep_best=1)
    assert kept_steps(str(tmp_path), config, there) == {40, 60, 70}
    config = LoopConfig(keep_last=1, keep_every=0, keep_best=2)
    assert kept_steps(str(tmp_path), config, there) == {10, 40, 70}
    config = LoopConfig(keep_last=1, keep_every=0, keep_best=0)
    assert kept_steps(str(tmp_path), config, there) == {70}
